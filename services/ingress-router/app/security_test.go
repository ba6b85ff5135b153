package app_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"opensandbox/libs/sandboxproxy/resolve/resolvetest"
	"opensandbox/libs/secrettest"
	"opensandbox/services/ingress-router/app"
)

// What two servers could read in two ways does not reach an application, and ends the connection.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	r := routed(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		if err == nil { // a request that is complete
			reached.Add(1)
		}
	}, nil)
	const second = "GET /sb/8080/smuggled HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
	for name, c := range map[string]struct {
		request string
		status  string
	}{
		"two lengths":            {"POST /sb/8080/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", "400"},
		"a list of lengths":      {"POST /sb/8080/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 6\r\n\r\nhello!", "400"},
		"a signed length":        {"POST /sb/8080/ HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello", "400"},
		"a blank before a colon": {"POST /sb/8080/ HTTP/1.1\r\nHost: h\r\nContent-Length : 5\r\n\r\nhello", "400"},
		"an unknown coding":      {"POST /sb/8080/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501"},
		"two codings":            {"POST /sb/8080/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
		"coding given twice":     {"POST /sb/8080/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "501"},
		"a size that is none":    {"POST /sb/8080/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", "400"},
		"a signed chunk":         {"POST /sb/8080/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", "400"},
		"a chunk too long":       {"POST /sb/8080/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n", "400"},
		"a size without bound":   {"POST /sb/8080/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1" + strings.Repeat("0", 20) + "\r\nhello\r\n0\r\n\r\n", "400"},
		"two hosts":              {"GET /sb/8080/ HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", "400"},
		"no host":                {"GET /sb/8080/ HTTP/1.1\r\n\r\n", "400"},
		"a folded line":          {"GET /sb/8080/ HTTP/1.1\r\nHost: h\r\n X: y\r\n\r\n", "400"},
		"a control character":    {"GET /sb/8080/\x01 HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
		"a newline in a value":   {"GET /sb/8080/ HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", "400"},
		"a blank in the path":    {"GET /sb/8080/ HTTP/1.1\r\nX: y HTTP/1.1\r\nHost: h\r\n\r\n", "400"},
	} {
		reached.Store(0)
		got := r.raw(t, c.request+second)
		if name == "a blank in the path" { // an honest request whose header has a name of its own
			if reached.Load() != 2 || !strings.Contains(got, "200 OK") {
				t.Errorf("%s: %d requests reached the application:\n%s", name, reached.Load(), got)
			}
			continue
		}
		if reached.Load() != 0 || !strings.HasPrefix(got, "HTTP/1.1 "+c.status) || strings.Count(got, "HTTP/1.1 ") != 1 {
			t.Errorf("%s: %d requests reached the application, want none and %s:\n%s", name, reached.Load(), c.status, got)
		}
	}
}

// A request with both a length and a coding is forwarded with the coding only, so that the application cannot read it in another way.
func TestLengthAndCoding(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 2)
	r := routed(t, func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen <- strings.Join(r.TransferEncoding, ",") + " " + r.Header.Get("Content-Length") + " " + string(b)
	}, nil)
	r.raw(t, "POST /sb/8080/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	if got := <-seen; got != "chunked  hello" {
		t.Errorf("the application saw %q", got)
	}
}

// Nothing that is in a path becomes a line of its own.
func TestPathsCarryNoHeaders(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	lines := make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewScanner(c)
			for in.Scan() && in.Text() != "" {
				lines <- in.Text()
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			_ = c.Close()
			lines <- ""
		}
	}()
	s := resolvetest.New(t, "127.0.0.1")
	s.Run(t, "sb", published(l.Addr().(*net.TCPAddr).Port))
	r := start(t, s, nil)
	for _, path := range []string{"/a%0d%0aX-Evil:%201", "/a%0D%0A%0D%0AGET%20/", "/a?q=%0d%0aX-Evil:%201", `/a"\`, "/\xff\xfe"} {
		answer := r.raw(t, "GET /sb/8080"+path+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 200") {
			t.Fatalf("%q: %q", path, answer)
		}
		if line := <-lines; line != "GET "+path+" HTTP/1.1" {
			t.Errorf("%q arrived as %q", path, line)
		}
		for line := <-lines; line != ""; line = <-lines {
			name, _, _ := strings.Cut(line, ":")
			if name != "Host" && name != "X-Request-Id" && !strings.HasPrefix(name, "X-Forwarded-") {
				t.Errorf("%q made the line %q", path, line)
			}
		}
	}
}

// The application gets the truth about the client as far as the router knows it, and no header that is meant for the next hop only.
func TestHeaders(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 1)
	r := routed(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }, nil)
	bearer := "Bearer " + secrettest.New("a token of the application")
	r.raw(t, "GET /sb/8080/ HTTP/1.1\r\nHost: client.example\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nTE: gzip\r\n"+
		"Proxy-Authorization: Basic "+secrettest.New("a password of a proxy")+"\r\n"+
		"Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 1.2.3.4\r\n"+
		"X-Request-ID: me\r\nAuthorization: "+bearer+"\r\n\r\n")
	want := http.Header{
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"client.example"}, "X-Forwarded-Proto": {"http"},
		"X-Request-Id": {"me"}, "Authorization": {bearer},
	}
	if diff := cmp.Diff(want, <-seen); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	r := routed(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/big" {
			w.Header().Set("X-Big", strings.Repeat("a", 1<<20))
		}
	}, nil)
	if got := r.raw(t, "GET /sb/8080/ HTTP/1.1\r\nHost: h\r\nX-Big: "+strings.Repeat("a", 1<<20)+"\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 431") {
		t.Errorf("a large header of a request got %.80q", got)
	}
	if got := r.raw(t, "GET /sb/8080/"+strings.Repeat("a", 1<<20)+" HTTP/1.1\r\nHost: h\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 431") {
		t.Errorf("a long path got %.80q", got)
	}
	wantError(t, "a large header of an answer", r.do(t, "GET", "/sb/8080/big", nil), 502, "BACKEND_RESPONSE_FAILED", "broke before an answer came")
}

func TestTrace(t *testing.T) {
	t.Parallel()
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	spans := tracetest.NewSpanRecorder()
	seen := make(chan http.Header, 1)
	answer := func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }
	r := routed(t, answer, func(_ *app.Config, d *app.Deps) {
		d.Tracers = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	})
	r.do(t, "GET", "/sb/8080/"+secrettest.New("a path")+"?"+secrettest.New("a query"), nil, "Traceparent", parent, "Tracestate", "a=b")
	got := <-seen
	r.do(t, "GET", "/unknown/8080/", nil)
	r.end()
	ended := spans.Ended()
	if len(ended) != 2 {
		t.Fatalf("%d spans, want 2", len(ended))
	}
	span := ended[0]
	want := "00-0af7651916cd43dd8448eb211c80319c-" + span.SpanContext().SpanID().String() + "-01"
	if span.Parent().SpanID().String() != "b7ad6b7169203331" || got.Get("Traceparent") != want || got.Get("Tracestate") != "a=b" {
		t.Errorf("parent %s, the application got %q %q, want %q", span.Parent().SpanID(), got.Get("Traceparent"), got.Get("Tracestate"), want)
	}
	attributes := map[string]string{}
	for _, a := range append(span.Attributes(), ended[1].Attributes()...) {
		attributes[string(a.Key)] += a.Value.Emit() + " "
		secrettest.Absent(t, string(a.Key), a.Value.Emit())
	}
	if diff := cmp.Diff(map[string]string{
		"http.request.method": "GET GET ", "http.response.status_code": "200 404 ", "opensandbox.kind": "http http ",
		"opensandbox.outcome": "proxied not_found ", "opensandbox.port": "8080 8080 ", "opensandbox.sandbox": "sb unknown ",
	}, attributes); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}

	// Without tracers the client's trace goes through as it is.
	routed(t, answer, nil).do(t, "GET", "/sb/8080/", nil, "Traceparent", parent)
	if got := (<-seen).Get("Traceparent"); got != parent {
		t.Errorf("without tracers the application got %q", got)
	}
}
