package sandboxproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"time"
)

// lean is the transport of requests that have no body, ask for no other protocol and may be sent twice, which are nearly all. It does in
// the goroutine of the request what http.Transport does with two more for each connection. It sends what that would send and reads
// answers with the same parser; all other requests go to rest. It may be used concurrently.
type lean struct {
	rest http.RoundTripper
	dial func(ctx context.Context, network, address string) (net.Conn, error)
	// answerTimeout bounds the time from the first byte of a request to the end of the header of its answer; 0 means no bound.
	answerTimeout time.Duration
	idle          idlePool
}

// isLean reports whether lean takes the request on itself. A body may be long, and its answer may come before its end; tunnels cannot be
// looked at while they are idle.
func isLean(req *http.Request) bool {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
	default:
		return false
	}
	if req.Body != nil && req.Body != http.NoBody || req.ContentLength != 0 || len(req.TransferEncoding) > 0 || req.URL.Scheme != "http" {
		return false
	}
	h := req.Header
	return h["Upgrade"] == nil && h["Connection"] == nil && h["Expect"] == nil && !strings.HasPrefix(req.URL.Host, tunnelMark)
}

// RoundTrip implements http.RoundTripper.
func (l *lean) RoundTrip(req *http.Request) (*http.Response, error) {
	if !isLean(req) {
		return l.rest.RoundTrip(req)
	}
	ctx := req.Context()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c := l.idle.take(req.URL.Host)
		reused := c != nil
		if !reused {
			conn, err := l.dial(ctx, "tcp", req.URL.Host)
			if err != nil {
				return nil, err
			}
			c = newLeanConn(conn, req.URL.Host)
		}
		res, err := l.exchange(c, req)
		if err == nil {
			return res, nil
		}
		_ = c.conn.Close()
		if ctxErr := ctx.Err(); ctxErr != nil {
			return nil, ctxErr
		}
		// An application may close a connection that was idle at the moment at which it is used again. Then there was no byte of an answer.
		if !reused || c.answered || isTimeout(err) {
			return nil, err
		}
	}
}

// exchange sends a request and reads the header of its answer. After an error the connection must be closed.
func (l *lean) exchange(c *leanConn, req *http.Request) (*http.Response, error) {
	var deadline time.Time
	if l.answerTimeout > 0 {
		deadline = time.Now().Add(l.answerTimeout)
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	// The client's going away ends what waits for the connection, until it is idle again.
	stop := context.AfterFunc(req.Context(), func() { _ = c.conn.Close() })
	res, err := c.roundTrip(req)
	if err == nil && l.answerTimeout > 0 {
		err = c.conn.SetDeadline(time.Time{}) // an answer that has begun takes as long as it takes
	}
	if err != nil {
		stop()
		return nil, err
	}
	body := &leanBody{ReadCloser: res.Body, l: l, c: c, stop: stop, keep: !res.Close}
	res.Body = body
	if body.ReadCloser == http.NoBody {
		res.Body = http.NoBody
		body.end(true)
	}
	return res, nil
}

// leanConn is a connection to an application with one request at a time. Only one goroutine uses it.
type leanConn struct {
	conn    net.Conn
	address string
	in      *bufio.Reader
	out     *bufio.Writer
	// room is how many bytes of a header may still be read; negative: there is no bound.
	room int64
	// answered says that a byte of the answer has come.
	answered bool
	// since is when it became idle; it belongs to the pool.
	since time.Time
}

func newLeanConn(conn net.Conn, address string) *leanConn {
	c := &leanConn{conn: conn, address: address}
	c.in, c.out = bufio.NewReader(c), bufio.NewWriter(conn)
	return c
}

// Read implements io.Reader below the buffer.
func (c *leanConn) Read(p []byte) (int, error) {
	if c.room == 0 {
		return 0, fmt.Errorf("the header of the answer is longer than %d bytes", maxAnswerHeader)
	}
	if c.room > 0 && int64(len(p)) > c.room {
		p = p[:c.room]
	}
	n, err := c.conn.Read(p)
	if c.room > 0 {
		c.room -= int64(n)
	}
	c.answered = c.answered || n > 0
	return n, err
}

func (c *leanConn) roundTrip(req *http.Request) (*http.Response, error) {
	c.room, c.answered = maxAnswerHeader, false
	if err := req.Write(c.out); err != nil {
		return nil, err
	}
	if err := c.out.Flush(); err != nil {
		return nil, err
	}
	for {
		res, err := http.ReadResponse(c.in, req)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if res.StatusCode/100 != 1 {
			c.room = -1
			return res, nil
		}
		if res.StatusCode == http.StatusSwitchingProtocols {
			return nil, errors.New("the application switches to a protocol that nobody asked for")
		}
		if err := interim(req.Context(), res); err != nil {
			return nil, err
		}
		c.room = maxAnswerHeader
	}
}

// interim tells whoever waits for it of an interim answer, as http.Transport does.
func interim(ctx context.Context, res *http.Response) error {
	trace := httptrace.ContextClientTrace(ctx)
	if trace == nil || trace.Got1xxResponse == nil {
		return nil
	}
	return trace.Got1xxResponse(res.StatusCode, textproto.MIMEHeader(res.Header))
}

// leanBody is the body of an answer. It gives the connection back at its end.
type leanBody struct {
	io.ReadCloser
	l    *lean
	c    *leanConn // nil after the end
	stop func() bool
	keep bool
}

// Read implements io.Reader.
func (b *leanBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.end(errors.Is(err, io.EOF))
	}
	return n, err
}

// Close implements io.Closer. What is left of the body is not waited for: the connection ends.
func (b *leanBody) Close() error {
	if b.c == nil {
		return nil
	}
	b.end(false)
	return nil
}

// end lets go of the connection: it is kept if the answer is complete, nothing follows it and nobody closes it.
func (b *leanBody) end(complete bool) {
	c := b.c
	if c == nil {
		return
	}
	b.c = nil
	if !b.stop() || !complete || !b.keep || c.in.Buffered() > 0 {
		_ = c.conn.Close()
		return
	}
	b.l.idle.put(c)
}

// waits reports whether nothing of the body has come yet.
func (b *leanBody) waits() bool { return b.c != nil && b.c.in.Buffered() == 0 }
