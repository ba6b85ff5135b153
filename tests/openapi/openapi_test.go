package openapi_test

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"opensandbox/tests/openapi"
)

// served is the part of the served document that is written by hand: all routes but those at the root.
func served(t *testing.T) *openapi.Document {
	t.Helper()
	text, err := os.ReadFile("../../services/api/internal/httpapi/openapi/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	d, err := openapi.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func answer(status int, body string, header ...string) openapi.Answer {
	h := http.Header{"X-Request-Id": {"r"}, "Content-Type": {"application/json"}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return openapi.Answer{Status: status, Header: h, Body: []byte(body)}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	d := served(t)
	const one = `{"id":"a","image":{"uri":"i"},"status":{"state":"Running"},"entrypoint":["x"],"createdAt":"2026-01-02T03:04:05Z"}`
	const missing = `{"code":"DOCKER::SANDBOX_NOT_FOUND","message":"m"}`
	for name, c := range map[string]struct {
		method, path string
		answer       openapi.Answer
		want         string // a part of the error; empty: none
	}{
		"good":                    {"GET", "/v1/sandboxes/a", answer(200, one), ""},
		"tidied":                  {"GET", "//v1/v1/sandboxes//a/", answer(200, one), ""},
		"good error":              {"GET", "/v1/sandboxes/a", answer(404, missing), ""},
		"empty":                   {"DELETE", "/v1/sandboxes/a", answer(204, ""), ""},
		"text":                    {"GET", "/v1/sandboxes/a/diagnostics/inspect", answer(200, "x", "Content-Type", "text/plain; charset=utf-8"), ""},
		"no route":                {"GET", "/v1/nothing", answer(404, `{"code":"NOT_FOUND","message":"m"}`), ""},
		"no method":               {"PUT", "/v1/sandboxes/a", answer(405, `{"code":"METHOD_NOT_ALLOWED","message":"m"}`), ""},
		"a program's answer":      {"GET", "/v1/sandboxes/a/proxy/80/b/c", answer(418, "<html>"), ""},
		"undocumented status":     {"GET", "/v1/sandboxes/a", answer(409, missing), "409 is not documented"},
		"undocumented code":       {"GET", "/v1/sandboxes/a", answer(404, `{"code":"OTHER","message":"m"}`), `"OTHER" is not documented`},
		"undocumented type":       {"GET", "/v1/sandboxes/a", answer(200, one, "Content-Type", "text/html"), "content type"},
		"undocumented header":     {"GET", "/v1/sandboxes/a", answer(200, one, "Retry-After", "1"), "Retry-After"},
		"undocumented field":      {"GET", "/v1/sandboxes/a", answer(200, strings.Replace(one, `"id"`, `"more":1,"id"`, 1)), "more"},
		"null":                    {"GET", "/v1/sandboxes/a", answer(200, strings.Replace(one, `["x"]`, `null`, 1)), "entrypoint"},
		"unknown state":           {"GET", "/v1/sandboxes/a", answer(200, strings.Replace(one, "Running", "Walking", 1)), "state"},
		"time that is none":       {"GET", "/v1/sandboxes/a", answer(200, strings.Replace(one, "2026-01-02T", "2026-01-02 ", 1)), "createdAt"},
		"missing field":           {"GET", "/v1/sandboxes/a", answer(200, `{}`), "missing"},
		"not JSON":                {"GET", "/v1/sandboxes/a", answer(200, `{`), "not JSON"},
		"body where none is":      {"DELETE", "/v1/sandboxes/a", answer(204, "x"), "none is documented"},
		"no request id":           {"DELETE", "/v1/sandboxes/a", answer(204, "", "X-Request-ID", ""), "X-Request-ID"},
		"route that is not there": {"GET", "/v1/nothing", answer(200, `{}`), "not documented"},
		"method of another":       {"PUT", "/v1/sandboxes/a", answer(200, `{}`), "not documented"},
		"error of no form":        {"GET", "/v1/nothing", answer(404, `{"detail":"Not Found"}`), "code"},
	} {
		err := d.Check(c.method, c.path, c.answer)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v; want %q in it", name, err, c.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{``, `{}`, `{"paths":{"/a":{"get":1}},"components":{"schemas":{"Error":{}}}}`,
		`{"paths":{"/a":{"get":{"responses":{"200":{"content":{"application/json":{"schema":{"type":3}}}}}}}},"components":{"schemas":{"Error":{}}}}`} {
		if _, err := openapi.Parse([]byte(text)); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}
