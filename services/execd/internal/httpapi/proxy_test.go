package httpapi

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// backend starts an application inside the sandbox and returns the proxy path to it.
func backend(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return "/proxy/" + srv.URL[strings.LastIndexByte(srv.URL, ':')+1:]
}

func TestProxyKeepsTheRequest(t *testing.T) {
	t.Parallel()
	s := start(t, setup{token: secret, openProxy: true})
	var got *http.Request
	var body []byte
	p := backend(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Set("Location", "/else")
		w.WriteHeader(http.StatusFound)
	})
	for _, raw := range []string{
		"/", "/a%2Fb/%41?x=1;2&y=%zz&&", "//double//", "/a/../b", "/%e4", "/q?", "/a|b\"^`{}", "/[x]?a[]=1", "/a%00",
	} {
		status, head, _ := rawRequest(t, s.url, "PATCH "+p+raw+" HTTP/1.1\r\nHost: app.example:99\r\nX-Execd-Access-Token: "+secret+
			"\r\nOpen-Sandbox-Api-Key: k\r\nX-A: 1\r\nX-A: 2\r\nAccept-Encoding: br\r\nForwarded: for=1\r\nX-Forwarded-Host: evil\r\nX-Forwarded-For: 9.9.9.9, 8.8.8.8\r\n"+
			"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
		if status != 302 {
			t.Fatalf("%s: status %d", raw, status)
		}
		if c := head.Values("Set-Cookie"); len(c) != 2 || head.Get("X-Request-Id") == "" {
			t.Errorf("response headers: %v", head)
		}
		if got.RequestURI != raw {
			t.Errorf("target %q arrives as %q", raw, got.RequestURI)
		}
	}
	if got.Method != "PATCH" || got.Host != "app.example:99" || string(body) != "abc" {
		t.Errorf("got %s %s %q", got.Method, got.Host, body)
	}
	want := map[string][]string{
		"X-A": {"1", "2"}, "Accept-Encoding": {"br"}, "Forwarded": {"for=1"},
		"X-Forwarded-For": {"9.9.9.9, 127.0.0.1"}, "X-Forwarded-Proto": {"http"},
	}
	if d := cmp.Diff(want, map[string][]string(got.Header)); d != "" {
		t.Errorf("headers (-want +got):\n%s", d)
	}
}

// rawRequest writes bytes to the server and reads one response.
func rawRequest(t *testing.T, url, request string) (int, http.Header, string) {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(b)
}

func TestProxyWithoutPath(t *testing.T) {
	t.Parallel()
	s := start(t, setup{openProxy: true})
	p := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RequestURI, r.Header["Accept-Encoding"]) })
	if a := s.do("GET", p+"?a=b", nil, "Accept-Encoding", "identity"); a.body != "/?a=b[identity]" {
		t.Errorf("got %q", a.body)
	}
	if a := s.do("GET", "/"+p+"//x/", nil, "Accept-Encoding", "identity"); a.body != "//x/[identity]" {
		t.Errorf("got %q", a.body)
	}
}

// TestProxyEventStream: an event arrives while the answer is still open.
func TestProxyEventStream(t *testing.T) {
	t.Parallel()
	s := start(t, setup{openProxy: true})
	next := make(chan struct{})
	p := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "14")
		_, _ = io.WriteString(w, "data: 1")
		_ = http.NewResponseController(w).Flush()
		<-next
		_, _ = io.WriteString(w, "data: 2")
	})
	res, err := http.Get(s.url + p + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, 7)
	if _, err := io.ReadFull(res.Body, first); err != nil {
		t.Fatal(err)
	}
	close(next)
	if rest, err := io.ReadAll(res.Body); err != nil || string(first)+string(rest) != "data: 1data: 2" {
		t.Errorf("got %q %q %v", first, rest, err)
	}
}

// TestProxyUpgrade speaks the handshake of a WebSocket and then plain bytes in both directions.
func TestProxyUpgrade(t *testing.T) {
	t.Parallel()
	s := start(t, setup{openProxy: true})
	p := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-Websocket-Key") != "k" {
			http.Error(w, "no upgrade", http.StatusBadRequest)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
		_ = rw.Flush()
		line, _ := rw.ReadString('\n')
		_, _ = rw.WriteString("echo " + line)
		_ = rw.Flush()
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s/ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: k\r\n\r\n", p)
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %v %v", res, err)
	}
	hello := make([]byte, 5)
	if _, err := io.ReadFull(br, hello); err != nil || string(hello) != "hello" {
		t.Fatalf("got %q %v", hello, err)
	}
	fmt.Fprint(c, "you\n")
	if got, err := br.ReadString('\n'); err != nil || got != "echo you\n" {
		t.Errorf("got %q %v", got, err)
	}
}

// TestProxyIPv6 reaches an application that listens on ::1 only.
func TestProxyIPv6(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "six") }))
	srv.Listener.Close()
	srv.Listener = ln
	srv.Start()
	t.Cleanup(srv.Close)
	s := start(t, setup{openProxy: true})
	if a := s.do("GET", "/proxy/"+strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)+"/", nil); a.body != "six" {
		t.Errorf("got %d %q", a.StatusCode, a.body)
	}
}

func TestProxyBackendIDWins(t *testing.T) {
	t.Parallel()
	s := start(t, setup{openProxy: true})
	p := backend(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Request-Id", "app") })
	if got := s.do("GET", p+"/", nil, "X-Request-ID", "mine").Header.Values("X-Request-Id"); !slices.Equal(got, []string{"app"}) {
		t.Errorf("got ids %q, want the application's only", got)
	}
}
