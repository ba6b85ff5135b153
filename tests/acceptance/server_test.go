//go:build e2e

// Package acceptance runs the real server on a real Docker engine and drives it as its users do: with plain HTTP and with the published,
// unmodified clients.
package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
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
			text = s.split.config(s)
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

// answer is a response with its body read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, tail(string(a.body), 600)) }

// json decodes the body.
func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.body, &m); err != nil {
		t.Fatalf("%v: not a JSON object: %v", a, err)
	}
	return m
}

// do sends a request with the key. A body that is not text is sent as JSON.
func (s *server) do(method, path string, body any, header ...string) answer {
	s.t.Helper()
	a, err := s.try(method, path, body, header...)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

func (s *server) try(method, path string, body any, header ...string) (answer, error) {
	return request(method, s.base+path, body, append([]string{"OPEN-SANDBOX-API-KEY", apiKey}, header...)...)
}

// client follows no redirects, as the published Python client.
var client = &http.Client{Transport: answers, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: patience}

func request(method, url string, body any, header ...string) (answer, error) {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		r = bytes.NewReader(j)
	}
	req, err := http.NewRequest(method, url, r)
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i+1] == "" {
			req.Header.Del(header[i])
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, b}, err
}

type m = map[string]any

// spec is the body of an ordinary create, with changes.
func spec(change m) m {
	b := m{"image": m{"uri": image}, "entrypoint": []string{"tail", "-f", "/dev/null"}, "timeout": 600, "resourceLimits": m{"cpu": "500m", "memory": "128Mi"}}
	for k, v := range change {
		b[k] = v
	}
	return b
}

// create makes a sandbox that must be Running.
func (s *server) create(change m) string {
	s.t.Helper()
	a := s.do("POST", "/v1/sandboxes", spec(change))
	if a.status != http.StatusAccepted {
		s.t.Fatalf("create: %v", a)
	}
	return a.json(s.t)["id"].(string)
}

func (s *server) state(id string) string {
	a := s.do("GET", "/v1/sandboxes/"+id, nil)
	if a.status != http.StatusOK {
		return fmt.Sprint(a.status)
	}
	return a.json(s.t)["status"].(m)["state"].(string)
}

// endpoint returns the URL of a port and the headers to send.
func (s *server) endpoint(id string, port int) (string, []string) {
	s.t.Helper()
	a := s.do("GET", fmt.Sprintf("/v1/sandboxes/%s/endpoints/%d", id, port), nil)
	if a.status != http.StatusOK {
		s.t.Fatalf("endpoint: %v", a)
	}
	e := a.json(s.t)
	var header []string
	if h, ok := e["headers"].(m); ok {
		for k, v := range h {
			header = append(header, k, v.(string))
			secrettest.Note("the token of a daemon", v.(string))
		}
	}
	return "http://" + e["endpoint"].(string), header
}

// shell runs a command in a sandbox and returns the events of its stream.
func (s *server) shell(id, command string) []m {
	s.t.Helper()
	url, header := s.endpoint(id, 44772)
	return s.stream(url, header, m{"command": command})
}

func (s *server) stream(url string, header []string, body m) []m {
	s.t.Helper()
	a, err := request("POST", url+"/command", body, header...)
	if err != nil || a.status != http.StatusOK {
		s.t.Fatalf("command: %v %v", a, err)
	}
	var events []m
	for frame := range strings.SplitSeq(string(a.body), "\n\n") {
		if frame == "" {
			continue
		}
		var e m
		if err := json.Unmarshal([]byte(frame), &e); err != nil {
			s.t.Fatalf("frame %q: %v", frame, err)
		}
		events = append(events, e)
	}
	return events
}

// output joins the texts of one kind of event.
func output(events []m, kind string) string {
	var b strings.Builder
	for _, e := range events {
		if e["type"] == kind {
			b.WriteString(e["text"].(string))
		}
	}
	return b.String()
}

// items returns what the list shows.
func (s *server) items(query string) []m {
	s.t.Helper()
	a := s.do("GET", "/v1/sandboxes?pageSize=200&"+query, nil)
	if a.status != http.StatusOK {
		s.t.Fatalf("list: %v", a)
	}
	var out []m
	for _, i := range a.json(s.t)["items"].([]any) {
		out = append(out, i.(m))
	}
	return out
}

// sweep deletes all sandboxes.
func (s *server) sweep() {
	for _, i := range s.items("") {
		s.eventuallyDeleted(i["id"].(string))
	}
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
		return s.split.installation
	}
	b, err := os.ReadFile(filepath.Join(s.dir, "data", "installation.id"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func ids(items []m) []string {
	var out []string
	for _, i := range items {
		out = append(out, i["id"].(string))
	}
	return out
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
