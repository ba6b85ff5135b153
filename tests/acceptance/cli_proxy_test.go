//go:build e2e

package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"opensandbox/tests/process"
)

// proxiedCLI is osb with a configuration file that has all its traffic go through the server.
type proxiedCLI struct {
	*server
	osb, host string

	mu sync.Mutex
	// paths are those of the requests that the server got, in the order of their answers.
	paths []string
}

// withProxiedCLI starts a server and writes the configuration file. Nothing but the key is given to osb otherwise.
func withProxiedCLI(t *testing.T) *proxiedCLI {
	t.Helper()
	c := &proxiedCLI{server: start(t, ""), osb: osbPath(t)}
	front := c.recordedTo(func(res *http.Response) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.paths = append(c.paths, res.Request.Method+" "+res.Request.URL.Path)
	})
	c.host = strings.TrimPrefix(front, "http://")
	c.configure(c.host)
	return c
}

// configure writes the configuration file.
func (c *proxiedCLI) configure(domain string) {
	c.t.Helper()
	file := filepath.Join(c.dir, ".opensandbox", "config.toml")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		c.t.Fatal(err)
	}
	text := fmt.Sprintf("[connection]\ndomain = %q\nuse_server_proxy = true\n", domain)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// try runs osb and returns what it printed and the requests that it made.
func (c *proxiedCLI) try(args ...string) (string, []string, error) {
	c.mu.Lock()
	c.paths = nil
	c.mu.Unlock()
	out, err := process.Command([]string{"OPEN_SANDBOX_API_KEY=" + apiKey, "HOME=" + c.dir, "NO_PROXY=*"}, c.osb, args...).CombinedOutput()
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(out), slices.Clone(c.paths), err
}

// run is try for what must succeed. Unless route is empty, the server must have got that request to the daemon of the sandbox.
func (c *proxiedCLI) run(id, route string, args ...string) string {
	c.t.Helper()
	out, paths, err := c.try(args...)
	if err != nil {
		c.t.Fatalf("osb %v: %v\n%s", args, err, out)
	}
	if route == "" {
		return out
	}
	method, path, _ := strings.Cut(route, " ")
	if want := fmt.Sprintf("%s /v1/sandboxes/%s/proxy/44772%s", method, id, path); !slices.Contains(paths, want) {
		c.t.Errorf("osb %v asked the server for %q, want %q among them", args, paths, want)
	}
	return out
}

// decoded runs osb for its JSON: the option stands before anything that could be the payload of a command.
func (c *proxiedCLI) decoded(id, route string, args ...string) m {
	c.t.Helper()
	out := c.run(id, route, slices.Insert(args, 2, "-o", "json")...)
	var v m
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		c.t.Fatalf("osb %v: %v\n%s", args, err, out)
	}
	return v
}

// sandbox creates a sandbox with osb, which waits for its daemon, that too through the server.
func (c *proxiedCLI) sandbox() string {
	c.t.Helper()
	created := c.decoded("", "", "sandbox", "create", "-i", image, "-t", "5m", "-m", "flow=proxied", "--resource", "cpu=500m", "--resource", "memory=128Mi")
	id, _ := created["id"].(string)
	if id == "" {
		c.t.Fatalf("create: %v", created)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if want := "GET /v1/sandboxes/" + id + "/proxy/44772/ping"; !slices.Contains(c.paths, want) {
		c.t.Errorf("create asked the server for %q, want %q among them", c.paths, want)
	}
	return id
}

// step is a command of osb, the request to the daemon that it makes, and what it prints.
type step struct {
	route string
	args  []string
	want  string
}

func (c *proxiedCLI) steps(id string, all []step) {
	c.t.Helper()
	for _, x := range all {
		if out := c.run(id, x.route, x.args...); !strings.Contains(out, x.want) {
			c.t.Errorf("osb %v printed:\n%s\nwant %q in it", x.args, out, x.want)
		}
	}
}

func TestPublishedCLISandboxGroupThroughTheServer(t *testing.T) {
	t.Parallel()
	c := withProxiedCLI(t)
	id := c.sandbox()
	c.steps(id, []step{
		{"", []string{"sandbox", "list", "-m", "flow=proxied", "-s", "Running", "-s", "Paused", "-o", "json"}, id},
		{"", []string{"sandbox", "get", id, "-o", "json"}, "Running"},
		{"GET /ping", []string{"sandbox", "health", id}, ""},
		{"GET /metrics", []string{"sandbox", "metrics", id, "-o", "json"}, "cpu_count"},
		{"", []string{"sandbox", "endpoint", id, "-p", "8080", "-o", "json"}, "/v1/sandboxes/" + id + "/proxy/8080"},
		{"", []string{"sandbox", "pause", id}, ""},
		{"", []string{"sandbox", "get", id, "-o", "json"}, "Paused"},
		{"GET /ping", []string{"sandbox", "resume", id}, ""},
		{"", []string{"sandbox", "get", id, "-o", "json"}, "Running"},
		{"", []string{"sandbox", "renew", id, "-t", "30m"}, ""},
		{"", []string{"sandbox", "kill", id}, ""},
	})
	if out, _, err := c.try("sandbox", "get", id); err == nil || !strings.Contains(out, "not found") {
		t.Errorf("osb get of a killed sandbox: %v\n%s", err, out)
	}
}
