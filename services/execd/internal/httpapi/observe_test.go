package httpapi

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/secrettest"
	"opensandbox/services/execd/internal/files"
)

// TestObserver: routes by their pattern, statuses as they were sent, and a log without secrets.
func TestObserver(t *testing.T) {
	t.Parallel()
	var seen []string
	var log bytes.Buffer
	secret := secrettest.New("a part of an observed path")
	api := New(Config{
		Files: files.New(nil, nil), Port: 44772, Log: slog.New(slog.NewTextHandler(&log, nil)),
		Proxy: func(w http.ResponseWriter, _ *http.Request, _ int, _ string) { w.WriteHeader(http.StatusTeapot) },
		Observer: func(method, route string, status int, _ time.Duration) {
			seen = append(seen, method+" "+route+" "+http.StatusText(status))
		},
	})
	for _, path := range []string{
		"/ping", "/files/info?path=/", "/proxy/44772/ping", "/proxy/80/a", "/nope", "/proxy/0/", "/v1/filesystem/x/1/files/info?path=" + secret,
		"/x/API_KEY=" + secret,
	} {
		api.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	want := []string{
		"GET /ping OK", "GET /files/info OK", "GET /ping OK", "GET /proxy/{} I'm a teapot", "GET unknown Not Found", "GET unknown Bad Request",
		"GET /v1/filesystem/{}/{}/files/info Bad Request", "GET unknown Not Found",
	}
	if got := strings.Join(seen, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
	if got := log.String(); strings.Count(got, "msg=request") != len(want) || !strings.Contains(got, "method=GET path=/ping status=200") {
		t.Errorf("log:\n%s", got)
	}
	secrettest.Absent(t, "the log", log.String())
}
