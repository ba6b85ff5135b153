//go:build e2e

package acceptance

import (
	"strings"
	"testing"
)

// wantEnvelope fails unless a is an error with the envelope.
func wantEnvelope(t *testing.T, what string, a answer, status int) {
	t.Helper()
	e := a.json(t)
	if a.status != status || e["code"] == "" || e["code"] == nil || e["message"] == "" || e["message"] == nil {
		t.Errorf("%s: %v, want %d with code and message", what, a, status)
	}
	if !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") || a.header.Get("X-Request-ID") == "" {
		t.Errorf("%s: headers %v", what, a.header)
	}
}

func TestRow07EveryErrorHasTheEnvelope(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	url, header := s.endpoint(id, 44772)
	for _, c := range []struct {
		method, path string
		body         any
		header       []string
		want         int
	}{
		{"GET", "/v1/sandboxes", nil, []string{"OPEN-SANDBOX-API-KEY", ""}, 401},
		{"GET", "/v1/sandboxes", nil, []string{"OPEN-SANDBOX-API-KEY", "wrong"}, 401},
		{"GET", "/healthz", nil, []string{"OPEN-SANDBOX-API-KEY", ""}, 401},
		{"GET", "/v1/nothing", nil, nil, 404},
		{"GET", "/v1/sandboxes/unknown", nil, nil, 404},
		{"PUT", "/v1/sandboxes", nil, nil, 405},
		{"POST", "/v1/sandboxes", "{", nil, 400},
		{"POST", "/v1/sandboxes", m{}, nil, 400},
		{"POST", "/v1/sandboxes", "x", []string{"Content-Type", "text/plain"}, 415},
		{"POST", "/v1/sandboxes/" + id + "/resume", nil, nil, 409},
		{"GET", "/v1/snapshots", nil, nil, 501},
		{"GET", "/v1/templates", nil, nil, 501},
		{"GET", "/v1/pools", nil, nil, 501},
		{"GET", "/v1/sandboxes/" + id + "/networkpolicy", nil, nil, 501},
		{"GET", "/v1/sandboxes/unknown/diagnostics/logs", nil, nil, 404},
		{"GET", "/v1/sandboxes/" + id + "/diagnostics/logs?scope=nothing", nil, nil, 400},
		{"GET", "/v1/sandboxes/" + id + "/proxy/8080/a/b", nil, nil, 502},
	} {
		wantEnvelope(t, c.method+" "+c.path, s.do(c.method, c.path, c.body, c.header...), c.want)
	}
	for _, c := range []struct {
		method, path string
		body         any
		header       []string
		want         int
	}{
		{"GET", "/nothing", nil, header, 404},
		{"PUT", "/command", nil, header, 405},
		{"POST", "/command", "{", header, 400},
		{"POST", "/command", m{}, header, 400},
		{"GET", "/files/info?path=/nothing/there", nil, header, 404},
		{"GET", "/files/info?path=/", nil, nil, 401},
		{"POST", "/session/none/run", m{"command": "true"}, header, 500},
		{"DELETE", "/session/none", nil, header, 404},
		{"POST", "/code", m{}, header, 400},
		{"GET", "/v1/filesystem/root/0/files/info?path=/", nil, header, 400},
		{"POST", "/v1/isolated/session", m{}, header, 503},
	} {
		a, err := request(c.method, url+c.path, c.body, c.header...)
		if err != nil {
			t.Fatal(err)
		}
		wantEnvelope(t, "daemon "+c.method+" "+c.path, a, c.want)
	}
	closed := strings.Replace(url, "/proxy/44772", "/proxy/9", 1)
	a, err := request("GET", closed, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantEnvelope(t, "a port that nothing listens on", a, 502)
}

func TestRow08NoRedirects(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	url, header := s.endpoint(id, 44772)
	for _, path := range []string{"/v1/sandboxes/", "/sandboxes/", "//v1/sandboxes", "/v1//sandboxes", "/v1/v1/sandboxes", "/health/", "/v1/sandboxes/" + id + "/"} {
		if a := s.do("GET", path, nil); a.status != 200 {
			t.Errorf("%s: %v", path, a)
		}
	}
	for _, path := range []string{"/v1/./sandboxes", "/v1/x/../sandboxes"} {
		if a := s.do("GET", path, nil); a.status/100 == 3 {
			t.Errorf("%s: %v", path, a)
		}
	}
	for _, path := range []string{"/ping/", "//ping", "/metrics/"} {
		if a, err := request("GET", url+path, nil, header...); err != nil || a.status != 200 {
			t.Errorf("daemon %s: %v %v", path, a, err)
		}
	}
}

func TestRow18RequestIDs(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	for _, path := range []string{"/health", "/version", "/v1/sandboxes", "/v1/sandboxes/none", "/nothing"} {
		if got := s.do("GET", path, nil, "X-Request-ID", "mine-1").header.Get("X-Request-ID"); got != "mine-1" {
			t.Errorf("%s: id %q", path, got)
		}
		if got := s.do("GET", path, nil).header.Get("X-Request-ID"); len(got) != 32 {
			t.Errorf("%s: made id %q", path, got)
		}
	}
}
