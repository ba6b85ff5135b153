package app

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
)

// proxied is an api with a listener in front of one sandbox, whose daemon and port 8080 are both answered by one address.
type proxied struct {
	*bench
	server *httptest.Server
	id     sandbox.ID
}

func newProxied(t *testing.T, backend string, change func(*Config, *Deps)) *proxied {
	t.Helper()
	p := &proxied{bench: newBench(t, func(c *Config, d *Deps) {
		c.APIKey = apiKey
		if change != nil {
			change(c, d)
		}
	})}
	p.register(node.Registration{Name: "here", EngineID: "e2", PortMin: 40000, PortMax: 40100, Host: "127.0.0.1"})
	a := p.read(p.do("POST", "/v1/sandboxes", `{`+minimal+`}`, "Prefer", "respond-async", "OPEN-SANDBOX-API-KEY", apiKey), http.StatusAccepted)
	p.id = a.ID
	_, text, _ := net.SplitHostPort(backend)
	port, err := net.LookupPort("tcp", text)
	if err != nil {
		t.Fatal(err)
	}
	p.place(sandbox.Addresses{Ports: map[int]int{ExecdPort: port, AppPort: port}})
	p.server = httptest.NewServer(p.handler)
	t.Cleanup(p.server.Close)
	return p
}

// place makes the sandbox Running at addresses.
func (p *proxied) place(at sandbox.Addresses) {
	p.t.Helper()
	r, err := p.store.Store.Place(p.t.Context(), sandbox.PlaceRequest{ID: p.id, Ports: []int{ExecdPort, AppPort},
		Candidates: []sandbox.Candidate{{Node: "here", PortMin: 40000, PortMax: 40100}}})
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.store.Store.Report(p.t.Context(), sandbox.Report{ID: p.id, Node: "here", Epoch: r.Placement.Epoch, Session: p.session,
		Generation: r.Intent.Generation, State: sandbox.StateRunning, Reason: sandbox.ReasonRunning, Addresses: at}); err != nil {
		p.t.Fatal(err)
	}
}

func backend(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// raw sends bytes, in which ID stands for the sandbox, and returns all that comes back.
func (p *proxied) raw(request string) string {
	p.t.Helper()
	c, err := net.Dial("tcp", p.server.Listener.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, strings.ReplaceAll(request, "ID", string(p.id))); err != nil {
		p.t.Fatal(err)
	}
	b, _ := io.ReadAll(c) // a connection that is cut may give an error after what came
	return string(b)
}

// request returns the answer to a request without a body.
func (p *proxied) request(method, path string, header ...string) (*http.Response, string) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.server.URL+strings.ReplaceAll(path, "ID", string(p.id)), nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	transport := &http.Transport{DisableKeepAlives: true}
	res, err := transport.RoundTrip(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res, string(b)
}

func codeOf(body string) string {
	var e struct{ Code, Message string }
	_ = json.Unmarshal([]byte(body), &e)
	if e.Message == "" {
		return ""
	}
	return e.Code
}

// Behind the port, path and query arrive byte by byte; in front of it, what clients produce from a base URL does no harm. No key is needed.
func TestProxyRequestLine(t *testing.T) {
	t.Parallel()
	p := newProxied(t, backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) }), nil)
	for in, want := range map[string]string{
		"/sandboxes/ID/proxy/8080":                    "/",
		"/v1/sandboxes/ID/proxy/8080/":                "/",
		"/v1/sandboxes/ID/proxy/8080?":                "/?",
		"/v1//v1/sandboxes//ID//proxy/8080/a":         "/a",
		"//sandboxes/ID/proxy/8080//a//b/":            "//a//b/",
		"/v1/sandboxes/ID/proxy/8080//":               "//",
		"/v1/sandboxes/ID/proxy/8080//?a=//":          "//?a=//",
		"/v1/sandboxes//ID/proxy/8080///v1//v1/x//":   "///v1//v1/x//",
		"/sandboxes/ID/proxy/9000//":                  "/proxy/9000//",
		"//v1/sandboxes/ID//proxy/9000//x//y":         "/proxy/9000//x//y",
		"/sandboxes/ID/proxy/8080/a%2Fb%20c%2f":       "/a%2Fb%20c%2f",
		"/sandboxes/ID/proxy/8080/v1/v1/x?a=1;b&&%zz": "/v1/v1/x?a=1;b&&%zz",
		"/sandboxes/ID/proxy/8080/a/./b":              "/a/./b",
		"/sandboxes/ID/proxy/9000/x":                  "/proxy/9000/x",
	} {
		got := p.raw("GET " + in + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		if _, body, _ := strings.Cut(got, "\r\n\r\n"); body != want {
			t.Errorf("%s: the application got %q, want %q", in, got, want)
		}
	}
}

func TestProxyRefusals(t *testing.T) {
	t.Parallel()
	p := newProxied(t, backend(t, func(http.ResponseWriter, *http.Request) {}), nil)
	pending := p.read(p.do("POST", "/v1/sandboxes", `{`+minimal+`}`, "Prefer", "respond-async", "OPEN-SANDBOX-API-KEY", apiKey), 202).ID
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/sandboxes/ID/proxy/0", 400, "DOCKER::INVALID_PORT"},
		{"GET", "/v1/sandboxes/ID/proxy/65536/x", 400, "DOCKER::INVALID_PORT"},
		{"GET", "/v1/sandboxes/ID/proxy/99999999999999999999", 400, "DOCKER::INVALID_PORT"},
		{"GET", "/v1/sandboxes/ID/proxy/x", 401, "MISSING_API_KEY"},
		{"GET", "/v1/sandboxes/ID/proxy/8080/a/../b", 401, "MISSING_API_KEY"},
		{"GET", "/v1/sandboxes/ID/proxy/8080/a/%2e%2E/b", 401, "MISSING_API_KEY"},
		{"GET", "/v1/sandboxes/ID/proxyx/8080/", 401, "MISSING_API_KEY"},
		{"GET", "/v1/sandboxes/nobody/proxy/8080/", 404, "DOCKER::SANDBOX_NOT_FOUND"},
		{"GET", "/v1/sandboxes/%2e/proxy/8080/", 404, "DOCKER::SANDBOX_NOT_FOUND"},
		{"GET", "/v1/sandboxes/" + string(pending) + "/proxy/8080/", 503, "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE"},
		{"OPTIONS", "/v1/sandboxes/ID/proxy/8080/", 405, "METHOD_NOT_ALLOWED"},
		{"PROPFIND", "/v1/sandboxes/ID/proxy/8080/", 405, "METHOD_NOT_ALLOWED"},
	} {
		res, body := p.request(c.method, c.path)
		if res.StatusCode != c.status || codeOf(body) != c.code || res.Header.Get("X-Request-ID") == "" {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, res.StatusCode, body, c.status, c.code)
		}
		if allow := res.Header.Get("Allow"); (allow != "") != (c.status == 405) {
			t.Errorf("%s %s: Allow %q", c.method, c.path, allow)
		}
	}
	if res, _ := p.request("HEAD", "/v1/sandboxes/ID/proxy/8080/"); res.StatusCode != 405 {
		t.Errorf("HEAD: %d", res.StatusCode)
	}
	if res, body := p.request("GET", "/v1/sandboxes/ID/proxy/x", "OPEN-SANDBOX-API-KEY", apiKey); res.StatusCode != 400 || codeOf(body) != "INVALID_REQUEST" {
		t.Errorf("a port that is none, with the key: %d %s", res.StatusCode, body)
	}
	if res, _ := p.request("GET", "/v1/sandboxes/ID/proxy/8080/a/../b", "OPEN-SANDBOX-API-KEY", apiKey); res.StatusCode != 200 {
		t.Errorf("a path that climbs, with the key: %d", res.StatusCode)
	}
}

func TestProxyHeaders(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	address := backend(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		for _, h := range [][2]string{{"Set-Cookie", "a=1"}, {"Set-Cookie", "b=2"}, {"Server", "app"}, {"X-Request-ID", "theirs"}, {"Location", "/next"},
			{"Access-Control-Allow-Origin", "https://else"}, {"Date", "Thu, 01 Jan 1970 00:00:00 GMT"}, {"Content-Encoding", "gzip"}} {
			w.Header().Add(h[0], h[1])
		}
		w.WriteHeader(http.StatusFound)
	})
	p := newProxied(t, address, nil)
	egress := secrettest.New("a token for egress")
	got := p.raw("GET /v1/sandboxes/ID/proxy/8080/ HTTP/1.1\r\nHost: client.example:81\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nTwice: a\r\nTwice: b\r\n" +
		"Origin: https://page\r\nCookie: c=" + secrettest.New("a cookie") + "\r\nAuthorization: Bearer " + secrettest.New("a token of the application") + "\r\nOPENSANDBOX-EGRESS-AUTH: " + egress + "\r\nX-Request-Id: mine\r\n" +
		"Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nX-Real-Ip: 1.2.3.4\r\n" +
		"OpenSandbox-Secure-Access: " + secrettest.New("a secure access") + "\r\nOpenSandbox-Access-Renew: skip\r\nOPEN-SANDBOX-API-KEY: " + apiKey +
		"\r\nX-EXECD-ACCESS-TOKEN: " + token + "\r\nTE: trailers\r\n\r\n")
	r := <-seen
	want := http.Header{
		"Twice": {"a", "b"}, "Origin": {"https://page"}, "Opensandbox-Egress-Auth": {egress}, "X-Request-Id": {"mine"}, "Te": {"trailers"},
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"client.example:81"},
	}
	r.Header.Del("Traceparent")
	r.Header.Del("User-Agent")
	if diff := cmp.Diff(want, r.Header); diff != "" {
		t.Errorf("the application got (-want +got):\n%s", diff)
	}
	if r.Host != address {
		t.Errorf("Host %q, want %q", r.Host, address)
	}
	res, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"Set-Cookie": {"a=1", "b=2"}, "Server": nil, "X-Request-Id": {"mine"}, "Location": {"/v1/sandboxes/" + string(p.id) + "/proxy/8080/next"},
		"Access-Control-Allow-Origin": {"https://page"}, "Date": {"Thu, 01 Jan 1970 00:00:00 GMT"}, "Content-Encoding": {"gzip"},
	} {
		if diff := cmp.Diff(want, res.Header.Values(name), cmp.Transformer("nil", func(s []string) string { return strings.Join(s, "|") })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	// The token is for the daemon.
	p.raw("GET /sandboxes/ID/proxy/44772/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-EXECD-ACCESS-TOKEN: " + token + "\r\n\r\n")
	if r := <-seen; r.Header.Get("X-EXECD-ACCESS-TOKEN") != token {
		t.Error("the daemon did not get its token")
	}
	secrettest.Absent(t, "the log", p.log.String())
}

// TestProxyBelievesItsProxies: what a proxy says of its client reaches the application, if the proxy is one of those that are trusted.
func TestProxyBelievesItsProxies(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	address := backend(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r })
	for trusted, want := range map[string][2]string{"127.0.0.0/8": {"1.2.3.4", "https"}, "10.0.0.0/8": {"127.0.0.1", "http"}} {
		p := newProxied(t, address, func(c *Config, _ *Deps) { c.Forwarders = []netip.Prefix{netip.MustParsePrefix(trusted)} })
		p.raw("GET /v1/sandboxes/ID/proxy/8080/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Forwarded-For: 6.6.6.6, 1.2.3.4\r\nX-Forwarded-Proto: https\r\n\r\n")
		r := <-seen
		if got := [2]string{r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Proto")}; got != want || r.Header.Get("X-Forwarded-Host") != "h" {
			t.Errorf("%s is trusted: the application got %q, want %q; host %q", trusted, got, want, r.Header.Get("X-Forwarded-Host"))
		}
	}
}

// An application may do what it likes: the client gets an answer that says what went wrong.
func TestProxyBadTargets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		serve  func(net.Conn)
		status int
		code   string
	}{
		"closes at once":     {func(net.Conn) {}, 502, "BACKEND_RESPONSE_FAILED"},
		"closes in a header": {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nA: ") }, 502, "BACKEND_RESPONSE_FAILED"},
		"garbage":            {func(c net.Conn) { _, _ = io.WriteString(c, "\x00\x01\x02 nonsense\r\n\r\n") }, 502, "BACKEND_RESPONSE_FAILED"},
		"two lengths": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")
		}, 502, "BACKEND_RESPONSE_FAILED"},
		"large header": {func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nA: "+strings.Repeat("a", 300<<10)+"\r\n\r\n")
		}, 502, "BACKEND_RESPONSE_FAILED"},
		"never answers": {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, 504, "BACKEND_TIMEOUT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			all.Go(func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					all.Go(func() {
						defer conn.Close()
						if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
							c.serve(conn)
						}
					})
				}
			})
			t.Cleanup(all.Wait)
			t.Cleanup(func() { _ = l.Close() })
			p := newProxied(t, l.Addr().String(), func(c *Config, _ *Deps) { c.Proxy.AnswerTimeout = 200 * time.Millisecond })
			if res, body := p.request("GET", "/sandboxes/ID/proxy/8080/"); res.StatusCode != c.status || codeOf(body) != c.code {
				t.Errorf("%d %s, want %d %s", res.StatusCode, body, c.status, c.code)
			}
		})
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	p := newProxied(t, l.Addr().String(), nil)
	if res, body := p.request("GET", "/sandboxes/ID/proxy/8080/"); res.StatusCode != 502 || codeOf(body) != "BACKEND_CONNECTION_FAILED" {
		t.Errorf("nothing listens: %d %s", res.StatusCode, body)
	}
}

// A request that two parties could understand differently is refused, and nothing of what it hides reaches the application.
func TestProxyRefusesSmuggling(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	p := newProxied(t, backend(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.RequestURI+" "+string(b))
	}), nil)
	hidden := "GET /sandboxes/ID/proxy/8080/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
	line := "POST /sandboxes/ID/proxy/8080/ HTTP/1.1\r\nHost: h\r\n"
	for name, request := range map[string]string{
		"two lengths":              line + "Content-Length: 1\r\nContent-Length: 60\r\n\r\nx" + hidden,
		"length with a sign":       line + "Content-Length: +1\r\n\r\nx" + hidden,
		"unknown encoding":         line + "Transfer-Encoding: x\r\n\r\n" + hidden,
		"encoding twice":           line + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
		"space before the colon":   line + "Content-Length : 60\r\n\r\n" + hidden,
		"folded header":            line + "A: b\r\n Content-Length: 60\r\nContent-Length : 3\r\n\r\n" + hidden,
		"chunk size of no digits":  line + "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n" + hidden,
		"chunk longer than it is":  line + "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n" + hidden,
		"chunk size that is large": line + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("f", 17) + "\r\nabc\r\n0\r\n\r\n" + hidden,
	} {
		if answer := p.raw(request); !strings.HasPrefix(answer, "HTTP/1.1 400 ") && !strings.HasPrefix(answer, "HTTP/1.1 501 ") {
			t.Errorf("%s: %q", name, answer)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, g := range got {
		if strings.Contains(g, "smuggled") {
			t.Errorf("the application got %q", g)
		}
	}
}
