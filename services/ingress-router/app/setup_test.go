package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"opensandbox/libs/lifecycle"
	"opensandbox/libs/sandboxproxy/resolve/resolvetest"
	"opensandbox/services/ingress-router/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// syncBuffer is a log that may be written and read at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// running is a router that serves.
type running struct {
	*app.Router
	url      string
	client   *http.Client
	registry *prometheus.Registry
	log      *syncBuffer
	// end stops the router and waits for its end.
	end func()
}

// start runs a router on a store until the end of the test. change may be nil.
func start(t *testing.T, s *resolvetest.Store, change func(*app.Config, *app.Deps)) *running {
	t.Helper()
	r := &running{registry: prometheus.NewRegistry(), log: &syncBuffer{}}
	cfg := app.Config{Address: "127.0.0.1:0", KeepAlive: time.Minute, Grace: 10 * time.Second}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	deps := app.Deps{Queries: s, Hints: s, Nodes: s, Registry: r.registry, Log: log}
	if change != nil {
		change(&cfg, &deps)
	}
	var err error
	if r.Router, err = app.New(t.Context(), cfg, deps); err != nil {
		t.Fatal(err)
	}
	var g lifecycle.Group
	for _, p := range r.Parts() {
		g.Add(p.Name, p.Run)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	r.url = "http://" + r.Addr().String()
	r.client = &http.Client{
		Transport:     &http.Transport{DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	r.end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the router ended with %v", err)
		}
	})
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		r.end()
	})
	return r
}

// application listens on a port of host as if a sandbox had published it, and returns the port.
func application(t *testing.T, host string, h http.HandlerFunc) int {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close() // the one on the default host
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return l.Addr().(*net.TCPAddr).Port
}

// published are the ports of a sandbox whose daemon and whose port 8080 are both answered by one listener.
func published(port int) map[int]int { return map[int]int{44772: port, 8080: port} }

// says answers with its text.
func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

// do sends a request with pairs of header names and values.
func (r *running) do(t *testing.T, method, path string, body io.Reader, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// get returns status and body.
func (r *running) get(t *testing.T, path string) (int, string) {
	t.Helper()
	res := r.do(t, "GET", path, nil)
	return res.StatusCode, read(t, res.Body)
}

// raw sends bytes and returns all that comes back.
func (r *running) raw(t *testing.T, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(c) // a connection that is cut may give an error after what came
	return string(b)
}

func read(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantError checks the envelope, and that the answer names its request.
func wantError(t *testing.T, what string, res *http.Response, status int, code, text string) {
	t.Helper()
	body := read(t, res.Body)
	var e struct{ Code, Message string }
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("%s: %d %q is not the envelope", what, res.StatusCode, body)
	}
	if res.StatusCode != status || e.Code != code || !strings.Contains(e.Message, text) {
		t.Errorf("%s: %d %q %q, want %d %q %q", what, res.StatusCode, e.Code, e.Message, status, code, text)
	}
	if len(res.Header.Values("X-Request-ID")) != 1 {
		t.Errorf("%s: X-Request-ID is %q", what, res.Header.Values("X-Request-ID"))
	}
	if again := res.Header.Get("Retry-After"); (again != "") != (status == http.StatusServiceUnavailable) {
		t.Errorf("%s: %d with Retry-After %q", what, status, again)
	}
}

// metric returns the value of a counter or gauge, or the count of a histogram, with these label values in the order of their names.
func (r *running) metric(t *testing.T, name string, values ...string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && hasLabels(m, values) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}

func hasLabels(m *dto.Metric, values []string) bool {
	if len(m.GetLabel()) != len(values) {
		return false
	}
	for i, l := range m.GetLabel() {
		if l.GetValue() != values[i] {
			return false
		}
	}
	return true
}

// until polls for at most ten seconds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not come to pass that %s", what)
		}
	}
}
