package app

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestFarewell(t *testing.T) {
	t.Parallel()
	leaving := make(chan struct{})
	h := farewell(leaving, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	want := func(path string, status int) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != status {
			t.Errorf("%s: %d, want %d", path, w.Code, status)
		}
		if status == http.StatusServiceUnavailable && w.Header().Get("X-Request-ID") == "" {
			t.Errorf("%s: no request id", path)
		}
	}
	want("/health", http.StatusTeapot)
	close(leaving)
	want("/health", http.StatusServiceUnavailable)
	want("/v1/sandboxes", http.StatusTeapot)
}
