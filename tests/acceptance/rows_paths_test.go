//go:build e2e

package acceptance

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// untidy are the ways in which clients write a path below a base URL that ends in a slash or in /v1.
func untidy(path string) []string {
	return []string{path, "/v1" + path, "/v1/v1" + path, "//v1" + path, "/v1/" + path, "//v1//v1/" + path, "/v1" + strings.ReplaceAll(path, "/", "//"), "/v1" + path + "/"}
}

// Whatever is asked for, a doubled slash and a doubled /v1 are as if they were not there.
func TestRow18UntidyPathsOfTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	for _, create := range untidy("/sandboxes") {
		a := s.do("POST", create, spec(nil))
		if a.status != http.StatusAccepted {
			t.Errorf("POST %s: %v", create, a)
			continue
		}
		s.do("DELETE", "/v1/sandboxes/"+a.json(t)["id"].(string), nil)
	}
	id := s.create(nil)
	one := "/sandboxes/" + id
	for _, c := range []struct {
		method, path string
		body         any
		want         int
	}{
		{"GET", "/sandboxes", nil, 200},
		{"GET", one, nil, 200},
		{"GET", one + "/endpoints/44772", nil, 200},
		{"GET", one + "/diagnostics/inspect", nil, 200},
		{"PATCH", one + "/metadata", m{"a": "b"}, 200},
		{"POST", one + "/renew-expiration", m{"expiresAt": "2099-01-01T00:00:00Z"}, 200},
		{"GET", "/snapshots", nil, 501},
		{"GET", "/sandboxes/none", nil, 404},
		{"DELETE", "/sandboxes/none", nil, 404},
		{"PUT", one, nil, 405},
		{"GET", one + "/proxy/44772/ping", nil, 200},
	} {
		for _, path := range untidy(c.path) {
			a := s.do(c.method, path, c.body)
			if a.status != c.want {
				t.Errorf("%s %s: %v, want %d", c.method, path, a, c.want)
			}
			if a.header.Get("X-Request-ID") == "" {
				t.Errorf("%s %s: no X-Request-ID", c.method, path)
			}
		}
	}
	for _, action := range []string{"/pause", "/resume"} {
		for _, path := range []string{"//v1//sandboxes//" + id + "/" + action, "/v1/v1/sandboxes/" + id + action} {
			if a := s.do("POST", path, nil); a.status != http.StatusAccepted && a.status != http.StatusConflict { // the second is refused: it is done
				t.Errorf("POST %s: %v", path, a)
			}
		}
	}
	if a := s.do("DELETE", "//v1/v1//sandboxes//"+id, nil); a.status != http.StatusNoContent {
		t.Errorf("delete: %v", a)
	}
}

// The same for the daemon, asked directly and through the server.
func TestRow18UntidyPathsOfTheDaemon(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	direct, header := s.endpoint(id, 44772)
	proxied, proxiedHeader := s.through(id, 44772)
	for _, c := range []struct {
		method, path string
		body         any
		want         int
	}{
		{"GET", "/ping", nil, 200},
		{"GET", "//ping", nil, 200},
		{"GET", "/ping/", nil, 200},
		{"GET", "/metrics//", nil, 200},
		{"GET", "//files//info?path=/tmp", nil, 200},
		{"POST", "//command", m{"command": "true"}, 200},
		{"POST", "/command/", m{"command": "true"}, 200},
		{"GET", "/v1/isolated/capabilities", nil, 200},
		{"GET", "/v1/v1/isolated/capabilities", nil, 200},
		{"GET", "//v1//v1//isolated//capabilities", nil, 200},
		{"GET", "/v1/v1/filesystem/0/0/files/info?path=/", nil, 200},
		{"GET", "//nothing", nil, 404},
		{"PUT", "//command", nil, 405},
	} {
		for base, header := range map[string][]string{direct: header, proxied: proxiedHeader} {
			a, err := request(c.method, base+c.path, c.body, header...)
			if err != nil || a.status != c.want {
				t.Errorf("%s %s: %v %v, want %d", c.method, base+c.path, a, err, c.want)
			}
			if a.header.Get("X-Request-ID") == "" {
				t.Errorf("%s %s: no X-Request-ID", c.method, base+c.path)
			}
		}
	}
	for _, base := range []string{strings.Replace(direct, "/proxy/44772", "//proxy//44772", 1), strings.Replace(direct, "/proxy/44772", "", 1)} {
		if a, err := request("GET", base+"//ping", nil, header...); err != nil || a.status != http.StatusOK {
			t.Errorf("%s//ping: %v %v", base, a, err)
		}
	}
	for _, path := range untidy("/sandboxes/" + id + "/proxy/44772/ping") {
		if a, err := request("GET", s.base+path, nil, proxiedHeader...); err != nil || a.status != http.StatusOK {
			t.Errorf("%s: %v %v", path, a, err)
		}
	}
}

// A published client whose domain ends in a slash or in /v1 works, directly and through the server.
func TestRow18UntidyDomainsOfTheCLI(t *testing.T) {
	t.Parallel()
	c := withProxiedCLI(t)
	for _, domain := range []string{c.host + "/", "http://" + c.host + "/v1", "http://" + c.host + "/v1/"} {
		c.configure(domain)
		id := c.sandbox()
		c.steps(id, []step{
			{"", []string{"sandbox", "get", id, "-o", "json"}, "Running"},
			{"POST /command", []string{"command", "run", id, "--", "echo", "said"}, "said\n"},
			{"POST /command", []string{"--use-server-proxy", "command", "run", id, "--", "echo", "said"}, "said\n"},
			{"", []string{"--no-use-server-proxy", "command", "run", id, "--", "echo", "said"}, "said\n"},
			{"", []string{"sandbox", "kill", id}, ""},
		})
	}
}

// Every answer has an id: that of the request, or else one that is made, and never a bad one.
func TestRow18EveryAnswerHasARequestID(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	direct, header := s.endpoint(id, 44772)
	proxied, proxiedHeader := s.through(id, 44772)
	key := []string{"OPEN-SANDBOX-API-KEY", apiKey}
	one := s.base + "/v1/sandboxes/" + id
	for _, c := range []struct {
		method, url string
		body        any
		header      []string
		want        int
	}{
		{"GET", s.base + "/v1/sandboxes", nil, nil, 401},
		{"GET", s.base + "/nothing", nil, key, 404},
		{"PUT", s.base + "/v1/sandboxes", nil, key, 405},
		{"POST", s.base + "/v1/sandboxes", "{", key, 400},
		{"POST", s.base + "/v1/sandboxes", "x", append([]string{"Content-Type", "text/plain"}, key...), 415},
		{"GET", s.base + "/v1/snapshots", nil, key, 501},
		{"GET", s.base + "/openapi.json", nil, key, 200},
		{"GET", one + "/diagnostics/inspect", nil, key, 200},
		{"GET", one + "/endpoints/44772", nil, key, 200},
		{"GET", one + "/proxy/9/", nil, key, 502},
		{"GET", one + "/proxy/0/", nil, key, 400},
		{"GET", s.base + "/v1/sandboxes/none/proxy/8080/", nil, key, 404},
		{"GET", proxied + "/ping", nil, proxiedHeader, 200},
		{"POST", proxied + "/command", m{"command": "true"}, nil, 401},
		{"POST", proxied + "/command", m{"command": "true"}, proxiedHeader, 200},
		{"GET", direct + "/ping", nil, nil, 200},
		{"GET", direct + "/nothing", nil, header, 404},
		{"PUT", direct + "/command", nil, header, 405},
		{"POST", direct + "/command", m{"command": "true"}, nil, 401},
		{"POST", direct + "/command", m{"command": "true"}, header, 200},
		{"POST", direct + "/files/mv", "{", header, 400},
		{"GET", strings.Replace(direct, "/proxy/44772", "/proxy/9", 1), nil, header, 502},
		{"POST", one + "/pause", nil, key, 202},
		{"POST", one + "/resume", nil, key, 202},
		{"DELETE", one, nil, key, 204},
	} {
		a, err := request(c.method, c.url, c.body, append([]string{"X-Request-ID", "mine-2"}, c.header...)...)
		if err != nil || a.status != c.want || a.header.Get("X-Request-ID") != "mine-2" {
			t.Errorf("%s %s: %v %v, id %q; want %d and mine-2", c.method, c.url, a, err, a.header.Get("X-Request-ID"), c.want)
		}
		if len(a.header.Values("X-Request-ID")) > 1 {
			t.Errorf("%s %s: ids %q", c.method, c.url, a.header.Values("X-Request-ID"))
		}
		if c.want < 300 && c.method != "GET" {
			continue // not a second time
		}
		if a, err := request(c.method, c.url, c.body, c.header...); err != nil || a.header.Get("X-Request-ID") == "" {
			t.Errorf("%s %s: %v, made id %q", c.method, c.url, err, a.header.Get("X-Request-ID"))
		}
	}
}

// Nothing that the document of the API names is answered with a redirect, with a slash at the end or without. The pages for people are not
// looked at: they load their parts by relative names, so that /docs/ has to lead to /docs, and no client asks for them.
func TestRow08NoRouteRedirects(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	paths, ok := s.do("GET", "/openapi.json", nil).json(t)["paths"].(m)
	if !ok || len(paths) == 0 {
		t.Fatal("the document names no paths")
	}
	fill := strings.NewReplacer("{id}", "none", "{sandboxId}", "none", "{sandbox_id}", "none", "{port}", "8080")
	asked := []string{"GET /", "GET /nothing", "POST /nothing", "GET /v1", "GET /sandboxes/none/proxy/8080", "GET /v1/sandboxes/none/proxy"}
	for path, of := range paths {
		if strings.HasPrefix(path, "/docs") || path == "/redoc" || path == "/openapi.json" {
			continue
		}
		for method := range of.(m) {
			asked = append(asked, strings.ToUpper(method)+" "+fill.Replace(path))
		}
	}
	for _, a := range asked {
		method, path, _ := strings.Cut(a, " ")
		for _, path := range append(untidy(path), strings.TrimPrefix(path, "/v1"), strings.TrimSuffix(path, "/")+"//") {
			req, err := http.NewRequestWithContext(t.Context(), method, s.base+path, nil)
			if err != nil {
				continue // parameters and others are no methods
			}
			req.Header.Set("OPEN-SANDBOX-API-KEY", apiKey)
			res, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Errorf("%s %s: %v", method, path, err)
				continue
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode/100 == 3 || res.Header.Get("Location") != "" {
				t.Errorf("%s %s: %d to %q", method, path, res.StatusCode, res.Header.Get("Location"))
			}
		}
	}
}
