package app_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/sandboxproxy/resolve/resolvetest"
	"opensandbox/services/ingress-router/app"
)

// routed starts a router for one sandbox, which is called sb and has one application.
func routed(t *testing.T, h http.HandlerFunc, change func(*app.Config, *app.Deps)) *running {
	t.Helper()
	s := resolvetest.New(t, "127.0.0.1")
	s.Run(t, "sb", published(application(t, "127.0.0.1", h)))
	return start(t, s, change)
}

func TestMethodsAndBodies(t *testing.T) {
	t.Parallel()
	r := routed(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Saw", r.Method+" "+r.RequestURI)
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.Copy(w, r.Body)
	}, nil)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} {
		body, want := io.Reader(strings.NewReader("body of "+method)), "body of "+method
		if method == "TRACE" {
			body, want = nil, "" // RFC 9110, section 9.3.8: no content
		}
		res := r.do(t, method, "/sb/8080/a%2Fb?c=%20d", body)
		if method == "HEAD" {
			want = ""
		}
		if got := read(t, res.Body); got != want || res.StatusCode != http.StatusTeapot || res.Header.Get("Saw") != method+" /a%2Fb?c=%20d" {
			t.Errorf("%s: %d %q %q", method, res.StatusCode, res.Header.Get("Saw"), got)
		}
	}
	if got := r.metric(t, "opensandbox_router_requests_total", "http", "proxied"); got != 9 {
		t.Errorf("%v requests were counted, want 9", got)
	}
	if got := r.metric(t, "opensandbox_router_first_byte_seconds", "http"); got != 9 {
		t.Errorf("%v first bytes were timed, want 9", got)
	}
	until(t, "no request is active", func() bool { return r.metric(t, "opensandbox_router_active_requests", "http") == 0 })
}

// The health of the router shadows nothing of a sandbox.
func TestHealth(t *testing.T) {
	t.Parallel()
	s := resolvetest.New(t, "127.0.0.1")
	s.Run(t, "health", published(application(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) })))
	r := start(t, s, nil)
	for path, want := range map[string]string{
		"/health": `{"status":"healthy"}`, "/health?x": `{"status":"healthy"}`,
		"/health/8080": "/", "/health/8080/health": "/health",
	} {
		if status, body := r.get(t, path); status != http.StatusOK || body != want {
			t.Errorf("%s: %d %q, want %q", path, status, body, want)
		}
	}
	if res := r.do(t, "HEAD", "/health", nil); res.StatusCode != http.StatusOK || read(t, res.Body) != "" {
		t.Errorf("HEAD: %d", res.StatusCode)
	}
	wantError(t, "POST", r.do(t, "POST", "/health", nil), 400, "INGRESS::INVALID_ROUTE", "the port is missing")
	wantError(t, "with a slash", r.do(t, "GET", "/health/", nil), 400, "INGRESS::INVALID_ROUTE", "the port is missing")
}

// zeros is a body of any length without memory. It notes the heap of the process now and then.
type zeros struct {
	left int64
	heap *peak
}

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), z.left)
	clear(p[:n])
	z.left -= n
	z.heap.look(n)
	return int(n), nil
}

// peak is the most heap that was in use.
type peak struct {
	mu   sync.Mutex
	next int64
	most uint64
}

func (k *peak) look(n int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.next -= n; k.next > 0 {
		return
	}
	k.next = 4 << 20
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	k.most = max(k.most, m.HeapAlloc)
}

// A body of any size goes through in both directions, and none of it stays. Not parallel: the heap is that of all tests.
func TestLargeBodiesAreNotKept(t *testing.T) {
	const size = 100 << 20
	var heap peak
	r := routed(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			w.Header().Set("Content-Length", strconv.Itoa(size))
			_, _ = io.Copy(w, &zeros{size, &heap})
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strconv.FormatInt(n, 10))
		if err != nil {
			_, _ = io.WriteString(w, err.Error())
		}
	}, nil)
	heap.look(1)
	before := heap.most
	res := r.do(t, "GET", "/sb/8080/", nil)
	if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
		t.Errorf("%d bytes came, %v", n, err)
	}
	for name, body := range map[string]io.Reader{"chunked": &zeros{size, &heap}, "sized": io.LimitReader(&zeros{size, &heap}, size)} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", r.url+"/sb/8080/", body)
		if err != nil {
			t.Fatal(err)
		}
		if name == "sized" {
			req.ContentLength = size
		}
		res, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, res.Body); got != strconv.Itoa(size) {
			t.Errorf("%s: the application got %s bytes", name, got)
		}
		_ = res.Body.Close()
	}
	if heap.most > before+32<<20 {
		t.Errorf("the heap grew from %d to %d MB with bodies of %d MB", before>>20, heap.most>>20, size>>20)
	}
}

// Each event arrives before the application sends the next one.
func TestEvents(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	r := routed(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for i := range 3 {
			_, _ = io.WriteString(w, "data: "+strconv.Itoa(i)+"\n\n")
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	}, nil)
	res := r.do(t, "GET", "/sb/8080/", nil)
	lines := bufio.NewScanner(res.Body)
	for i := range 3 {
		if !lines.Scan() || lines.Text() != "data: "+strconv.Itoa(i) || !lines.Scan() {
			t.Fatalf("event %d: %q, %v", i, lines.Text(), lines.Err())
		}
		if got := r.metric(t, "opensandbox_router_active_requests", "sse"); got != 1 {
			t.Errorf("%v streams are active", got)
		}
		if got := r.metric(t, "opensandbox_router_requests_total", "sse", "proxied"); got != 1 {
			t.Errorf("%v streams were counted, want the one that runs", got)
		}
		next <- struct{}{}
	}
	until(t, "no request is active", func() bool {
		return r.metric(t, "opensandbox_router_active_requests", "sse")+r.metric(t, "opensandbox_router_active_requests", "http") == 0
	})
}

// Requests in progress get the grace time, new ones are not taken.
func TestDrain(t *testing.T) {
	t.Parallel()
	inside, finish := make(chan struct{}), make(chan struct{})
	r := routed(t, func(w http.ResponseWriter, _ *http.Request) {
		close(inside)
		<-finish
		_, _ = io.WriteString(w, "done")
	}, nil)
	got := make(chan string, 1)
	go func() {
		res, err := r.client.Get(r.url + "/sb/8080/")
		if err != nil {
			got <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		got <- string(b)
	}()
	<-inside
	ended := make(chan struct{})
	go func() { defer close(ended); r.end() }()
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	until(t, "new requests are refused", func() bool {
		res, err := fresh.Get(r.url + "/health")
		if err == nil {
			_ = res.Body.Close()
		}
		return err != nil
	})
	close(finish)
	if body := <-got; body != "done" {
		t.Errorf("the request in progress got %q", body)
	}
	<-ended
}

// With a delay, new requests are taken while the health says that it is time to turn away.
func TestDrainDelay(t *testing.T) {
	t.Parallel()
	r := routed(t, says("hello"), func(c *app.Config, _ *app.Deps) { c.DrainDelay = 500 * time.Millisecond })
	ended := make(chan struct{})
	go func() { defer close(ended); r.end() }()
	until(t, "the router is not ready", func() bool { return r.Ready() != nil })
	wantError(t, "health", r.do(t, "GET", "/health", nil), 503, "UNAVAILABLE", "the router is about to end")
	if status, body := r.get(t, "/sb/8080/"); status != http.StatusOK || body != "hello" {
		t.Errorf("a request within the delay: %d %q", status, body)
	}
	<-ended
}

// At the end of the grace time streams are cut, and their applications notice.
func TestGraceIsOver(t *testing.T) {
	t.Parallel()
	noticed := make(chan struct{})
	r := routed(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "data: x\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(noticed)
	}, func(c *app.Config, _ *app.Deps) { c.Grace = 50 * time.Millisecond })
	res := r.do(t, "GET", "/sb/8080/", nil)
	r.end()
	<-noticed
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("a stream that was cut looks complete")
	}
}

// notices keeps what is published.
type notices struct {
	mu  sync.Mutex
	got []string
	err error
}

func (n *notices) Publish(_ context.Context, payload []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got = append(n.got, string(payload))
	return n.err
}

func (n *notices) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.got
}

func TestRenewals(t *testing.T) {
	t.Parallel()
	n := &notices{}
	r := routed(t, says("hello"), func(c *app.Config, d *app.Deps) { c.RenewInterval, d.Renewals = time.Hour, n })
	r.get(t, "/unknown/8080/")
	r.do(t, "GET", "/sb/8080/skipped", nil, "OpenSandbox-Access-Renew", "skip")
	r.get(t, "/sb/8080/used?secret=1")
	r.get(t, "/sb/8080/again")
	until(t, "the use is published", func() bool { return len(n.all()) > 0 })
	r.end()
	got := strings.Join(n.all(), "\n")
	if !strings.HasPrefix(got, `{"sandbox_id":"sb","observed_at":"`) || !strings.HasSuffix(got, `,"port":8080,"request_uri":"/used"}`) || len(n.all()) != 1 {
		t.Errorf("published %s", got)
	}
	if got := r.metric(t, "opensandbox_router_renew_intents_total", "published"); got != 1 {
		t.Errorf("%v intents were counted", got)
	}
}

func TestRenewalsThatFail(t *testing.T) {
	t.Parallel()
	n := &notices{err: errors.New("refused")}
	r := routed(t, says("hello"), func(_ *app.Config, d *app.Deps) { d.Renewals = n })
	for range 3 {
		if status, _ := r.get(t, "/sb/8080/"); status != http.StatusOK {
			t.Errorf("%d: a notice that fails must not cost a request", status)
		}
	}
	until(t, "the failures are counted", func() bool { return r.metric(t, "opensandbox_router_renew_intents_total", "failed") == 3 })
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	var own atomic.Bool
	r := routed(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints) // an interim answer takes nothing away from the last one
		w.Header().Set("Saw", r.Header.Get("X-Request-ID"))
		if own.Load() {
			w.Header().Set("X-Request-ID", "of the application")
		}
	}, nil)
	res := r.do(t, "GET", "/sb/8080/", nil, "X-Request-ID", "of-the-client")
	if diff := cmp.Diff([]string{"of-the-client", "of-the-client"}, append(res.Header.Values("X-Request-ID"), res.Header.Values("Saw")...)); diff != "" {
		t.Errorf("the client's own (-want +got):\n%s", diff)
	}
	res = r.do(t, "GET", "/sb/8080/", nil)
	if id := res.Header.Values("X-Request-ID"); len(id) != 1 || len(id[0]) != 32 || res.Header.Get("Saw") != id[0] {
		t.Errorf("a new one: %q, the application saw %q", id, res.Header.Get("Saw"))
	}
	own.Store(true)
	res = r.do(t, "GET", "/sb/8080/", nil)
	if diff := cmp.Diff([]string{"of the application"}, res.Header.Values("X-Request-ID")); diff != "" {
		t.Errorf("the application's own (-want +got):\n%s", diff)
	}
}
