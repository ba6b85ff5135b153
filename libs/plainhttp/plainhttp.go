// Package plainhttp serves plain requests of HTTP/1.1 in one goroutine for each connection, and leaves all others to net/http.
//
// A request is plain if its method is GET, HEAD or OPTIONS, it has no body, asks for no other protocol, and there is nothing in its header that
// two programs could understand in two ways. Everything else, and what comes after it on the same connection, is for net/http, byte by byte
// as it came. What is plain is read by the parser of net/http, and answered as net/http would.
//
// net/http reads from a connection in a second goroutine while a request is answered, to notice a client that goes away. Here that begins only
// once an answer takes a while, which saves the switches between goroutines for all that are quick.
package plainhttp

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Listener is what an http.Server is to serve in place of the listener that it wraps: plain requests are answered below it, and Accept
// returns the connections that have others. Use New. All methods may be called concurrently.
type Listener struct {
	inner  net.Listener
	server *http.Server
	base   context.Context
	// others are connections for net/http.
	others chan net.Conn

	closing sync.Once
	closed  chan struct{}
	start   sync.Once

	// ending says that connections end with the answer that they give.
	ending atomic.Bool

	mu    sync.Mutex
	conns map[*conn]struct{}
	// handing is how many connections are on their way to net/http.
	handing int
	// running are the goroutines: one that accepts, and one for each connection. empty is closed when there are none any more, once
	// somebody waits for that.
	running int
	empty   chan struct{}
	// failed is why the inner listener broke.
	failed error
}

// New wraps l for server, whose Handler, IdleTimeout, ReadHeaderTimeout and ErrorLog are those of plain requests, too; they must not change
// after the first Accept.
func New(l net.Listener, server *http.Server) *Listener {
	return &Listener{
		inner: l, server: server, others: make(chan net.Conn), closed: make(chan struct{}), conns: make(map[*conn]struct{}),
		base: context.WithValue(context.WithValue(context.Background(), http.ServerContextKey, server), http.LocalAddrContextKey, l.Addr()),
	}
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Accept implements net.Listener. The first call begins to serve.
func (l *Listener) Accept() (net.Conn, error) {
	l.start.Do(func() {
		l.mu.Lock()
		l.running++
		l.mu.Unlock()
		go l.acceptAll()
	})
	select {
	case c := <-l.others:
		return c, nil
	case <-l.closed:
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.failed != nil {
			return nil, l.failed
		}
		return nil, net.ErrClosed
	}
}

// acceptAll ends with the inner listener, which Close closes.
func (l *Listener) acceptAll() {
	defer l.drop(nil)
	for pause := time.Duration(0); ; {
		c, err := l.inner.Accept()
		if err == nil {
			pause = 0
			l.take(c)
			continue
		}
		if !passes(err) {
			if !l.ending.Load() {
				l.fail(err)
			}
			return
		}
		pause = min(max(2*pause, minPause), maxPause)
		l.logf("http: Accept error: %v; retrying in %v", err, pause)
		time.Sleep(pause)
	}
}

// fail ends with the inner listener.
func (l *Listener) fail(err error) {
	l.mu.Lock()
	l.failed = err
	l.mu.Unlock()
	_ = l.close() // err says more
}

// Pauses after errors of Accept that pass, such as too many open files: those of net/http.
const minPause, maxPause = 5 * time.Millisecond, time.Second

// passes reports whether an error of Accept is about one connection, or about something that the system is short of for a while.
func passes(err error) bool {
	return slices.ContainsFunc([]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR},
		func(passing error) bool { return errors.Is(err, passing) })
}

func (l *Listener) take(rwc net.Conn) {
	c := newConn(l, rwc)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	l.running++
	go c.serve()
}

// drop forgets a goroutine, and its connection if it has one.
func (l *Listener) drop(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	l.running--
	if l.running == 0 && l.empty != nil {
		close(l.empty)
		l.empty = nil
	}
}

// handOver gives a connection to net/http, as what it looks like now. It reports whether that took it.
func (l *Listener) handOver(c *conn, as net.Conn) bool {
	l.mu.Lock()
	delete(l.conns, c) // nobody but net/http may end it from now on
	l.handing++
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.handing--
		l.mu.Unlock()
	}()
	select {
	case l.others <- as:
		return true
	case <-l.closed:
		return false
	}
}

// freshTime is how long a new connection may take to send its first request when the listener ends, as with net/http.
const freshTime = 5 * time.Second

// Drain takes no new connections, ends those that are idle, and lets each one with a request end with its answer. It returns when no connection
// is left that may still have to be handed over, or ctx ends; then the http.Server can be shut down, and Wait waits for the rest.
func (l *Listener) Drain(ctx context.Context) {
	l.ending.Store(true)
	_ = l.inner.Close()
	ctx, cancel := context.WithTimeout(ctx, freshTime)
	defer cancel()
	for look := time.NewTicker(minPause); ; {
		if l.endIdle(false) == 0 {
			look.Stop()
			return
		}
		select {
		case <-ctx.Done():
			look.Stop()
			l.endIdle(true)
			return
		case <-look.C:
		}
	}
}

// endIdle ends the connections that wait for another request; also those of which a request may be on its way, if all is true. It returns how
// many the latter are.
func (l *Listener) endIdle(all bool) (left int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left = l.handing
	for c := range l.conns {
		switch c.state.Load() {
		case stateIdle:
			_ = c.rwc.Close()
		case stateReading:
			if all {
				_ = c.rwc.Close()
			}
			left++
		}
	}
	return left
}

// Wait returns nil once no plain request is left after Drain, or the error of ctx.
func (l *Listener) Wait(ctx context.Context) error {
	l.mu.Lock()
	empty := l.empty
	switch {
	case l.running == 0:
		l.mu.Unlock()
		return nil
	case empty == nil:
		empty = make(chan struct{})
		l.empty = empty
	}
	l.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Cut ends all connections, whatever they do.
func (l *Listener) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.rwc.Close() // First: a handler that sees the end of its context may still answer.
		c.cancel()
	}
}

// Close implements net.Listener: no connection is taken or handed over any more, and those that wait for a request end. Requests in progress
// go on.
func (l *Listener) Close() error {
	l.ending.Store(true)
	err := l.close()
	l.endIdle(true)
	return err
}

func (l *Listener) close() (err error) {
	l.closing.Do(func() {
		close(l.closed)
		if err = l.inner.Close(); errors.Is(err, net.ErrClosed) {
			err = nil // Drain has closed it
		}
	})
	return err
}

func (l *Listener) logf(format string, args ...any) {
	if l.server.ErrorLog != nil {
		l.server.ErrorLog.Printf(format, args...)
		return
	}
	log.Printf(format, args...)
}
