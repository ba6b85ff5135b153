// Package httpx is what every HTTP listener of the platform has: time-outs, bounds, request ids, tidy paths, CORS, and an orderly end.
//
// It knows nothing of what is served.
package httpx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"opensandbox/libs/plainhttp"
)

// Limits of every listener. Bodies that stream have none of these: they are bounded by their handlers.
const (
	// headerTimeout bounds the wait for a request's header, so that slow clients hold no connection for ever.
	headerTimeout  = 10 * time.Second
	maxHeaderBytes = 64 << 10
)

// Server is one listener. Use Listen.
type Server struct {
	http     *http.Server
	listener net.Listener
	plain    *plainhttp.Listener
	leaving  chan struct{}
	draining chan struct{}
	linger   time.Duration
	grace    time.Duration
}

// Config of a listener.
type Config struct {
	// Address is host:port; port 0 takes a free one.
	Address string
	// KeepAlive is how long an idle connection is kept.
	KeepAlive time.Duration
	// Linger is how long everything goes on after the end of Run's context, so that load balancers can turn away first: a connection that
	// is made in the moment in which a listener closes is cut without an answer.
	Linger time.Duration
	// Grace is how long requests in progress may take after that.
	Grace time.Duration
	// Backlog is how many connections may wait to be taken; the kernel bounds it. 0 leaves it to the system.
	Backlog int
}

// Listen takes the address. The server answers nothing until Run.
func Listen(ctx context.Context, cfg Config) (*Server, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Address, err)
	}
	if err := setBacklog(l, cfg.Backlog); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("backlog of %s: %w", cfg.Address, err)
	}
	server := &http.Server{ReadHeaderTimeout: headerTimeout, IdleTimeout: cfg.KeepAlive, MaxHeaderBytes: maxHeaderBytes}
	return &Server{
		listener: l, plain: plainhttp.New(l, server), http: server,
		leaving: make(chan struct{}), draining: make(chan struct{}), linger: cfg.Linger, grace: cfg.Grace,
	}, nil
}

// setBacklog says listen a second time: package net takes no number, and the kernel takes the latest.
func setBacklog(l net.Listener, backlog int) error {
	tcp, ok := l.(*net.TCPListener)
	if !ok || backlog <= 0 {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), backlog) }); err != nil {
		return err
	}
	return failed
}

// Addr returns the address that was taken.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Leaving is closed when the server begins to turn clients away: Config.Linger before Draining.
func (s *Server) Leaving() <-chan struct{} { return s.leaving }

// Draining is closed when the server begins to end, so that requests that wait can answer.
func (s *Server) Draining() <-chan struct{} { return s.draining }

// Run serves h until ctx ends, lingers, then stops accepting, lets the requests in progress finish within the grace time, and returns
// nil. It returns an error when the listener breaks.
func (s *Server) Run(ctx context.Context, h http.Handler) error {
	s.http.Handler = h
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.plain) }()
	select {
	case err := <-failed:
		close(s.leaving)
		close(s.draining)
		return err
	case <-ctx.Done():
	}
	close(s.leaving)
	select {
	case err := <-failed:
		close(s.draining)
		return err
	case <-time.After(s.linger):
	}
	close(s.draining)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	s.end(grace)
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// end stops accepting, waits for the requests in progress until ctx ends, and cuts what is left.
func (s *Server) end(ctx context.Context) {
	s.http.SetKeepAlivesEnabled(false)
	s.plain.Drain(ctx)
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	if s.plain.Wait(ctx) != nil {
		s.plain.Cut()
	}
}

// Close gives the address back without having served.
func (s *Server) Close() { _ = s.listener.Close() }
