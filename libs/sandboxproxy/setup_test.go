package sandboxproxy_test

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

	"go.uber.org/goleak"

	"opensandbox/libs/plainhttp"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandboxproxy"
	"opensandbox/libs/sandboxproxy/resolve"
	"opensandbox/libs/sandboxproxy/target"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// directory is a Resolver that gives one answer after the other, the last one for ever.
type directory struct {
	mu      sync.Mutex
	answers []answer
	asked   int
	forgot  []sandbox.ID
}

type answer struct {
	up  resolve.Upstream
	err error
}

func (d *directory) Resolve(context.Context, target.Target) (resolve.Upstream, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.answers[min(d.asked, len(d.answers)-1)]
	d.asked++
	return a.up, a.err
}

func (d *directory) Forget(id sandbox.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forgot = append(d.forgot, id)
}

func at(ups ...resolve.Upstream) *directory {
	d := &directory{}
	for _, u := range ups {
		d.answers = append(d.answers, answer{up: u})
	}
	return d
}

func direct(s *httptest.Server) resolve.Upstream {
	return resolve.Upstream{Address: s.Listener.Addr().String()}
}

// uses keeps what the proxy tells about requests.
type uses struct {
	mu  sync.Mutex
	got []string
}

func (u *uses) Used(id sandbox.ID, _ int, uri, header string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.got = append(u.got, string(id)+" "+uri+" "+header)
}

type router struct {
	*httptest.Server
	client *http.Client
	log    *syncBuffer
	uses   *uses
}

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

func upstream(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func start(t *testing.T, cfg sandboxproxy.Config, d sandboxproxy.Resolver) *router {
	t.Helper()
	cfg.DialTimeout = 5 * time.Second
	if cfg.Dialect.Name == "" {
		cfg.Dialect = sandboxproxy.Gateway()
	}
	r := &router{log: &syncBuffer{}, uses: &uses{}}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	p := sandboxproxy.New(cfg, sandboxproxy.Deps{Mode: target.URI{}, Resolver: d, Uses: r.uses, Log: log})
	r.Server = httptest.NewUnstartedServer(p)
	plain := plainhttp.New(r.Server.Listener, r.Server.Config) // as package httpx has it in front
	r.Server.Listener = plain
	r.Server.Start()
	r.client = &http.Client{
		Transport:     &http.Transport{DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		r.Server.Close()
		plain.Cut()
		p.Close()
	})
	return r
}

// do sends a request with pairs of header names and values.
func (r *router) do(t *testing.T, method, path string, body io.Reader, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.URL+path, body)
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

func read(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// wantError checks the envelope.
func wantError(t *testing.T, res *http.Response, status int, code, text string) {
	t.Helper()
	body := read(t, res.Body)
	var e struct{ Code, Message string }
	if err := json.Unmarshal([]byte(body), &e); err != nil {
		t.Fatalf("%d %q is not the envelope", res.StatusCode, body)
	}
	if res.StatusCode != status || e.Code != code || e.Message != "OpenSandbox Ingress: "+text {
		t.Errorf("%d %q %q, want %d %q %q", res.StatusCode, e.Code, e.Message, status, code, "OpenSandbox Ingress: "+text)
	}
	if ct := res.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type %q", ct)
	}
}

// dead returns an address that refuses connections.
func dead(t *testing.T) resolve.Upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return resolve.Upstream{Address: addr}
}

// raw sends bytes and returns the status line and all that follows.
func (r *router) raw(t *testing.T, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(r.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return read(t, c)
}
