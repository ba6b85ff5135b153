package httpapi

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// TestExecutionsAreCounted: commands, runs of sessions and snippets, each with its outcome, before the client hears of the end.
func TestExecutionsAreCounted(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	s, _ := withKernelsAnd(t, setup{executed: func(operation string, ok bool, took time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if seen = append(seen, fmt.Sprint(operation, " ", ok)); took < 0 {
			t.Errorf("%s took %s", operation, took)
		}
	}})
	session := s.session(object{})
	for _, tt := range []struct {
		path string
		body object
		want []string
	}{
		{"/command", object{"command": "true"}, []string{"run_command true"}},
		{"/command", object{"command": "exit 3"}, []string{"run_command false"}},
		{"/command", object{"command": "true", "background": true}, []string{"run_command true"}},
		{"/command", object{"argv": []string{"/no/such/program"}}, []string{"run_command false"}},
		{"/command", object{}, nil},
		{"/code", object{"code": "true", "context": object{"language": "command"}}, []string{"run_command true"}},
		{session + "/run", object{"command": "true"}, []string{"run_in_session true"}},
		{session + "/run", object{"command": "exit 3"}, []string{"run_in_session false"}},
		{session + "/run", object{"command": "sleep 1000", "timeout": 1}, []string{"run_in_session false"}},
		{"/session/none/run", object{"command": "true"}, nil},
		{"/code", snippet("1 + 1", "", "python"), []string{"run_code true"}},
		{"/code", snippet("1 / 0", "", "python"), []string{"run_code false"}},
		{"/code", snippet("import os; os._exit(3)", "", "python"), []string{"run_code false"}},
		{"/code", snippet("1", "none", "python"), nil},
	} {
		s.do("POST", tt.path, tt.body)
		mu.Lock()
		if d := cmp.Diff(tt.want, seen); d != "" {
			t.Errorf("%s %v (-want +got):\n%s", tt.path, tt.body, d)
		}
		seen = nil
		mu.Unlock()
	}
}
