package plainhttp

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Sizes of the buffers of a connection, those of net/http. A head that does not fit is for net/http.
const (
	readBuffer  = 4 << 10
	writeBuffer = 4 << 10
)

// States of a connection.
const (
	// stateReading: there is a part of a request, or none yet at all. The connection may have to be handed over.
	stateReading int32 = iota
	// stateBusy: there is a plain request.
	stateBusy
	// stateIdle: an answer has been given, and nothing of another request has come.
	stateIdle
)

// conn is one connection of a client. Its methods are called by its own goroutine.
type conn struct {
	l      *Listener
	rwc    net.Conn
	in     *bufio.Reader
	out    *bufio.Writer
	cancel context.CancelFunc
	state  atomic.Int32
	watch  watch
	answer answer
	// head is a copy of the head of the request in progress.
	head []byte
	// ctx ends when the client goes away.
	ctx context.Context //nolint:containedctx // it is that of all requests of the connection
	// until is the time limit of reads that is in force; zero: there is none.
	until time.Time
}

func newConn(l *Listener, rwc net.Conn) *conn {
	c := &conn{l: l, rwc: rwc, in: bufio.NewReaderSize(rwc, readBuffer), out: bufio.NewWriterSize(rwc, writeBuffer)}
	c.ctx, c.cancel = context.WithCancel(l.base)
	c.watch.init(c)
	return c
}

// serve answers one request after the other.
func (c *conn) serve() {
	defer c.l.drop(c)
	defer c.cancel()
	for {
		length, v := c.await()
		switch v {
		case plain:
		case other:
			c.handOver()
			return
		default:
			_ = c.rwc.Close()
			return
		}
		c.state.Store(stateBusy)
		if !c.one(length) {
			return
		}
		if c.l.ending.Load() {
			_ = c.rwc.Close()
			return
		}
		c.state.Store(stateIdle)
	}
}

// await waits for a request. incomplete says that none will come.
func (c *conn) await() (length int, v verdict) {
	if c.in.Buffered() == 0 {
		wait := c.l.server.ReadHeaderTimeout
		if c.state.Load() == stateIdle {
			wait = c.l.server.IdleTimeout
		}
		c.limit(wait, slack)
		if _, err := c.in.Peek(1); err != nil {
			return 0, incomplete
		}
	}
	c.state.Store(stateReading)
	for limited := false; ; limited = true {
		b, _ := c.in.Peek(c.in.Buffered()) // what is buffered can be peeked at
		if length, v = judge(b); v != incomplete {
			return length, v
		}
		if len(b) == readBuffer {
			return 0, other
		}
		if !limited {
			c.limit(c.l.server.ReadHeaderTimeout, 0)
		}
		if _, err := c.in.Peek(len(b) + 1); err != nil {
			return 0, incomplete
		}
	}
}

// slack is by how much a wait for a request may be longer than it should: setting the limit of each anew takes longer than all else here.
const slack = time.Second

// limit bounds the reads from now on, with the limit in force if that is not more than slack longer; 0 means no bound.
func (c *conn) limit(d, slack time.Duration) {
	if d <= 0 {
		if !c.until.IsZero() {
			c.until = time.Time{}
			_ = c.rwc.SetReadDeadline(c.until) // the read tells what is wrong with the connection
		}
		return
	}
	until := time.Now().Add(d)
	if !c.until.IsZero() && !c.until.Before(until) && c.until.Sub(until) <= slack {
		return
	}
	c.until = until.Add(slack)
	_ = c.rwc.SetReadDeadline(c.until)
}

// one answers the request at the beginning of the buffer, and reports whether another one may follow. If not, the connection is not its own any more.
func (c *conn) one(length int) bool {
	b, _ := c.in.Peek(length) // judge has seen it
	c.head = append(c.head[:0], b...)
	req, err := http.ReadRequest(c.in)
	if err != nil {
		c.handOver(c.head...) // net/http says what is wrong
		return false
	}
	req.RemoteAddr = c.rwc.RemoteAddr().String()
	req = req.WithContext(c.ctx)
	if !c.handle(req) || !c.answer.finish() {
		_ = c.rwc.Close()
		return false
	}
	return true
}

// handle calls the handler, and reports false if that has panicked.
func (c *conn) handle(req *http.Request) (returned bool) {
	c.answer.begin(c, req)
	c.watch.begin()
	defer func() {
		c.watch.end()
		if returned {
			return
		}
		if reason := recover(); reason != nil && reason != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
			c.l.logf("http: panic serving %s: %v\n%s", req.RemoteAddr, reason, debug.Stack())
		}
		_ = c.out.Flush() // the client learns that the answer breaks off
	}()
	c.l.server.Handler.ServeHTTP(&c.answer, req)
	return true
}

// handOver leaves the connection to net/http with what was read from it, after what was taken from the buffer already.
func (c *conn) handOver(taken ...byte) {
	b, _ := c.in.Peek(c.in.Buffered())
	c.limit(0, 0)
	if !c.l.handOver(c, newReplayed(c.rwc, append(append([]byte(nil), taken...), b...))) {
		_ = c.rwc.Close()
	}
}

// replayed is a connection of which some bytes were read already.
type replayed struct {
	net.Conn
	read []byte
}

// newReplayed keeps the ways in which net/http and others speed up copies from and to TCP.
func newReplayed(c net.Conn, read []byte) net.Conn {
	r := &replayed{Conn: c, read: read}
	if tcp, ok := c.(*net.TCPConn); ok {
		return &replayedTCP{replayed: r, tcp: tcp}
	}
	return r
}

// Read implements net.Conn.
func (r *replayed) Read(p []byte) (int, error) {
	if len(r.read) == 0 {
		return r.Conn.Read(p)
	}
	n := copy(p, r.read)
	if r.read = r.read[n:]; len(r.read) == 0 {
		r.read = nil
	}
	return n, nil
}

// replayedTCP has in addition what a TCP connection has.
type replayedTCP struct {
	*replayed
	tcp *net.TCPConn
}

// ReadFrom implements io.ReaderFrom.
func (r *replayedTCP) ReadFrom(src io.Reader) (int64, error) { return r.tcp.ReadFrom(src) }

// CloseWrite ends the direction to the client.
func (r *replayedTCP) CloseWrite() error { return r.tcp.CloseWrite() }

// isTimeout reports whether a read took too long.
func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
