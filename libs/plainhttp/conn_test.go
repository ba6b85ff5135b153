package plainhttp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

const request = "GET /typed HTTP/1.1\r\nHost: h\r\n\r\n"

func TestJudge(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]verdict{
		"":                                incomplete,
		"G":                               incomplete,
		"GET / HTTP/1.1\r\nHost: h\r\n\r": incomplete,
		request:                           plain,
		request + "POST":                  plain,
		"GET / HTTP/1.1\r\nhOST: [::1]:80\r\nConnection: Keep-Alive\r\nX_y-Z:\xff\t;\r\n\r\n": plain,
		"P":                               other,
		"\r":                              other,
		"\x16\x03\x01":                    other,
		"GET / HTTP/1.1\r\n\r\n":          other,
		"GET / HTTP/1.1\r\nHost:\r\n\r\n": other,
		"GET / HTTP/1.1\r\nHost: h\r\nTE: x\r\n\r\n":                   other,
		"GET / HTTP/1.1\r\nHost: h\r\nContent-LENGTH: 0\r\n\r\n":       other,
		"GET / HTTP/1.1\r\nHost: h\r\ntransfer-Encoding: x\r\n\r\n":    other,
		"GET / HTTP/1.1\r\nHost: h\r\nTrailer: x\r\n\r\n":              other,
		"GET / HTTP/1.1\r\nHost: h\r\nHTTP2-Settings: x\r\n\r\n":       other,
		"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\r\n":     other,
		"GET / HTTP/1.1\r\nHost: h\r\nContent-Length : 1\r\n\r\n":      other,
		"GET / HTTP/1.1\r\nHost: h\r\nX: a\nContent-Length: 1\r\n\r\n": other,
		"GET / HTTP/1.1\r\nHost: h\r\nX: a\rContent-Length: 1\r\n\r\n": other,
	} {
		length, got := judge([]byte(in))
		if got != want || got == plain && (length > len(in) || !strings.HasSuffix(in[:length], "\r\n\r\n")) {
			t.Errorf("%q: %d (length %d), want %d", in, got, length, want)
		}
	}
}

// ask sends a request and reads its answer.
func ask(t *testing.T, c io.Writer, in *bufio.Reader, request string) (status int, body string) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// Requests that come in pieces, together, or while another one is answered are all answered, in their order.
func TestOneAfterTheOther(t *testing.T) {
	t.Parallel()
	wait := make(chan struct{})
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-wait
		}
		_, _ = io.WriteString(w, r.URL.Path)
	}), true)
	c := s.dial(t)
	in := bufio.NewReader(c)
	for _, piece := range []string{"GE", "T /a HTTP/1.1\r\nHo", "st: h\r\n\r", "\nGET /slow HTTP/1.1\r\nHost: h\r\n\r\n"} {
		if _, err := io.WriteString(c, piece); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(2 * patience) // the connection is watched by now
	if _, err := io.WriteString(c, "GET /b HTTP/1.1\r\nHost: h\r\n\r\nGET /c HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	close(wait)
	for _, want := range []string{"/a", "/slow", "/b", "/c"} {
		if _, got := ask(t, c, in, ""); got != want {
			t.Errorf("answer %q, want %q", got, want)
		}
	}
	if _, got := ask(t, c, in, "POST /d HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"); got != "/d" {
		t.Errorf("answer %q from net/http, want /d", got)
	}
}

// The context of a request ends when its client goes away, and not before.
func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	inside, ended := make(chan struct{}), make(chan error, 1)
	s := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(inside)
		<-r.Context().Done()
		ended <- r.Context().Err()
	}), true)
	c := s.dial(t)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	<-inside
	select {
	case err := <-ended:
		t.Fatal(err)
	case <-time.After(2 * patience):
	}
	_ = c.Close()
	<-ended
}

// A connection that says nothing, or does not come to the end of a head, is not kept for ever.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	s := startPatient(t, table, true, 50*time.Millisecond)
	for _, said := range []string{"", "GET / HTTP/1.1\r\n", request, request + "GET"} {
		c := s.dial(t)
		if _, err := io.WriteString(c, said); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err != nil { // ends when the server ends the connection
			t.Errorf("%q: %v", said, err)
		}
	}
}

// At the end idle connections go, requests in progress end with their answer, and one on its way to net/http still gets there.
func TestDrain(t *testing.T) {
	t.Parallel()
	inside, leave := make(chan struct{}), make(chan struct{})
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(inside)
			<-leave
		}
		_, _ = io.WriteString(w, r.URL.Path)
	}), true)
	idle, busy, half := s.dial(t), s.dial(t), s.dial(t)
	ask(t, idle, bufio.NewReader(idle), request)
	if _, err := io.WriteString(busy, "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(half, "G"); err != nil {
		t.Fatal(err)
	}
	<-inside
	drained := make(chan struct{})
	go func() { defer close(drained); s.plain.Drain(t.Context()) }()
	if b, err := io.ReadAll(idle); err != nil || len(b) > 0 {
		t.Errorf("the idle connection got %q, %v", b, err)
	}
	if _, err := io.WriteString(half, "ET /half HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	if status, body := ask(t, half, bufio.NewReader(half), ""); status != 200 || body != "/half" {
		t.Errorf("the one on its way got %d %q", status, body)
	}
	<-drained
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.plain.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait while there is a request: %v", err)
	}
	close(leave)
	b, err := io.ReadAll(busy)
	if err != nil || !strings.Contains(string(b), "Connection: close\r\n") || !strings.HasSuffix(string(b), "/slow") {
		t.Errorf("the one in progress got %q, %v", b, err)
	}
	if err := s.plain.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	inside := make(chan struct{})
	s := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { close(inside); <-r.Context().Done() }), true)
	c := s.dial(t)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	<-inside
	s.plain.Cut()
	if b, _ := io.ReadAll(c); len(b) > 0 {
		t.Errorf("a connection that was cut got %q", b)
	}
	s.plain.Drain(t.Context())
	if err := s.plain.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}
