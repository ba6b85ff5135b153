//go:build e2e

package acceptance

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// cutter stands between a server and the engine's socket, and can take the engine away without touching it.
type cutter struct {
	t        *testing.T
	path     string
	engine   string
	listener net.Listener
	mu       sync.Mutex
	conns    []net.Conn
}

// engineSocket is where the real engine listens.
func engineSocket() string {
	if s, ok := strings.CutPrefix(os.Getenv("DOCKER_HOST"), "unix://"); ok {
		return s
	}
	return "/var/run/docker.sock"
}

func newCutter(t *testing.T) *cutter {
	t.Helper()
	dir, err := os.MkdirTemp("", "cut") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := &cutter{t: t, path: filepath.Join(dir, "s"), engine: engineSocket()}
	c.join()
	return c
}

// join lets the server reach the engine.
func (c *cutter) join() {
	c.t.Helper()
	l, err := net.Listen("unix", c.path)
	if err != nil {
		c.t.Fatal(err)
	}
	c.listener = l
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", c.engine)
			if err != nil {
				_ = near.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, near, far)
			c.mu.Unlock()
			go pipe(near, far)
			go pipe(far, near) // both end with the connections, which cut or the server closes
		}
	}()
}

func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if half, ok := to.(*net.UnixConn); ok {
		_ = half.CloseWrite()
	}
}

// cut breaks all connections and refuses new ones.
func (c *cutter) cut() {
	_ = c.listener.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

func TestEngineThatGoesAway(t *testing.T) {
	c := newCutter(t)
	t.Setenv("DOCKER_HOST", "unix://"+c.path)
	s := start(t, "")
	kept, doomed := s.create(nil), s.create(nil)
	url, header := s.endpoint(kept, 44772)
	c.cut()
	if got := s.state(kept); got != "Running" {
		t.Errorf("read while the engine is away: %s", got)
	}
	if out := output(s.stream(url, header, m{"command": "echo on"}), "stdout"); out != "on\n" {
		t.Errorf("a running sandbox while the engine is away: %q", out)
	}
	for what, a := range map[string]answer{
		"create": s.do("POST", "/v1/sandboxes", spec(nil)),
		"pause":  s.do("POST", "/v1/sandboxes/"+kept+"/pause", nil),
		"delete": s.do("DELETE", "/v1/sandboxes/"+doomed, nil),
	} {
		wantEnvelope(t, what, a, http.StatusServiceUnavailable)
		if a.header.Get("Retry-After") == "" || a.json(t)["code"] != "DOCKER::ENGINE_UNAVAILABLE" {
			t.Errorf("%s: %v %v", what, a, a.header)
		}
	}
	_ = os.Remove(c.path)
	c.join()
	s.eventually("the delete is carried out", func() bool { return s.state(doomed) == "404" && slices.Equal(s.containers(), []string{kept}) })
	if got := s.state(kept); got != "Running" {
		t.Errorf("after the engine came back: %s", got)
	}
	if a := s.do("POST", "/v1/sandboxes/"+kept+"/pause", nil); a.status != http.StatusAccepted {
		t.Errorf("pause after the engine came back: %v", a)
	}
	s.create(nil)
}
