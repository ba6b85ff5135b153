package plainhttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// words is a log.
type words struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// served is an http.Server, with or without a Listener in front.
type served struct {
	*http.Server
	plain *Listener // nil without
	addr  string
	log   *words
}

func start(t *testing.T, h http.Handler, wrapped bool) *served {
	t.Helper()
	return startPatient(t, h, wrapped, time.Minute)
}

// startPatient waits for requests for that long.
func startPatient(t *testing.T, h http.Handler, wrapped bool, wait time.Duration) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startOn(t, l, h, wrapped, wait)
}

func startOn(t *testing.T, l net.Listener, h http.Handler, wrapped bool, wait time.Duration) *served {
	t.Helper()
	s := &served{addr: l.Addr().String(), log: &words{}}
	s.Server = &http.Server{Handler: h, ErrorLog: log.New(s.log, "", 0), ReadHeaderTimeout: wait, IdleTimeout: wait}
	if wrapped {
		s.plain = New(l, s.Server)
		l = s.plain
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		if wrapped {
			s.plain.Cut()
			if err := s.plain.Wait(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func (s *served) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		t.Fatalf("a connection of type %T", c)
	}
	return tcp
}

// say sends bytes and returns all that comes back until the server ends the connection.
func (s *served) say(t *testing.T, request string) string {
	t.Helper()
	c := s.dial(t)
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Log(err) // the server has ended it already
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Logf("after %q: %v", b, err)
	}
	return string(b)
}

const ending = "GET /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

// answers are handlers by path.
var answers = map[string]func(http.ResponseWriter, *http.Request){
	"/end":   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) },
	"/empty": func(http.ResponseWriter, *http.Request) {},
	"/short": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<p>short") },
	"/typed": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/x")
		_, _ = io.WriteString(w, "typed")
	},
	"/encoded": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "x")
		_, _ = io.WriteString(w, "encoded")
	},
	"/known": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.WriteHeader(201)
		_, _ = io.WriteString(w, "known")
	},
	"/toolong": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "3")
		if _, err := io.WriteString(w, "four"); !errors.Is(err, http.ErrContentLength) {
			panic(err)
		}
	},
	"/tooshort": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "9")
		_, _ = io.WriteString(w, "four")
	},
	"/long": func(w http.ResponseWriter, _ *http.Request) {
		for range 9 {
			_, _ = io.WriteString(w, strings.Repeat("long", 200))
		}
	},
	"/huge": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("huge", 50_000)) },
	"/flushed": func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, "b")
	},
	"/flushedfirst": func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<html>")
		w.(http.Flusher).Flush()
	},
	"/unchanged":  func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Etag", "x"); w.WriteHeader(304) },
	"/nobody":     func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); _, _ = io.WriteString(w, "nothing") },
	"/odd":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(599) },
	"/twice":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(202); w.WriteHeader(500) },
	"/impossible": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(42) },
	"/panic":      func(http.ResponseWriter, *http.Request) { panic("on purpose") },
	"/abort":      func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) },
	"/closes":     func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") },
	"/late": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(200)
		w.Header().Set("X-Late", "x")
		_, _ = io.WriteString(w, "x")
	},
	"/dated":       func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Date", "Thu, 01 Jan 1970 00:00:00 GMT") },
	"/manyheaders": func(w http.ResponseWriter, _ *http.Request) { w.Header()["X-A"] = []string{"1", "2", "a\r\nb"} },
	"/early": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(103)
		w.WriteHeader(200)
		_, _ = io.WriteString(w, "after")
	},
	"/trailers": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Sum", "4")
		w.Header().Set(http.TrailerPrefix+"X-More", "5")
	},
	"/says": func(w http.ResponseWriter, r *http.Request) {
		_, port, err := net.SplitHostPort(r.RemoteAddr)
		b, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprintf(w, "%s %s %s %v %q %v %t %d %q", r.Method, r.RequestURI, r.Host, r.Header, b, r.ContentLength, err == nil && port != "", len(r.TransferEncoding), r.URL)
	},
}

var table = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	if h := answers[r.URL.Path]; h != nil {
		h(w, r)
		return
	}
	answers["/says"](w, r)
})

var dates = regexp.MustCompile(`(?m)^Date: .* GMT\r\n`)

// normal is an answer without the times in it, and with the lines of its headers in order.
func normal(answer string) string {
	var out strings.Builder
	in := bufio.NewReader(strings.NewReader(dates.ReplaceAllString(answer, "Date: now\r\n")))
	for {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			rest, _ := io.ReadAll(in)
			_, _ = fmt.Fprintf(&out, "then %q\n", rest)
			return out.String()
		}
		b, err := io.ReadAll(res.Body)
		_, _ = fmt.Fprintf(&out, "%s %v length %d %v trailer %v: %q %v\n", res.Status, res.Header, res.ContentLength, res.TransferEncoding, res.Trailer, b, err)
	}
}

// What net/http answers, this answers.
func TestAnswersAreThoseOfNetHTTP(t *testing.T) {
	t.Parallel()
	want, got := start(t, table, false), start(t, table, true)
	for path := range answers {
		for _, method := range []string{"GET", "OPTIONS", "HEAD"} {
			request := method + " " + path + " HTTP/1.1\r\nHost: h\r\nX-A: b\r\nx-a:  c \r\nConnection: keep-alive\r\n\r\n"
			if method != "HEAD" { // of which the reader of the test does not know that there is no body
				request += ending
			} else {
				request = strings.Replace(request, "Connection: keep-alive\r\n", "", 1) + "POST /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
			}
			w, g := want.say(t, request), got.say(t, request)
			if w, g := normal(w), normal(g); w != g {
				t.Errorf("%s %s:\nnet/http %s\nhere     %s", method, path, w, g)
			}
		}
	}
	for _, line := range []string{"on purpose", "superfluous"} {
		if !strings.Contains(got.log.String(), line) {
			t.Errorf("nothing is logged about %q", line)
		}
	}
}

// others are requests that are not plain, or not valid.
var others = []string{
	"POST /says HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody" + ending,
	"GET /says HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody" + ending,
	"GET /says HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" + ending,
	"GET /says HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n1\r\nx\r\n0\r\n\r\n" + ending,
	"GET /says HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody" + ending,
	"GET /says HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n" + ending,
	"GET /says HTTP/1.1\r\n\r\n" + ending,
	"GET /says HTTP/1.1\r\nHost: a b\r\n\r\n" + ending,
	"GET /says HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n" + ending,
	"GET /says HTTP/1.1\r\nHost: h\r\n A: b\r\n\r\n" + ending,
	"GET /says HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n" + ending,
	"GET /says HTTP/1.1\r\nHost: h\r\nA: b\x00\r\n\r\n" + ending,
	"GET /says HTTP/1.1\nHost: h\n\n" + ending,
	"GET /says HTTP/1.1\r\nHost: h\n\r\n" + ending,
	"GET /says HTTP/1.0\r\nHost: h\r\n\r\n",
	"GET /says HTTP/1.1 \r\nHost: h\r\n\r\n" + ending,
	"GET  /says HTTP/1.1\r\nHost: h\r\n\r\n" + ending,
	"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n" + ending,
	"GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n" + ending,
	"GET http://i/says HTTP/1.1\r\nHost: h\r\n\r\n" + ending,
	"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n" + ending,
	"get /says HTTP/1.1\r\nHost: h\r\n\r\n" + ending,
	"GETX /says HTTP/1.1\r\nHost: h\r\n\r\n" + ending,
	"HTTP/1.1 200 OK\r\n\r\n",
	"GET /says HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx" + ending,
	"GET /says HTTP/1.1\r\nHost: h\r\nConnection: close, x\r\n\r\n",
	"GET /says HTTP/1.1\r\nHost: h\r\nA: " + strings.Repeat("x", 9000) + "\r\n\r\n" + ending,
	"\r\nGET /says HTTP/1.1\r\nHost: h\r\n\r\n" + ending,
}

// What is not plain is net/http's, with all that came before and after it on the connection.
func TestOthersAreLeftToNetHTTP(t *testing.T) {
	t.Parallel()
	want, got := start(t, table, false), start(t, table, true)
	for _, request := range others {
		for _, before := range []string{"", "GET /typed HTTP/1.1\r\nHost: h\r\n\r\n"} {
			w, g := normal(want.say(t, before+request)), normal(got.say(t, before+request))
			if w != g {
				t.Errorf("%q:\nnet/http %s\nhere     %s", tail(before+request), w, g)
			}
		}
	}
}

func tail(s string) string { return s[:min(len(s), 200)] }

// FuzzRequests holds what is answered to any bytes against what net/http answers.
func FuzzRequests(f *testing.F) {
	for _, r := range others {
		f.Add([]byte(r))
	}
	f.Add([]byte("GET /says?a=%20 HTTP/1.1\r\nHost: h:1\r\nX-Y: \tz\r\nKeep-Alive: 1\r\n\r\nHEAD /long HTTP/1.1\r\nhost: h\r\n\r\n"))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answers["/says"](w, r) })
	f.Fuzz(func(t *testing.T, request []byte) {
		if bytes.Contains(request, []byte("pgrade")) || bytes.Contains(request, []byte("PRI ")) {
			return // what becomes of other protocols is not seen in answers
		}
		answer := func(wrapped bool) string {
			c := &spoken{in: bytes.NewReader(append(bytes.Clone(request), "\r\n\r\n"+ending...)), closed: make(chan struct{})}
			l := &oneConn{conn: c, done: make(chan struct{})}
			s := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
			var served net.Listener = l
			plain := New(l, s)
			if wrapped {
				served = plain
			}
			ended := make(chan struct{})
			go func() { defer close(ended); _ = s.Serve(served) }()
			<-c.closed
			_ = s.Close()
			<-ended
			if err := plain.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			return normal(c.out.String())
		}
		if w, g := answer(false), answer(true); w != g {
			t.Errorf("%q:\nnet/http %s\nhere     %s", request, w, g)
		}
	})
}

// spoken is the connection of a client that has said all that it will say.
type spoken struct {
	net.Conn // nil: other methods are not called
	mu       sync.Mutex
	in       *bytes.Reader
	out      words
	end      sync.Once
	closed   chan struct{}
}

func (c *spoken) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in.Read(p)
}
func (c *spoken) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *spoken) Close() error                     { c.end.Do(func() { close(c.closed) }); return nil }
func (c *spoken) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *spoken) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 5} }
func (c *spoken) SetReadDeadline(time.Time) error  { return nil }
func (c *spoken) SetWriteDeadline(time.Time) error { return nil }
func (c *spoken) SetDeadline(time.Time) error      { return nil }

// oneConn is a listener with one connection.
type oneConn struct {
	conn net.Conn
	once sync.Once
	end  sync.Once
	done chan struct{}
}

func (l *oneConn) Accept() (c net.Conn, err error) {
	l.once.Do(func() { c = l.conn })
	if c != nil {
		return c, nil
	}
	<-l.done
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { l.end.Do(func() { close(l.done) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }
