package httpx_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"opensandbox/libs/httpx"
	"opensandbox/libs/secrettest"
)

// lines are what a logger has written.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	out := make(lines, 10)
	handler := httpx.WithAccessLog(slog.New(slog.NewJSONHandler(out, nil)), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.Path
		r.URL.Path = "/rewritten"
		switch path {
		case "/plain":
			fmt.Fprint(w, "hello")
		case "/early":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTeapot)
		case "/copy":
			_, _ = io.Copy(w, strings.NewReader("copied"))
		case "/hijack":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close()
		case "/panic":
			panic(http.ErrAbortHandler)
		}
	}))
	for _, c := range []struct {
		path   string
		status int
		bytes  int
	}{{"/plain", 200, 5}, {"/early", 418, 0}, {"/copy", 200, 6}, {"/hijack", 101, 0}, {"/nothing", 200, 0}, {"/panic", 0, 0}} {
		server := httptest.NewServer(handler)
		resp, err := server.Client().Get(server.URL + c.path + "?token=" + secrettest.New("a token in the query"))
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		server.Close()
		var line struct {
			Client, Method, Path string
			Status, Bytes        int
		}
		text := <-out
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%s: %v in %q", c.path, err, text)
		}
		if line.Client != "127.0.0.1" || line.Method != "GET" || line.Path != c.path || line.Status != c.status || line.Bytes != c.bytes {
			t.Errorf("%s: %+v", c.path, line)
		}
		secrettest.Absent(t, "the line of "+c.path, text)
	}
	if httpx.WithAccessLog(nil, handler) == nil {
		t.Error("no handler")
	}
}

func TestBacklog(t *testing.T) {
	t.Parallel()
	s, err := httpx.Listen(t.Context(), httpx.Config{Address: "127.0.0.1:0", Backlog: 7})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
