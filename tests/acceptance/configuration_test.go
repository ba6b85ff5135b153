//go:build e2e

package acceptance

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"opensandbox/libs/secrettest"
	"opensandbox/tests/process"
)

// home is the home directory of a user who runs the server, and what it says.
type home struct {
	dir  string
	port int
	env  []string
}

func newHome(t *testing.T) *home {
	t.Helper()
	h := &home{dir: t.TempDir(), port: process.FreePort(t)}
	h.env = []string{"HOME=" + h.dir, "PATH=" + os.Getenv("PATH"), "DOCKER_HOST=" + os.Getenv("DOCKER_HOST"),
		fmt.Sprintf("OPENSANDBOX_SERVER_PORT=%d", h.port), "OPENSANDBOX_SERVER_ADMIN_LISTEN=", "OPENSANDBOX_ROUTER_LISTEN=127.0.0.1:0",
		fmt.Sprintf("OPENSANDBOX_AGENT_NODE=home-%d", h.port)}
	t.Cleanup(func() { h.cleanUp(t) })
	return h
}

// cleanUp removes what a server has brought to the engine. It has ended.
func (h *home) cleanUp(t *testing.T) {
	id, err := os.ReadFile(filepath.Join(h.dir, ".opensandbox", "installation.id"))
	if err != nil {
		return // no server has come that far
	}
	label := "label=dev.opensandbox.execd-of=" + strings.TrimSpace(string(id))
	for _, v := range strings.Fields(docker(t, "volume", "ls", "-q", "--filter", label)) {
		docker(t, "volume", "rm", v)
	}
	for _, i := range strings.Fields(docker(t, "images", "-q", "--filter", label)) {
		docker(t, "rmi", "-f", i)
	}
}

// command is a call of the server in that home.
func (h *home) command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := process.Command(nil, binary(t), args...)
	cmd.Env = append(append([]string{}, h.env...), env...)
	return cmd
}

// serve starts the server and waits until it is healthy. end stops it with SIGTERM and returns how it ended.
func (h *home) serve(t *testing.T, env []string, args ...string) (cmd *exec.Cmd, log *strings.Builder, end func() error) {
	t.Helper()
	log = &strings.Builder{}
	cmd = h.command(t, env, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended unless the test has failed
	for deadline := time.Now().Add(patience); h.status("/health", "") != http.StatusOK; waitABit() {
		select {
		case err := <-ended:
			t.Fatalf("the server ended: %v\n%s", err, log)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the server is not healthy")
		}
	}
	return cmd, log, func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("it does not end")
		}
	}
}

// status is that of a GET; 0 if nobody answers.
func (h *home) status(path, key string) int {
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d%s", h.port, path), nil)
	if err != nil {
		return 0
	}
	if key != "" {
		req.Header.Set("OPEN-SANDBOX-API-KEY", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestFilesOfTheOtherServer starts with the values of the Docker examples of OpenSandbox 1.1.1, from ~/.sandbox.toml; those of the examples
// for Kubernetes are valid. It does the same with the files that init-config writes.
func TestFilesOfTheOtherServer(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"docker", "docker-zh", "k8s", "k8s-zh"} {
		for _, origin := range []string{"theirs", "ours"} {
			t.Run(kind+"/"+origin, func(t *testing.T) {
				t.Parallel()
				h := newHome(t)
				path := filepath.Join(h.dir, ".sandbox.toml")
				if origin == "ours" {
					if out, err := h.command(t, nil, "init-config", "--example", kind).CombinedOutput(); err != nil || string(out) != "wrote "+path+"\n" {
						t.Fatalf("init-config: %v\n%s", err, out)
					}
				} else {
					b, err := os.ReadFile("testdata/configuration/" + kind + ".toml")
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, b, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if out, err := h.command(t, nil, "--check-config").CombinedOutput(); err != nil || !strings.Contains(string(out), "configuration is valid\n") {
					t.Errorf("--check-config: %v\n%s", err, out)
				}
				key := []string{"OPENSANDBOX_SERVER_API_KEY=" + apiKey}
				if strings.HasPrefix(kind, "k8s") {
					out, err := h.command(t, key).CombinedOutput()
					if err == nil || !strings.Contains(string(out), "not available yet") {
						t.Errorf("a start on Kubernetes: %v\n%s", err, out)
					}
					return
				}
				_, log, end := h.serve(t, key)
				if with, without := h.status("/v1/sandboxes", apiKey), h.status("/v1/sandboxes", ""); with != 200 || without != 401 {
					t.Errorf("list: %d with the key, %d without", with, without)
				}
				if out, err := h.command(t, key, "--health").CombinedOutput(); err != nil || string(out) != "healthy\n" {
					t.Errorf("--health: %v\n%s", err, out)
				}
				if err := end(); err != nil || strings.Contains(log.String(), apiKey) {
					t.Errorf("the server ended with %v; is the key in the log?\n%s", err, log)
				}
				if _, err := os.Stat(filepath.Join(h.dir, ".opensandbox", "opensandbox.db")); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestStartWithoutKey is refused where nobody can be asked, but for an operator who says that it is meant.
func TestStartWithoutKey(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	for _, env := range [][]string{nil, {"OPENSANDBOX_INSECURE_SERVER=yes"}, {"OPENSANDBOX_SERVER_API_KEY="}} {
		out, err := h.command(t, env).CombinedOutput()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.ExitCode() != 1 || !strings.Contains(string(out), "OPENSANDBOX_INSECURE_SERVER") {
			t.Errorf("%v: %v\n%s", env, err, out)
		}
	}
	_, log, end := h.serve(t, []string{"OPENSANDBOX_INSECURE_SERVER=YES"})
	if got := h.status("/v1/sandboxes", ""); got != 200 {
		t.Errorf("list: %d", got)
	}
	if err := end(); err != nil || !strings.Contains(log.String(), "no API key: anyone who can reach") {
		t.Errorf("%v\n%s", err, log)
	}
}

// TestLogFilesOfTheServer moves them away, as logrotate does.
func TestLogFilesOfTheServer(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	cmd, console, end := h.serve(t, []string{"OPENSANDBOX_SERVER_API_KEY=" + apiKey, "OPENSANDBOX_LOG_FILE_ENABLED=true"})
	main, access := filepath.Join(h.dir, "logs/opensandbox/server.log"), filepath.Join(h.dir, "logs/opensandbox/access.log")
	for _, path := range []string{main, access} {
		if err := os.Rename(path, path+".old"); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	logFile(t, main, "opened again")
	query := secrettest.New("a secret in a query")
	h.status("/v1/sandboxes?secret="+query, apiKey)
	line := logFile(t, access, "/v1/sandboxes")
	if !strings.Contains(line, "status=200") || strings.Contains(line, query) || strings.Contains(line, apiKey) {
		t.Errorf("access log: %s", line)
	}
	if err := end(); err != nil || console.Len() > 0 {
		t.Errorf("%v; on the console:\n%s", err, console)
	}
	if old := logFile(t, main+".old", "serving"); strings.Contains(old, apiKey) {
		t.Errorf("the key is in the log:\n%s", old)
	}
	logFile(t, access+".old", "/health")
}

func logFile(t *testing.T, path, want string) string {
	t.Helper()
	for deadline := time.Now().Add(patience); ; waitABit() {
		b, _ := os.ReadFile(path) // it may not be there yet
		if strings.Contains(string(b), want) {
			return string(b)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q is not in %s:\n%s", want, path, b)
		}
	}
}
