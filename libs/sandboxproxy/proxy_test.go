package sandboxproxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandboxproxy"
	"opensandbox/libs/sandboxproxy/resolve"
	"opensandbox/libs/secrettest"
)

// Path and query arrive byte by byte, in front of them at most the daemon's route.
func TestRequestLine(t *testing.T) {
	t.Parallel()
	echo := upstream(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Method+" "+r.RequestURI) })
	for prefix, r := range map[string]*router{
		"":         start(t, sandboxproxy.Config{}, at(direct(echo))),
		"/proxy/8": start(t, sandboxproxy.Config{}, at(resolve.Upstream{Address: direct(echo).Address, Prefix: "/proxy/8"})),
	} {
		for in, want := range map[string]string{
			"/sb/8":                    "/",
			"/sb/8/":                   "/",
			"/sb/8?":                   "/?",
			"/sb/8/a%2Fb%20c%2f":       "/a%2Fb%20c%2f",
			"/sb/8//a//b/":             "//a//b/",
			"/sb/8/a/../b/./c":         "/a/../b/./c",
			"/sb/8/%2e%2e/x":           "/%2e%2e/x",
			`/sb/8/a"b<c>|^{}[]`:       `/a"b<c>|^{}[]`,
			"/sb/8/a?x=1;y=2&&z=%zz&%": "/a?x=1;y=2&&z=%zz&%",
			"/sb/8/a?q=a+b%20c?d=/e":   "/a?q=a+b%20c?d=/e",
			"/sb/8/caf%C3%A9/%E2%82":   "/caf%C3%A9/%E2%82",
			"/sb/8/sb/8/x":             "/sb/8/x",
		} {
			got := r.raw(t, "GET "+in+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
			_, body, _ := strings.Cut(got, "\r\n\r\n")
			if body != "GET "+prefix+want {
				t.Errorf("%q with prefix %q: the application got %q, want %q", in, prefix, body, "GET "+prefix+want)
			}
		}
	}
}

func TestMethodsAndBodies(t *testing.T) {
	t.Parallel()
	echo := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Saw", r.Method)
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.Copy(w, r.Body)
	})
	r := start(t, sandboxproxy.Config{}, at(direct(echo)))
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
		body := "body of " + method
		res := r.do(t, method, "/sb/8/", strings.NewReader(body))
		if method == "HEAD" {
			body = ""
		}
		if got := read(t, res.Body); got != body || res.StatusCode != http.StatusTeapot || res.Header.Get("Saw") != method {
			t.Errorf("%s: %d %q %q", method, res.StatusCode, res.Header.Get("Saw"), got)
		}
	}
}

func TestHeadersToTheApplication(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	app := upstream(t, func(_ http.ResponseWriter, r *http.Request) { seen <- r })
	cookie, bearer, egress := secrettest.New("a cookie"), secrettest.New("a token of the application"), secrettest.New("a token for egress")
	request := "GET /sb/8/ HTTP/1.1\r\nHost: client.example:81\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nTwice: a\r\nTwice: b\r\n" +
		"Cookie: c=" + cookie + "\r\nAuthorization: Bearer " + bearer + "\r\nOPENSANDBOX-EGRESS-AUTH: " + egress + "\r\n" +
		"Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\n" +
		"X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /p\r\nX-Real-Ip: 1.2.3.4\r\n" +
		"OpenSandbox-Ingress-To: x-1\r\nOPEN-SANDBOX-INGRESS: x-1\r\nOpenSandbox-Secure-Access: " + secrettest.New("a secure access") + "\r\nOpenSandbox-Access-Renew: skip\r\n" +
		"OPEN-SANDBOX-API-KEY: " + secrettest.New("the API key") + "\r\nX-EXECD-ACCESS-TOKEN: " + secrettest.New("the token of a daemon") + "\r\n\r\n"
	want := http.Header{
		"Twice": {"a", "b"}, "Cookie": {"c=" + cookie}, "Authorization": {"Bearer " + bearer}, "Opensandbox-Egress-Auth": {egress},
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"http"}, "X-Forwarded-Host": {"client.example:81"},
	}
	r := start(t, sandboxproxy.Config{}, at(direct(app)))
	r.raw(t, request)
	got := <-seen
	if diff := cmp.Diff(want, got.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if got.Host != "client.example:81" {
		t.Errorf("Host %q, want the client's own", got.Host)
	}
	if diff := cmp.Diff([]string{"sb / skip"}, r.uses.got); diff != "" {
		t.Errorf("uses (-want +got):\n%s", diff)
	}
	secrettest.Absent(t, "the log", r.log.String())

	start(t, sandboxproxy.Config{RewriteHost: true}, at(direct(app))).raw(t, request)
	if got := <-seen; got.Host != direct(app).Address {
		t.Errorf("Host %q, want the address of the sandbox", got.Host)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	app := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Join(r.Header["X-Execd-Access-Token"], ","))
	})
	address, token := direct(app).Address, secrettest.New("the token of a daemon")
	for name, c := range map[string]struct {
		path, prefix, want string
	}{
		"daemon itself":         {"/sb/44772/", "", token},
		"through the daemon":    {"/sb/80/", "/proxy/80", token},
		"an application's port": {"/sb/80/", "", ""},
	} {
		r := start(t, sandboxproxy.Config{}, at(resolve.Upstream{Address: address, Prefix: c.prefix}))
		if got := read(t, r.do(t, "GET", c.path, nil, "X-EXECD-ACCESS-TOKEN", token).Body); got != c.want {
			t.Errorf("%s: %d bytes of a token, want %d", name, len(got), len(c.want))
		}
		// A retry may lead to another kind of address: the rule is that of the address.
		r = start(t, sandboxproxy.Config{}, at(dead(t), resolve.Upstream{Address: address, Prefix: c.prefix}))
		if got := read(t, r.do(t, "GET", c.path, nil, "X-EXECD-ACCESS-TOKEN", token).Body); got != c.want {
			t.Errorf("%s, second attempt: %d bytes of a token, want %d", name, len(got), len(c.want))
		}
		dying := resolve.Upstream{Address: dead(t).Address, Prefix: "/proxy/1"}
		r = start(t, sandboxproxy.Config{}, at(dying, resolve.Upstream{Address: address, Prefix: c.prefix}))
		if got := read(t, r.do(t, "GET", c.path, nil, "X-EXECD-ACCESS-TOKEN", token).Body); got != c.want {
			t.Errorf("%s, second attempt after the daemon: %d bytes of a token, want %d", name, len(got), len(c.want))
		}
		secrettest.Absent(t, "the log", r.log.String())
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	app := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Set-Cookie", "a=1")
		h.Add("Set-Cookie", "b=2")
		h.Set("Saw-Encoding", strings.Join(r.Header["Accept-Encoding"], ","))
		h.Set("Content-Encoding", "gzip")
		h.Set("Location", "/elsewhere")
		h.Set("Trailer", "Sum")
		w.WriteHeader(http.StatusFound)
		_, _ = io.WriteString(w, "\x1f\x8bnot really")
		h.Set("Sum", "42")
	})
	r := start(t, sandboxproxy.Config{}, at(direct(app)))
	res := r.do(t, "GET", "/sb/8/", nil)
	body := read(t, res.Body)
	if res.StatusCode != http.StatusFound || res.Header.Get("Location") != "/elsewhere" {
		t.Errorf("%d %q: the redirect is the client's to follow", res.StatusCode, res.Header.Get("Location"))
	}
	if diff := cmp.Diff([]string{"a=1", "b=2"}, res.Header["Set-Cookie"]); diff != "" {
		t.Errorf("Set-Cookie (-want +got):\n%s", diff)
	}
	if res.Header.Get("Saw-Encoding") != "" || res.Header.Get("Content-Encoding") != "gzip" || body != "\x1f\x8bnot really" {
		t.Errorf("encoding was touched: %v %q", res.Header, body)
	}
	if res.Trailer.Get("Sum") != "42" {
		t.Errorf("trailer %v", res.Trailer)
	}
	if got := res.Header.Get("Reverse-Proxy-Server-PowerBy"); got != "OpenSandbox-ingress" {
		t.Errorf("Reverse-Proxy-Server-PowerBy %q", got)
	}
	if got := r.do(t, "GET", "/sb/8/", nil, "Accept-Encoding", "br").Header.Get("Saw-Encoding"); got != "br" {
		t.Errorf("Accept-Encoding %q, want the client's own", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	gone := &directory{answers: []answer{{err: fault.New(fault.NotFound, "sandbox not found: sb").WithCode("C::NF")}}}
	r := start(t, sandboxproxy.Config{}, gone)
	wantError(t, r.do(t, "GET", "/sb/8/", nil), 404, "C::NF", "sandbox not found: sb")
	wantError(t, r.do(t, "GET", "/sb/08/", nil), 400, "INGRESS::INVALID_ROUTE",
		"invalid ingress route: the port is not a number from 1 to 65535 without a leading zero")
	if gone.asked != 1 || len(r.uses.got) != 0 {
		t.Errorf("asked %d times, uses %v", gone.asked, r.uses.got)
	}

	paused := &directory{answers: []answer{{err: fault.New(fault.Unavailable, "sandbox not ready: x").RetryAfter(1e9)}}}
	res := start(t, sandboxproxy.Config{}, paused).do(t, "GET", "/sb/8/", nil)
	if res.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", res.Header.Get("Retry-After"))
	}
	wantError(t, res, 503, "UNAVAILABLE", "sandbox not ready: x")
}

func TestDialFailures(t *testing.T) {
	t.Parallel()
	echo := upstream(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	const nothing = "nothing answers on port 8 of the sandbox"

	moved := at(dead(t), direct(echo))
	if res := start(t, sandboxproxy.Config{}, moved).do(t, "GET", "/sb/8/", nil); res.StatusCode != 200 || moved.asked != 2 || len(moved.forgot) != 1 {
		t.Errorf("moved: %d, asked %d times, forgot %v", res.StatusCode, moved.asked, moved.forgot)
	}

	never := at(dead(t))
	wantError(t, start(t, sandboxproxy.Config{}, never).do(t, "GET", "/sb/8/", nil), 502, "BACKEND_CONNECTION_FAILED", nothing)
	if never.asked != 2 || len(never.forgot) != 2 {
		t.Errorf("never: asked %d times, forgot %v, want one retry", never.asked, never.forgot)
	}

	// A body cannot be sent twice, but the next request gets the new address.
	body := at(dead(t), direct(echo))
	r := start(t, sandboxproxy.Config{}, body)
	wantError(t, r.do(t, "POST", "/sb/8/", strings.NewReader("x")), 502, "BACKEND_CONNECTION_FAILED", nothing)
	if body.asked != 1 || len(body.forgot) != 1 {
		t.Errorf("body: asked %d times, forgot %v", body.asked, body.forgot)
	}
	if got := read(t, r.do(t, "POST", "/sb/8/", strings.NewReader("x")).Body); got != "x" {
		t.Errorf("the next request got %q", got)
	}

	ended := &directory{answers: []answer{{up: dead(t)}, {err: fault.New(fault.NotFound, "sandbox not found: sb").WithCode("C::NF")}}}
	wantError(t, start(t, sandboxproxy.Config{}, ended).do(t, "GET", "/sb/8/", nil), 404, "C::NF", "sandbox not found: sb")
}

// What may have reached the application is never sent again.
func TestBrokenAnswersAreNotRepeated(t *testing.T) {
	t.Parallel()
	requests := make(chan string, 10)
	app := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		requests <- r.Method
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = c.Close()
		}
	})
	d := at(direct(app))
	r := start(t, sandboxproxy.Config{}, d)
	for _, method := range []string{"GET", "POST"} {
		wantError(t, r.do(t, method, "/sb/8/", nil), 502, "BACKEND_RESPONSE_FAILED",
			"the connection to port 8 of the sandbox broke before an answer came")
	}
	if len(requests) != 2 || d.asked != 2 || len(d.forgot) != 0 {
		t.Errorf("%d requests, asked %d times, forgot %v", len(requests), d.asked, d.forgot)
	}
}
