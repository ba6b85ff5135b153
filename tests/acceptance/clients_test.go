//go:build e2e

package acceptance

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func needEnv(t *testing.T, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s must be set: see scripts/clients.sh", name)
	}
	return v
}

// program runs a client against the server and returns what it printed.
func (s *server) program(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "OPEN_SANDBOX_DOMAIN="+strings.TrimPrefix(s.recorded(), "http://"), "OPEN_SANDBOX_API_KEY="+apiKey, "HOME="+s.dir, "NO_PROXY=*")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// osbPath is the published command line.
func osbPath(t *testing.T) string {
	t.Helper()
	return filepath.Join(needEnv(t, "OPENSANDBOX_TEST_VENV"), "bin", "osb")
}

// osb runs the published command line, which must succeed, and returns what it printed.
func (s *server) osb(args ...string) string {
	s.t.Helper()
	out, err := s.program(osbPath(s.t), args...)
	if err != nil {
		s.t.Fatalf("osb %v: %v\n%s", args, err, out)
	}
	return out
}

// osbCreate creates a small sandbox by osb and returns its id.
func (s *server) osbCreate(more ...string) string {
	s.t.Helper()
	args := append([]string{"sandbox", "create", "-i", image, "-t", "5m", "--resource", "cpu=500m", "--resource", "memory=128Mi", "-o", "json"}, more...)
	var created struct {
		ID string `json:"id"`
	}
	if answer := s.osb(args...); json.Unmarshal([]byte(answer), &created) != nil || created.ID == "" {
		s.t.Fatalf("create: %s", answer)
	}
	return created.ID
}

func TestPublishedPythonSDK(t *testing.T) {
	t.Parallel()
	python := filepath.Join(needEnv(t, "OPENSANDBOX_TEST_VENV"), "bin", "python")
	for _, kind := range []string{"async", "sync"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := start(t, "")
			out, err := s.program(python, "clients/sdk.py", kind, image)
			if err != nil || !strings.Contains(out, kind+" lifecycle ok") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func TestPublishedJavaScriptSDK(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	module := filepath.Join(needEnv(t, "OPENSANDBOX_TEST_NODE_MODULES"), "@alibaba-group", "opensandbox", "dist", "index.js")
	out, err := s.program("node", "clients/sdk.mjs", module, image)
	if err != nil || !strings.Contains(out, "js lifecycle ok") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPublishedCLI(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.osbCreate("-m", "flow=cli")
	local := filepath.Join(s.dir, "local.txt")
	if err := os.WriteFile(local, []byte("from the host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"sandbox", "list", "-m", "flow=cli", "-o", "json"}, id},
		{[]string{"sandbox", "get", id, "-o", "json"}, "Running"},
		{[]string{"sandbox", "health", id}, ""},
		{[]string{"sandbox", "metrics", id, "-o", "json"}, "cpu_count"},
		{[]string{"sandbox", "endpoint", id, "-p", "8080", "-o", "json"}, s.hostOf(id) + ":"},
		{[]string{"command", "run", id, "--", "echo", "hello from osb"}, "hello from osb\n"},
		{[]string{"command", "run", id, "--argv", "--", "printf", "%s", "$HOME"}, "$HOME"},
		{[]string{"file", "write", id, "/tmp/cli/a.txt", "-c", "content"}, ""},
		{[]string{"file", "cat", id, "/tmp/cli/a.txt"}, "content"},
		{[]string{"file", "upload", id, local, "/tmp/cli/up.txt"}, ""},
		{[]string{"file", "cat", id, "/tmp/cli/up.txt"}, "from the host"},
		{[]string{"file", "download", id, "/tmp/cli/up.txt", filepath.Join(s.dir, "down.txt")}, ""},
		{[]string{"file", "info", id, "/tmp/cli/up.txt", "-o", "json"}, "/tmp/cli/up.txt"},
		{[]string{"file", "search", id, "/tmp/cli", "-p", "*.txt", "-o", "json"}, "/tmp/cli/a.txt"},
		{[]string{"file", "replace", id, "/tmp/cli/a.txt", "--old", "content", "--new", "other"}, ""},
		{[]string{"file", "mv", id, "/tmp/cli/a.txt", "/tmp/cli/b.txt"}, ""},
		{[]string{"file", "cat", id, "/tmp/cli/b.txt"}, "other"},
		{[]string{"file", "chmod", id, "/tmp/cli/b.txt", "--mode", "600"}, ""},
		{[]string{"file", "mkdir", id, "/tmp/cli/d"}, ""},
		{[]string{"file", "rmdir", id, "/tmp/cli/d"}, ""},
		{[]string{"file", "rm", id, "/tmp/cli/b.txt"}, ""},
		{[]string{"sandbox", "pause", id}, ""},
		{[]string{"sandbox", "get", id, "-o", "json"}, "Paused"},
		{[]string{"sandbox", "resume", id}, ""},
		{[]string{"sandbox", "renew", id, "-t", "30m"}, ""},
		{[]string{"sandbox", "kill", id}, ""},
	} {
		if out := s.osb(c.args...); !strings.Contains(out, c.want) {
			t.Errorf("osb %v printed:\n%s\nwant %q in it", c.args, out, c.want)
		}
	}
	down, err := os.ReadFile(filepath.Join(s.dir, "down.txt"))
	if err != nil || string(down) != "from the host\n" {
		t.Errorf("downloaded %q, %v", down, err)
	}
	if out, err := s.program(osbPath(t), "sandbox", "get", id); err == nil || !strings.Contains(out, "not found") {
		t.Errorf("osb get of a killed sandbox: %v\n%s", err, out)
	}
}
