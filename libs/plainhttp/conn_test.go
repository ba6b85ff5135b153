package plainhttp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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
	return hear(t, in)
}

// hear reads the answer to what was sent before.
func hear(t *testing.T, in *bufio.Reader) (status int, body string) {
	t.Helper()
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

// pipes is a listener without a network, for bubbles with a clock of their own. What a client writes has been read when the write returns.
type pipes struct {
	dialed chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{dialed: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.dialed:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.close(); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	t.Cleanup(func() { _ = client.Close() })
	p.dialed <- server
	return client
}

// Requests that come in pieces, together, or while another one is answered are all answered, in their order.
func TestOneAfterTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wait, l := make(chan struct{}), newPipes()
		startOn(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-wait
			}
			if err := r.Context().Err(); err != nil {
				t.Errorf("%s: %v", r.URL.Path, err)
			}
			_, _ = io.WriteString(w, r.Method+" "+r.URL.Path)
		}), true, time.Minute)
		c := l.dial(t)
		in := bufio.NewReader(c)
		for _, piece := range []string{"GE", "T /a HTTP/1.1\r\nHo", "st: h\r\n\r", "\nGET /slow HTTP/1.1\r\nHost: h\r\n\r\n"} {
			if _, err := io.WriteString(c, piece); err != nil {
				t.Fatal(err)
			}
		}
		if _, got := hear(t, in); got != "GET /a" {
			t.Errorf("answer %q, want GET /a", got)
		}
		time.Sleep(patience)
		synctest.Wait() // the connection is watched
		if _, err := io.WriteString(c, "GET /b HTTP/1.1\r\nHost: h\r\n\r\nGET /c HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		close(wait)
		for _, want := range []string{"GET /slow", "GET /b", "GET /c"} {
			if _, got := hear(t, in); got != want {
				t.Errorf("answer %q, want %q", got, want)
			}
		}
		if _, got := ask(t, c, in, "POST /d HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"); got != "POST /d" {
			t.Errorf("answer %q from net/http, want POST /d", got)
		}
	})
}

// lasting is a handler that waits for the end of its request's context.
func lasting() (h http.Handler, inside chan struct{}, ended chan error) {
	inside, ended = make(chan struct{}), make(chan error, 1)
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(inside)
		<-r.Context().Done()
		ended <- r.Context().Err()
	}), inside, ended
}

// The context of a request ends when its client goes away,
func TestClientGoesAway(t *testing.T) {
	t.Parallel()
	h, inside, ended := lasting()
	c := start(t, h, true).dial(t)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	<-inside
	_ = c.Close()
	<-ended
}

// and not before.
func TestClientStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, inside, ended := lasting()
		l := newPipes()
		startOn(t, l, h, true, time.Minute)
		c := l.dial(t)
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		<-inside
		time.Sleep(time.Hour)
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatal(err)
		default:
		}
		_ = c.Close()
		<-ended
	})
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
	if status, body := hear(t, bufio.NewReader(half)); status != 200 || body != "/half" {
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
