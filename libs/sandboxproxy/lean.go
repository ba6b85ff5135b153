package sandboxproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"opensandbox/libs/sandboxproxy/resolve"
)

// lean keeps connections to applications for plain requests. It does in the goroutine of the request what http.Transport does with two
// more for each connection, and reads answers with the same parser. It may be used concurrently.
type lean struct {
	p    *Proxy
	idle idlePool
}

// roundTrip sends the request of c to up, and returns the answer as far as its header has come. Its body must be closed.
func (l *lean) roundTrip(ctx context.Context, c *call, up resolve.Upstream) (*http.Response, error) {
	address := poolAddress(up)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		conn := l.idle.take(address)
		reused := conn != nil
		if !reused {
			made, err := l.p.connect(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			conn = newLeanConn(made, address)
		}
		res, err := l.exchange(ctx, conn, c, up)
		if err == nil {
			return res, nil
		}
		_ = conn.conn.Close()
		if ctxErr := ctx.Err(); ctxErr != nil {
			return nil, ctxErr
		}
		// An application may close a connection that was idle at the moment at which it is used again. Then there was no byte of an answer.
		if !reused || conn.answered || isTimeout(err) {
			return nil, err
		}
	}
}

// exchange sends a request and reads the header of its answer. After an error the connection must be closed.
func (l *lean) exchange(ctx context.Context, conn *leanConn, c *call, up resolve.Upstream) (*http.Response, error) {
	if err := conn.expectWithin(l.p.cfg.AnswerTimeout); err != nil {
		return nil, err
	}
	// The client's going away ends what waits for the connection, until it is idle again.
	stop := context.AfterFunc(ctx, func() { _ = conn.conn.Close() })
	l.p.writeRequest(ctx, conn.out, c, up)
	res, err := conn.answer(c)
	if err == nil && int64(conn.in.Buffered()) < res.ContentLength || err == nil && res.ContentLength < 0 {
		err = conn.expectWithin(0) // an answer that has begun takes as long as it takes
	}
	if err != nil {
		stop()
		return nil, err
	}
	body := &leanBody{ReadCloser: res.Body, l: l, c: conn, stop: stop, keep: !res.Close}
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
	// until is the time limit that is in force, or zero.
	until time.Time
	// since is when it became idle; it belongs to the pool.
	since time.Time
	quiet func() bool
}

func newLeanConn(conn net.Conn, address string) *leanConn {
	c := &leanConn{conn: conn, address: address}
	c.in, c.out = bufio.NewReader(c), bufio.NewWriter(conn)
	c.quiet = quietness(conn)
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

// answer sends what was written, and reads the header of the answer to the request of call.
func (c *leanConn) answer(call *call) (*http.Response, error) {
	c.room, c.answered = maxAnswerHeader, false
	if err := c.out.Flush(); err != nil {
		return nil, err
	}
	for {
		res, err := http.ReadResponse(c.in, call.in)
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
		call.interim(res)
		c.room = maxAnswerHeader
	}
}

// interim passes on an answer that another one follows.
func (c *call) interim(res *http.Response) {
	h := c.out.Header()
	add(h, res.Header)
	c.out.WriteHeader(res.StatusCode)
	clear(h)
}

// expectWithin bounds the reads and writes from now on; 0 means no bound. A bound in force that is at most a tenth longer stays, because setting it
// takes longer than it should for each request.
func (c *leanConn) expectWithin(d time.Duration) error {
	until := time.Time{}
	if d > 0 {
		until = time.Now().Add(d)
		if left := c.until.Sub(until); !c.until.IsZero() && left >= 0 && left <= d/10 {
			return nil
		}
		until = until.Add(d / 10)
	}
	if until.Equal(c.until) {
		return nil
	}
	c.until = until
	return c.conn.SetDeadline(until)
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
