//go:build e2e

// Package acceptance runs the real server on a real Docker engine and drives it as its users do: with plain HTTP and with the published,
// unmodified clients.
package acceptance

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/secrettest"
	"opensandbox/tests/process"
)

// image is built by scripts/images.sh.
const image = "opensandbox/busybox:dev"

// apiKey is of this run only, so that it can be searched for in all that the run writes.
var apiKey = secrettest.New("the API key")

// patience bounds every wait for something that the server or the engine does by itself.
const patience = 60 * time.Second

// server is a platform with a directory of its own: the single binary, or the split services.
type server struct {
	t     *testing.T
	dir   string
	base  string // http://host:port
	extra string
	// programs are its processes, in the order in which they start.
	programs []*program
	// split is set for the split services.
	split *splitSystem
}

// start runs a platform until the end of the test, which then fails if anything is left on an engine. extra is more configuration. It is
// the single binary, unless OPENSANDBOX_TEST_SPLIT asks for the split services.
func start(t *testing.T, extra string) *server {
	t.Helper()
	if os.Getenv("OPENSANDBOX_TEST_SPLIT") != "" {
		return startSplit(t, extra)
	}
	return startSingle(t, extra)
}

// startSingle runs the single binary.
func startSingle(t *testing.T, extra string) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), base: fmt.Sprintf("http://127.0.0.1:%d", process.FreePort(t)), extra: extra}
	s.programs = []*program{{name: "server", binary: binary(t)}}
	s.run()
	s.cleanUp()
	return s
}

// cleanUp removes everything at the end of the test.
func (s *server) cleanUp() {
	s.t.Cleanup(func() {
		seen := s.inspections()
		s.sweep()
		s.removals()
		s.stop()
		s.nothingLeft()
		s.showsNoSecret(seen)
		if s.t.Failed() {
			for _, p := range s.programs {
				text, _ := os.ReadFile(p.log(s.dir))
				s.t.Logf("log of %s (end):\n%s", p.name, tail(string(text), 6000))
			}
		}
	})
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func binary(t *testing.T) string {
	t.Helper()
	path := os.Getenv("OPENSANDBOX_TEST_SERVER_BIN")
	if path == "" {
		t.Fatal("OPENSANDBOX_TEST_SERVER_BIN must name the server to test")
	}
	return path
}

func (s *server) config() string {
	_, port, _ := strings.Cut(strings.TrimPrefix(s.base, "http://"), ":")
	low, high := process.SandboxPorts()
	return fmt.Sprintf(`
[server]
host = "127.0.0.1"
port = %s
api_key = %q
admin_listen = ""
[runtime]
type = "docker"
execd_image = "unused"
[docker]
network_mode = "bridge"
publish_host = "127.0.0.1"
port_range_min = %d
port_range_max = %d
[store]
path = %q
[agent]
state_dir = %q
node = "test"
%s`, port, apiKey, low, high, filepath.Join(s.dir, "data", "store.db"), filepath.Join(s.dir, "state"), s.extra)
}

// configFile writes the configuration at the first call, and returns its path.
func (s *server) configFile() string {
	s.t.Helper()
	path := filepath.Join(s.dir, "server.toml")
	if _, err := os.Stat(path); err != nil {
		text := s.config()
		if s.split != nil {
			text = s.split.TOML() + s.extra
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return path
}

// run starts all processes and waits until the API answers.
func (s *server) run() {
	s.t.Helper()
	config := s.configFile()
	for _, p := range s.programs {
		p.run(s.t, s.dir, config)
	}
	s.answers()
}

// answers waits until the API answers.
func (s *server) answers() {
	s.t.Helper()
	s.eventually("the API answers", func() bool {
		for _, p := range s.programs {
			p.mustRun(s.t, s.dir)
		}
		res, err := http.Get(s.base + "/health")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	answers.watch(s.t, s.base)
	if s.split != nil {
		for _, base := range s.split.apis {
			answers.watch(s.t, base)
		}
	}
}

// stop ends all processes in order, the first one last.
func (s *server) stop() {
	for _, p := range slices.Backward(s.programs) {
		p.stop(s.t)
	}
}

// kill is kill -9 of all processes.
func (s *server) kill() {
	for _, p := range s.programs {
		p.kill()
	}
}

// eventually waits for a condition; there is no other way to wait in these tests.
func (s *server) eventually(what string, done func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if done() {
			return
		}
	}
	s.t.Fatalf("never: %s", what)
}

// docker runs Docker's own client.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (s *server) installation() string {
	if s.split != nil {
		return s.split.Installation
	}
	b, err := os.ReadFile(filepath.Join(s.dir, "data", "installation.id"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// text returns the log of all processes.
func (s *server) text() string {
	var all strings.Builder
	for _, p := range s.programs {
		b, err := os.ReadFile(p.log(s.dir))
		if err != nil {
			s.t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}
