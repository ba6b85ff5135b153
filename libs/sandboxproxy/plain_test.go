package sandboxproxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"opensandbox/libs/sandboxproxy"
	"opensandbox/libs/sandboxproxy/resolve"
)

// script is an application that answers with bytes. It gets the number of the connection and that of the request on it, and closes the
// connection after an answer with the mark closing.
type script func(conn, request int, r *http.Request) string

const closing = "<close>"

// scripted lets s answer until the test ends.
func scripted(t *testing.T, s script) (up resolve.Upstream, conns *atomic.Int32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns = &atomic.Int32{}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n := int(conns.Add(1))
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() { serve(c, n, s) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return resolve.Upstream{Address: l.Addr().String()}, conns
}

func serve(c net.Conn, n int, s script) {
	defer c.Close()
	in := bufio.NewReader(c)
	for i := 1; ; i++ {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		answer, ends := strings.CutSuffix(s(n, i, r), closing)
		if _, err := io.WriteString(c, answer); err != nil || ends {
			return
		}
	}
}

// ways are the methods by which a request goes either way: on its own connection, or through http.Transport. Both have to do the same.
var ways = []string{"GET", "DELETE"}

const broken = "the connection to port 8 of the sandbox broke before an answer came"

// What an application must not send is an error, or breaks the answer off; nothing of it is taken for the next answer.
func TestBadAnswers(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, answer := range map[string]string{
		"nothing":              closing,
		"not HTTP":             "SSH-2.0-x\r\n\r\n" + closing,
		"half a header":        ok + "A: b\r\n" + closing,
		"two lengths":          ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
		"negative length":      ok + "Content-Length: -1\r\n\r\n",
		"length with a sign":   ok + "Content-Length: +1\r\n\r\nx",
		"unknown coding":       ok + "Transfer-Encoding: rot13\r\n\r\nx",
		"status of two digits": "HTTP/1.1 20 OK\r\n\r\n",
		"status below 100":     "HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
		"endless header":       ok + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 600) + "\r\n" + closing,
		"protocol not asked":   "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
	} {
		up, _ := scripted(t, func(int, int, *http.Request) string { return answer })
		r := start(t, sandboxproxy.Config{}, at(up))
		for _, method := range ways {
			t.Log(name, method)
			wantError(t, r.do(t, method, "/sb/8/", nil), 502, "BACKEND_RESPONSE_FAILED", broken)
		}
	}
	for name, answer := range map[string]string{
		"too short":     ok + "Content-Length: 9\r\n\r\nxx" + closing,
		"bad chunk":     ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\nzz\r\n",
		"no last one":   ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n" + closing,
		"chunk of 2^64": ok + "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\nx\r\n",
	} {
		up, _ := scripted(t, func(int, int, *http.Request) string { return answer })
		r := start(t, sandboxproxy.Config{}, at(up))
		for _, method := range ways {
			req, err := http.NewRequestWithContext(t.Context(), method, r.URL+"/sb/8/", nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := r.client.Do(req)
			if err != nil {
				continue // it broke off before the client had the header
			}
			if b, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("%s, %s: %d %q came as a complete answer", name, method, res.StatusCode, b)
			}
			_ = res.Body.Close()
		}
	}
}

// The forms that an answer may have, and whether the connection is used again after it.
func TestAnswerForms(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer, body string
		status       int
		again        bool
	}{
		"length":          {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", 200, true},
		"the same twice":  {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "hi", 200, true},
		"chunks":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "hi", 200, true},
		"empty":           {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 200, true},
		"204":             {"HTTP/1.1 204 No Content\r\n\r\n", "", 204, true},
		"304 with length": {"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", "", 304, true},
		"interim":         {"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", 200, true},
		"many interim":    {strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 20) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", 200, true},
		"close":           {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", "hi", 200, false},
		"until the end":   {"HTTP/1.1 200 OK\r\n\r\nhi" + closing, "hi", 200, false},
		"HTTP/1.0":        {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", 200, false},
		"more than asked": {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "hi", 200, false},
	} {
		for _, method := range ways {
			// http.Transport puts a connection back beside the answer, and does not look whether more has come: the next request may get it.
			// It would be an answer of the same application, which can answer what it likes anyway.
			if method != "GET" && name == "more than asked" {
				continue
			}
			up, conns := scripted(t, func(int, int, *http.Request) string { return c.answer })
			r := start(t, sandboxproxy.Config{}, at(up))
			for range 3 {
				res := r.do(t, method, "/sb/8/", nil)
				if body := read(t, res.Body); body != c.body || res.StatusCode != c.status {
					t.Errorf("%s, %s: %d %q", name, method, res.StatusCode, body)
				}
			}
			// For the same reason the next request may come too early to use a connection again.
			if got := conns.Load(); method == "GET" && (got == 1) != c.again {
				t.Errorf("%s: %d connections for 3 requests, used again: want %v", name, got, c.again)
			}
		}
	}
}

// HEAD has the header of a body that does not come.
func TestHead(t *testing.T) {
	t.Parallel()
	up, conns := scripted(t, func(int, int, *http.Request) string { return "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" })
	r := start(t, sandboxproxy.Config{}, at(up))
	for range 3 {
		if res := r.do(t, "HEAD", "/sb/8/", nil); res.ContentLength != 1000 || res.StatusCode != 200 {
			t.Errorf("%d, length %d", res.StatusCode, res.ContentLength)
		}
	}
	if conns.Load() != 1 {
		t.Errorf("%d connections", conns.Load())
	}
}

// A connection that the application closes while it is idle, or when it is used again, is nothing that a client notices.
func TestStaleConnections(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]script{
		"closed while idle": func(int, int, *http.Request) string {
			return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi" + closing
		},
		"closed when used": func(_, request int, _ *http.Request) string {
			if request > 1 {
				return closing
			}
			return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
		},
	} {
		up, _ := scripted(t, s)
		r := start(t, sandboxproxy.Config{}, at(up))
		for range 5 {
			if res := r.do(t, "GET", "/sb/8/", nil); res.StatusCode != 200 || read(t, res.Body) != "hi" {
				t.Errorf("%s: %d", name, res.StatusCode)
			}
		}
	}
	// An answer that has begun is not asked for again.
	var asked atomic.Int32
	up, _ := scripted(t, func(_, request int, _ *http.Request) string {
		asked.Add(1)
		if request > 1 {
			return "HTTP/1.1 2" + closing
		}
		return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
	})
	r := start(t, sandboxproxy.Config{}, at(up))
	_ = read(t, r.do(t, "GET", "/sb/8/", nil).Body)
	wantError(t, r.do(t, "GET", "/sb/8/", nil), 502, "BACKEND_RESPONSE_FAILED", broken)
	if asked.Load() != 2 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// An application that never answers is given up, on a new connection and on one that was used, and it is not asked again.
func TestNoAnswerInTime(t *testing.T) {
	t.Parallel()
	for _, method := range ways {
		var asked atomic.Int32
		never := make(chan struct{})
		up, _ := scripted(t, func(_, _ int, r *http.Request) string {
			asked.Add(1)
			if r.URL.Path == "/never" {
				<-never
			}
			return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
		})
		t.Cleanup(func() { close(never) })
		r := start(t, sandboxproxy.Config{AnswerTimeout: time.Second}, at(up))
		const late = "port 8 of the sandbox does not answer in time"
		wantError(t, r.do(t, method, "/sb/8/never", nil), 504, "BACKEND_TIMEOUT", late)
		_ = read(t, r.do(t, method, "/sb/8/", nil).Body)
		wantError(t, r.do(t, method, "/sb/8/never", nil), 504, "BACKEND_TIMEOUT", late)
		if asked.Load() != 3 {
			t.Errorf("%s: asked %d times", method, asked.Load())
		}
	}
}

// What has come of a body of known length goes on at once: the header alone, and then each part.
func TestSlowAnswersOfKnownLength(t *testing.T) {
	t.Parallel()
	next := make(chan struct{})
	app := upstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "4")
		_ = http.NewResponseController(w).Flush()
		for range 2 {
			<-next
			_, _ = io.WriteString(w, "hi")
			_ = http.NewResponseController(w).Flush()
		}
	})
	for _, method := range ways {
		res := start(t, sandboxproxy.Config{}, at(direct(app))).do(t, method, "/sb/8/", nil)
		for range 2 {
			next <- struct{}{}
			part := make([]byte, 2)
			if _, err := io.ReadFull(res.Body, part); err != nil || string(part) != "hi" {
				t.Fatalf("%s: %q, %v", method, part, err)
			}
		}
	}
}

// The client's going away ends a request that has no answer yet.
func TestClientGoesAwayBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	for _, method := range ways {
		asked, ended := make(chan struct{}), make(chan struct{})
		app := upstream(t, func(_ http.ResponseWriter, r *http.Request) {
			close(asked)
			<-r.Context().Done()
			close(ended)
		})
		r := start(t, sandboxproxy.Config{}, at(direct(app)))
		c, err := net.Dial("tcp", strings.TrimPrefix(r.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(c, "%s /sb/8/ HTTP/1.1\r\nHost: h\r\n\r\n", method)
		<-asked
		_ = c.Close()
		<-ended
	}
}

// Many requests at once get their own answers, none that of another.
func TestAnswersAreNotMixedUp(t *testing.T) {
	t.Parallel()
	app := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Sum")
		_, _ = io.WriteString(w, strings.Repeat(r.URL.RawQuery+" ", 3000))
		w.Header().Set("Sum", r.URL.RawQuery)
	})
	r := start(t, sandboxproxy.Config{}, at(direct(app)))
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for j := range 20 {
				query := fmt.Sprintf("%d-%d", i, j)
				res, err := r.client.Get(r.URL + "/sb/8/?" + query)
				if err != nil {
					t.Error(err)
					return
				}
				b, err := io.ReadAll(res.Body)
				_ = res.Body.Close()
				if !bytes.Equal(b, []byte(strings.Repeat(query+" ", 3000))) || res.Trailer.Get("Sum") != query || err != nil && !errors.Is(err, io.EOF) {
					t.Errorf("%s: %d bytes, trailer %v, %v", query, len(b), res.Trailer, err)
				}
			}
		})
	}
	all.Wait()
}
