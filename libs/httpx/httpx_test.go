package httpx_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"opensandbox/libs/httpx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers with the path and the request id that reached it.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, r.URL.EscapedPath()+" "+httpx.RequestID(r.Context()))
})

func get(t *testing.T, h http.Handler, method, target string, header map[string]string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTidyPath(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"/v1/sandboxes":                    "/v1/sandboxes",
		"//v1//sandboxes/":                 "/v1/sandboxes",
		"/v1/v1/sandboxes/x":               "/v1/sandboxes/x",
		"/":                                "/",
		"/v1/sandboxes/a%2Fb/":             "/v1/sandboxes/a%2Fb",
		"/v1//sandboxes/x/proxy/80//a//b/": "/v1/sandboxes/x/proxy/80//a//b/",
		"/v1/v1/sandboxes/x/proxy/80/v1/v1//%2F/c": "/v1/sandboxes/x/proxy/80/v1/v1//%2F/c",
		"/sandboxes/x/proxy/80/":                   "/sandboxes/x/proxy/80/",
	} {
		if got := strings.TrimSpace(text(t, get(t, httpx.TidyPath(echo), "GET", "http://h"+in, nil))); got != want {
			t.Errorf("%q → %q, want %q", in, got, want)
		}
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	h := httpx.WithRequestID(echo)
	r := get(t, h, "GET", "/x", map[string]string{"X-Request-ID": " mine "})
	if got := r.Header.Get("X-Request-ID"); got != "mine" || text(t, r) != "/x mine" {
		t.Errorf("id %q is not the client's own", got)
	}
	for _, bad := range []string{"", "   ", strings.Repeat("a", 129), "two words", "naïve", "a\x7f"} {
		id := get(t, h, "GET", "/x", map[string]string{"X-Request-ID": bad}).Header.Get("X-Request-ID")
		if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
			t.Errorf("for %q: id %q, want 32 hexadecimal digits", bad, id)
		}
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	h := httpx.CORS(echo)
	r := get(t, h, "OPTIONS", "/x", map[string]string{"Origin": "http://page", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a"})
	if r.StatusCode != 200 || text(t, r) != "OK" || r.Header.Get("Access-Control-Allow-Origin") != "http://page" ||
		r.Header.Get("Access-Control-Allow-Headers") != "x-a" || r.Header.Get("Access-Control-Max-Age") != "600" {
		t.Errorf("preflight: %d %v", r.StatusCode, r.Header)
	}
	r = get(t, h, "GET", "/x", map[string]string{"Origin": "http://page"})
	if r.Header.Get("Access-Control-Allow-Origin") != "http://page" || r.Header.Get("Vary") != "Origin" {
		t.Errorf("request: %v", r.Header)
	}
	if r = get(t, h, "GET", "/x", nil); r.Header.Get("Access-Control-Allow-Origin") != "" || r.Header.Get("Vary") != "Origin" {
		t.Errorf("no origin: %v", r.Header)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	inside, leave := make(chan struct{}), make(chan struct{})
	slow := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(inside); <-leave })
	full := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) })
	h := httpx.LimitConcurrency(1, full, slow)
	done := make(chan struct{})
	go func() { defer close(done); get(t, h, "GET", "/", nil) }()
	<-inside
	if r := get(t, h, "GET", "/", nil); r.StatusCode != 503 {
		t.Errorf("the second request got %d, want 503", r.StatusCode)
	}
	close(leave)
	<-done

	capped := httpx.LimitBody(3, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			w.WriteHeader(413)
		}
	}))
	w := httptest.NewRecorder()
	capped.ServeHTTP(w, httptest.NewRequest("POST", "/", strings.NewReader("four")))
	if w.Code != 413 {
		t.Errorf("four bytes of three got %d", w.Code)
	}
}

func TestRunDrains(t *testing.T) {
	t.Parallel()
	s, err := httpx.Listen(t.Context(), httpx.Config{Address: "127.0.0.1:0", KeepAlive: time.Second, Grace: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	entered := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-s.Draining()
		_, _ = io.WriteString(w, "finished")
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, h) }()
	got := make(chan string, 1)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	go func() {
		r, err := client.Get("http://" + s.Addr().String())
		if err != nil {
			got <- err.Error()
			return
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body)
		got <- string(b)
	}()
	<-entered
	cancel()
	if a := <-got; a != "finished" {
		t.Errorf("the request in progress got %q", a)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
	if _, err := httpx.Listen(t.Context(), httpx.Config{Address: "256.0.0.1:1"}); err == nil {
		t.Error("a bad address was taken")
	}
}

func FuzzTidyPath(f *testing.F) {
	f.Add("/v1//sandboxes/x/proxy/80//y")
	f.Fuzz(func(t *testing.T, p string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = p
		var got string
		httpx.TidyPath(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.URL.Path })).ServeHTTP(httptest.NewRecorder(), r)
		if !strings.Contains(p, "/proxy/") && strings.Contains(got, "//") {
			t.Errorf("%q → %q", p, got)
		}
	})
}

func TestRunLingers(t *testing.T) {
	t.Parallel()
	s, err := httpx.Listen(t.Context(), httpx.Config{Address: "127.0.0.1:0", Linger: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, echo) }()
	cancel()
	<-s.Leaving()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + s.Addr().String() + "/still")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if got := text(t, r); !strings.HasPrefix(got, "/still") {
		t.Errorf("a server that lingers answers %q", got)
	}
	select {
	case <-s.Draining():
		t.Error("it drains while it lingers")
	default:
	}
	s.Close() // the listener breaks, which ends the wait
	if err := <-ended; err == nil {
		t.Error("Run does not tell that the listener broke")
	}
	<-s.Draining()
}
