package identity

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
)

// socket is where a worker finds its connection.
const socket = 3

// Work is the whole life of a worker process: it serves the one connection that it inherited with h and returns when the other side
// has closed it.
func Work(h http.Handler) error {
	f := os.NewFile(socket, "execd")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return fmt.Errorf("file worker: %w", err)
	}
	l := &single{conn: conn, closed: make(chan struct{})}
	srv := &http.Server{Handler: h, ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			l.Close()
		}
	}}
	srv.SetKeepAlivesEnabled(false)
	_ = srv.Serve(l) // Ends with an error always: the listener was closed.
	return srv.Close()
}

// single is a listener for one connection that exists already.
type single struct {
	mu     sync.Mutex
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

// Accept implements net.Listener: the connection, then nothing until Close.
func (l *single) Accept() (net.Conn, error) {
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

// Close implements net.Listener.
func (l *single) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *single) Addr() net.Addr { return &net.UnixAddr{Name: "execd", Net: "unix"} }
