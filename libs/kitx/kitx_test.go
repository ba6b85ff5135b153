package kitx_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"opensandbox/libs/fault"
	"opensandbox/libs/kitx"
)

type greeting struct {
	Text string `json:"text"`
}

// newKit has a route for each way an operation can end.
func newKit(t *testing.T) (*kitx.Kit, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	k, err := kitx.New(slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	name := func(_ context.Context, r *http.Request) (string, error) { return r.PathValue("name"), nil }
	kitx.Route(k, "GET /hello/{name}", kitx.Op("Hello", 200), name, func(_ context.Context, n string) (greeting, error) { return greeting{"hello " + n}, nil })
	kitx.Route(k, "DELETE /hello/{name}", kitx.Op("Bye", 204), name, func(context.Context, string) (kitx.None, error) { return kitx.None{}, nil })
	kitx.Route(k, "POST /hello/{name}", kitx.Op("Again", 202), name, func(context.Context, string) (kitx.None, error) { return kitx.None{}, nil })
	kitx.Route(k, "GET /panic", kitx.Op("Panic", 200), name, func(context.Context, string) (kitx.None, error) { panic("secret of the panic") })
	kitx.Route(k, "POST /body", kitx.Op("Body", 200), kitx.ReadJSON, func(_ context.Context, b []byte) (greeting, error) { return greeting{string(b)}, nil })
	return k, &log
}

func do(k http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	k.ServeHTTP(w, r)
	return w
}

func envelope(t *testing.T, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	var e map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e["code"] == "" || e["message"] == "" {
		t.Fatalf("%d %s: not the envelope", w.Code, w.Body)
	}
	return e
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	k, log := newKit(t)
	if w := do(k, "GET", "/hello/you", ""); w.Code != 200 || w.Body.String() != `{"text":"hello you"}` || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("hello: %d %s %v", w.Code, w.Body, w.Header())
	}
	if w := do(k, "DELETE", "/hello/you", ""); w.Code != 204 || w.Body.Len() != 0 {
		t.Errorf("bye: %d %s", w.Code, w.Body)
	}
	if w := do(k, "POST", "/hello/you", ""); w.Code != 202 || w.Header().Get("Content-Length") != "0" {
		t.Errorf("again: %d %v", w.Code, w.Header())
	}
	w := do(k, "PUT", "/hello/you", "")
	if e := envelope(t, w); w.Code != 405 || e["code"] != "METHOD_NOT_ALLOWED" || !strings.Contains(w.Header().Get("Allow"), "DELETE") {
		t.Errorf("wrong method: %d %v %v", w.Code, e, w.Header())
	}
	w = do(k, "GET", "/nothing", "")
	if e := envelope(t, w); w.Code != 404 || e["code"] != "NOT_FOUND" {
		t.Errorf("no route: %d %v", w.Code, e)
	}
	for _, p := range []string{"/hello/./you", "/x/../hello/you", "//hello/you"} {
		if w := do(k, "GET", p, ""); w.Code != 404 {
			t.Errorf("%s: %d, want no redirect", p, w.Code)
		}
	}
	w = do(k, "GET", "/panic", "")
	if e := envelope(t, w); w.Code != 500 || strings.Contains(fmt.Sprint(e), "secret") || !strings.Contains(log.String(), "secret of the panic") {
		t.Errorf("panic: %d %v; the log must have it and the client not", w.Code, e)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"classified":   {fmt.Errorf("wrapped: %w", fault.New(fault.Conflict, "no").WithCode("X::Y")), 409, "X::Y"},
		"without code": {fault.New(fault.Forbidden, "no"), 403, "FORBIDDEN"},
		"plain":        {errors.New("password=secret"), 500, "INTERNAL_ERROR"},
		"too slow":     {context.DeadlineExceeded, 503, "UNAVAILABLE"},
		"too large":    {&http.MaxBytesError{Limit: 3}, 413, "PAYLOAD_TOO_LARGE"},
	} {
		w := httptest.NewRecorder()
		kitx.WriteError(w, c.err)
		if e := envelope(t, w); w.Code != c.status || e["code"] != c.code || strings.Contains(fmt.Sprint(e), "secret") {
			t.Errorf("%s: %d %v, want %d %s", name, w.Code, e, c.status, c.code)
		}
	}
	w := httptest.NewRecorder()
	kitx.WriteError(w, fault.New(fault.Unavailable, "later").RetryAfter(1500*time.Millisecond).About("id-1").WithDetails(fault.Detail{Field: "a", Problem: "b"}))
	if e := envelope(t, w); w.Header().Get("Retry-After") != "2" || e["sandboxId"] != "id-1" || e["details"] == nil {
		t.Errorf("%v %v", w.Header(), e)
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	k, _ := newKit(t)
	for name, c := range map[string]struct {
		body, kind string
		status     int
	}{
		"good":        {`{"a":[1,2,{"b":"}]"}]}`, "application/json", 200},
		"good +json":  {`{}`, "application/merge-patch+json; charset=utf-8", 200},
		"empty":       {"", "application/json", 400},
		"half":        {`{"a":`, "application/json", 400},
		"two":         {`{} {}`, "application/json", 400},
		"not UTF-8":   {"{\"a\":\"\xff\"}", "application/json", 400},
		"deep":        {strings.Repeat("[", 65) + strings.Repeat("]", 65), "application/json", 400},
		"deep enough": {strings.Repeat("[", 64) + strings.Repeat("]", 64), "application/json", 200},
		"other type":  {"a=b", "application/x-www-form-urlencoded", 415},
		"no type":     {"{}", "", 415},
	} {
		if w := do(k, "POST", "/body", c.body, "Content-Type", c.kind); w.Code != c.status {
			t.Errorf("%s: %d %s, want %d", name, w.Code, w.Body, c.status)
		}
	}
}

func FuzzCheckJSON(f *testing.F) {
	f.Add([]byte(`{"a":["\"",1]}`))
	f.Add([]byte(`[[[`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := kitx.CheckJSON(b); (err == nil) && !json.Valid(b) {
			t.Errorf("%q was taken", b)
		}
	})
}

// refusal is an error with a header of its own.
type refusal struct{ error }

func (refusal) Headers() http.Header { return http.Header{"X-Why": {"because"}} }
func (r refusal) Unwrap() error      { return r.error }

func TestHeadersAndText(t *testing.T) {
	t.Parallel()
	k, _ := newKit(t)
	name := func(_ context.Context, r *http.Request) (string, error) { return r.PathValue("name"), nil }
	kitx.Route(k, "GET /text/{name}", kitx.Op("Text", 200), name, func(_ context.Context, n string) (kitx.Text, error) {
		if n == "none" {
			return kitx.Text{}, fmt.Errorf("wrapped: %w", refusal{fault.New(fault.NotFound, "no such text")})
		}
		return kitx.Text{Body: "é\n", Header: http.Header{"Deprecation": {"true"}}}, nil
	})
	if w := do(k, "GET", "/text/x", ""); w.Code != 200 || w.Body.String() != "é\n" || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" ||
		w.Header().Get("Content-Length") != "3" || w.Header().Get("Deprecation") != "true" {
		t.Errorf("text: %d %q %v", w.Code, w.Body, w.Header())
	}
	w := do(k, "GET", "/text/none", "")
	if e := envelope(t, w); w.Code != 404 || e["message"] != "no such text" || w.Header().Get("X-Why") != "because" {
		t.Errorf("error: %d %v %v", w.Code, e, w.Header())
	}
}

// An error that has a class keeps it, although a time-out is behind it.
func TestClassedErrorsKeepTheirClass(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	kitx.WriteError(w, fault.New(fault.NotFound, "gone").WithCode("X").Because(context.DeadlineExceeded))
	if e := envelope(t, w); w.Code != 404 || e["code"] != "X" || e["message"] != "gone" {
		t.Errorf("%d %v", w.Code, e)
	}
}
