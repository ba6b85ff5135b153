package agentrpc

import (
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"opensandbox/libs/secrettest"
)

func TestSignedCallsAreChecked(t *testing.T) {
	t.Parallel()
	secret := secrettest.New("the shared secret")
	s, err := newSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_700_000_000, 0)
	for path, status := range map[string]int{
		"/internal/v1/sandboxes/a/logs?epoch=1":            200,
		"/internal/v1/sandboxes/a/logs?epoch=1&tail=0":     400,
		"/internal/v1/sandboxes/a/logs?epoch=1&tail=x":     400,
		"/internal/v1/sandboxes/a/logs?epoch=1&tail=":      400,
		"/internal/v1/sandboxes/a/logs?epoch=-1":           400,
		"/internal/v1/sandboxes/a/logs":                    400,
		"/internal/v1/sandboxes/a/events?epoch=1&limit=-5": 400,
		"/internal/v1/sandboxes/a/inspect?epoch=1":         200,
		"/internal/v1/sandboxes/a/exec?epoch=1":            404,
		"/internal/v1/sandboxes//logs?epoch=1":             404,
		"/":                                                404,
	} {
		h, err := NewHandler(ServerConfig{Node: "n", Secret: secret, Clock: func() time.Time { return now }, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}, none{})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", path, nil)
		s.sign(r, "n", now)
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != status {
			t.Errorf("%s: %d %s, want %d", path, w.Code, w.Body, status)
		}
	}
}

func TestRefusalsDoNotFillTheLog(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	now := time.Unix(1_700_000_000, 0)
	h, err := NewHandler(ServerConfig{Node: "n", Secret: secrettest.New("the shared secret"), Clock: func() time.Time { return now }, Registry: prometheus.NewRegistry(),
		Log: slog.New(slog.NewTextHandler(&log, nil))}, none{})
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		now = now.Add(100 * time.Millisecond)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "count=600") {
		t.Errorf("%d lines for 100 s of refusals, want 2:\n%s", n, log.String())
	}
}

func FuzzParse(f *testing.F) {
	f.Add("v1,1700000000," + strings.Repeat("0f", 32))
	f.Add("v1,-1," + strings.Repeat("00", 32))
	f.Add("v1,01," + strings.Repeat("00", 32))
	f.Add(",,")
	f.Add("")
	s, err := newSigner(secrettest.New("the shared secret"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, mac, err := parse(text)
		if err == nil && format(at, mac) != text {
			t.Errorf("%q reads as %d, %x, which is written %q", text, at, mac, format(at, mac))
		}
		if err != nil && !errors.Is(err, errMalformed) {
			t.Errorf("%q: %v", text, err)
		}
		r := httptest.NewRequest("GET", "/internal/v1/sandboxes/a/logs?epoch=1", nil)
		r.Header.Set(Header, text)
		if s.check(r, "n", time.Unix(at, 0)) == nil {
			t.Errorf("%q passes, and nobody who knows the secret made it", text)
		}
	})
}
