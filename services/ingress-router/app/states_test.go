package app_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandboxproxy/resolve/resolvetest"
	"opensandbox/services/ingress-router/app"
)

const (
	notFound = "DOCKER::SANDBOX_NOT_FOUND"
	notReady = "INGRESS::SANDBOX_NOT_READY"
)

func TestSeveralNodes(t *testing.T) {
	t.Parallel()
	s := resolvetest.New(t, "127.0.0.1")
	s.Join(t, "n2", "127.0.0.2")
	s.Join(t, "n3", "")
	s.RunOn(t, "one", "n1", published(application(t, "127.0.0.1", says("first"))))
	s.RunOn(t, "two", "n2", published(application(t, "127.0.0.2", says("second"))))
	s.RunOn(t, "three", "n3", published(application(t, "127.0.0.1", says("third"))))
	r := start(t, s, nil)
	for id, want := range map[string]string{"one": "first", "two": "second", "three": "third"} {
		if status, body := r.get(t, "/"+id+"/8080/"); status != http.StatusOK || body != want {
			t.Errorf("%s: %d %q, want %q", id, status, body, want)
		}
	}
}

// A port that the node does not publish is reached through the daemon.
func TestThroughTheDaemon(t *testing.T) {
	t.Parallel()
	s := resolvetest.New(t, "127.0.0.1")
	daemon := application(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) })
	s.Run(t, "sb", map[int]int{44772: daemon})
	r := start(t, s, nil)
	for path, want := range map[string]string{"/sb/44772/ping?a=b": "/ping?a=b", "/sb/3000/x%2Fy": "/proxy/3000/x%2Fy"} {
		if _, body := r.get(t, path); body != want {
			t.Errorf("%s reached %q, want %q", path, body, want)
		}
	}
}

// A sandbox that is placed anew is found by the first request after the move, by the hint, and without any hint within the age of the cache.
func TestASandboxMoves(t *testing.T) {
	t.Parallel()
	for name, deaf := range map[string]bool{"hinted": false, "no hints": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := resolvetest.New(t, "127.0.0.1")
			s.Join(t, "n2", "127.0.0.2")
			s.Run(t, "sb", published(application(t, "127.0.0.1", says("old"))))
			r := start(t, s, func(c *app.Config, d *app.Deps) {
				if deaf {
					c.CacheAge, d.Hints = 50*time.Millisecond, silence{}
				}
			})
			if _, body := r.get(t, "/sb/8080/"); body != "old" {
				t.Fatalf("before the move: %q", body)
			}
			s.Move(t, "sb", "n2", published(application(t, "127.0.0.2", says("new"))))
			if deaf {
				until(t, "the new place is found", func() bool { _, body := r.get(t, "/sb/8080/"); return body == "new" })
			} else if _, body := r.get(t, "/sb/8080/"); body != "new" {
				t.Errorf("after the move: %q", body)
			}
		})
	}
}

// silence gives no hints.
type silence struct{}

func (silence) Subscribe(sandbox.Topic) (<-chan struct{}, func()) { return nil, func() {} }

func TestStates(t *testing.T) {
	t.Parallel()
	s := resolvetest.New(t, "127.0.0.1")
	port := application(t, "127.0.0.1", says("hello"))
	s.InsertPending(t, "pending")
	for _, id := range []sandbox.ID{"paused", "failed", "deleted", "stopped"} {
		s.Run(t, id, published(port))
	}
	if _, err := s.SetDesired(t.Context(), "paused", sandbox.DesiredPaused, 1); err != nil {
		t.Fatal(err)
	}
	s.See(t, "paused", sandbox.StatePaused, nil)
	s.See(t, "failed", sandbox.StateFailed, nil)
	if _, err := s.SetGone(t.Context(), "deleted", sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	r := start(t, s, nil)
	for path, want := range map[string]struct {
		status     int
		code, text string
	}{
		"/unknown/8080/": {404, notFound, "sandbox not found: unknown"},
		"/deleted/8080/": {404, notFound, "sandbox not found: deleted"},
		"/pending/8080/": {503, notReady, "it is pending"},
		"/paused/8080/":  {503, notReady, "it is paused"},
		"/failed/8080/":  {503, notReady, "it is failed"},
		"/":              {400, "INGRESS::INVALID_ROUTE", "the sandbox id is missing"},
		"/paused":        {400, "INGRESS::INVALID_ROUTE", "the port is missing"},
		"/paused/0/":     {400, "INGRESS::INVALID_ROUTE", "the port is not a number"},
	} {
		wantError(t, path, r.do(t, "GET", path, nil), want.status, want.code, want.text)
	}
	if status, _ := r.get(t, "/stopped/8080/"); status != http.StatusOK {
		t.Fatalf("while its node lives: %d", status)
	}
	if err := s.Remove(t.Context(), resolvetest.NodeName); err != nil {
		t.Fatal(err)
	}
	until(t, "the end of the node is noticed", func() bool { status, _ := r.get(t, "/stopped/8080/"); return status != http.StatusOK })
	wantError(t, "node away", r.do(t, "GET", "/stopped/8080/", nil), 503, notReady, "its node does not answer")
	s.Join(t, resolvetest.NodeName, "127.0.0.1")
	until(t, "the node is back", func() bool { status, _ := r.get(t, "/stopped/8080/"); return status == http.StatusOK })
}

func TestNothingListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	s := resolvetest.New(t, "127.0.0.1")
	s.Run(t, "sb", published(port))
	r := start(t, s, nil)
	wantError(t, "dead", r.do(t, "GET", "/sb/8080/", nil), 502, "BACKEND_CONNECTION_FAILED", "nothing answers on port 8080")
	if got := r.metric(t, "opensandbox_router_requests_total", "http", "connection_failed"); got != 1 {
		t.Errorf("%v requests were counted as connection_failed", got)
	}
}

// Traffic to known sandboxes goes on while the store is away, for as long as that is configured.
func TestStoreAway(t *testing.T) {
	t.Parallel()
	s := resolvetest.New(t, "127.0.0.1")
	port := application(t, "127.0.0.1", says("hello"))
	s.Run(t, "known", published(port))
	s.Run(t, "unknown", published(port))
	const away = 2 * time.Second
	r := start(t, s, func(c *app.Config, _ *app.Deps) { c.CacheAge, c.StoreAway = 20*time.Millisecond, away })
	began := time.Now()
	if status, _ := r.get(t, "/known/8080/"); status != http.StatusOK || r.Ready() != nil {
		t.Fatalf("before: %d, ready: %v", status, r.Ready())
	}
	s.Away.Store(true)
	wantError(t, "unknown", r.do(t, "GET", "/unknown/8080/", nil), 503, notReady, "the store does not answer")
	until(t, "half of the time is over", func() bool {
		status, body := r.get(t, "/known/8080/")
		ready, took := r.Ready(), time.Since(began)
		if took < away && (status != http.StatusOK || ready != nil) {
			t.Fatalf("known: %d %s, ready: %v", status, body, ready)
		}
		return took > away/2
	})
	until(t, "the known address is too old", func() bool { status, _ := r.get(t, "/known/8080/"); return status == 503 })
	until(t, "the router is not ready", func() bool { return r.Ready() != nil })
	s.Away.Store(false)
	until(t, "the store is back", func() bool { return r.Ready() == nil })
	for _, id := range []string{"known", "unknown"} {
		if status, _ := r.get(t, "/"+id+"/8080/"); status != http.StatusOK {
			t.Errorf("%s, with the store back: %d", id, status)
		}
	}
	until(t, "the return is logged", func() bool { return strings.Contains(r.log.String(), "the store answers again") })
	for _, source := range []string{"store", "stale", "none"} {
		if r.metric(t, "opensandbox_router_resolutions_total", source) == 0 {
			t.Errorf("nothing was resolved from %s", source)
		}
	}
}

// A router that nobody asks notices by itself that the store is away.
func TestIdleRouterIsNotReadyWithoutTheStore(t *testing.T) {
	t.Parallel()
	s := resolvetest.New(t, "127.0.0.1")
	r := start(t, s, nil)
	if err := r.Ready(); err != nil {
		t.Fatal(err)
	}
	s.Away.Store(true)
	until(t, "the router is not ready", func() bool { return r.Ready() != nil })
	if status, body := r.get(t, "/health"); status != http.StatusOK {
		t.Errorf("health: %d %s: to end the router would not bring the store back", status, body)
	}
}

func TestAddressTaken(t *testing.T) {
	t.Parallel()
	s := resolvetest.New(t, "127.0.0.1")
	r := start(t, s, nil)
	deps := app.Deps{Queries: s, Hints: s, Nodes: s, Log: slog.New(slog.DiscardHandler)}
	_, err := app.New(t.Context(), app.Config{Address: r.Addr().String()}, deps)
	if err == nil || !strings.Contains(err.Error(), r.Addr().String()) {
		t.Errorf("a taken address: %v", err)
	}
	other, err := app.New(t.Context(), app.Config{Address: "127.0.0.1:0"}, deps)
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	if c, err := net.Dial("tcp", other.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("a closed router listens")
	}
}
