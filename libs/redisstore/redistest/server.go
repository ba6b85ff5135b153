// Package redistest starts real Redis servers for tests: one server, a master with a replica and sentinels, or a cluster; on free ports,
// with files in the directory of the test, and killed when the test ends. It is imported by tests only.
package redistest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Options change a server.
type Options struct {
	// Args are further arguments of redis-server, such as "--save", "". They come last and win.
	Args []string
	// TLS makes the server take nothing but TLS on its port.
	TLS *Certificates
	// ReplicaOf is host:port of a master.
	ReplicaOf string
	// User and Password, if set, make an ACL user with all rights, and switch the default user off. A password alone is that of the default user.
	User, Password string
}

// Server is one running redis-server.
type Server struct {
	t    testing.TB
	dir  string
	args []string
	opts Options
	port int

	mu  sync.Mutex
	cmd *exec.Cmd
	end chan struct{}
}

// startWithin bounds how long a server may take to answer.
const startWithin = 15 * time.Second

// Start starts one server and waits until it answers.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	return start(t, o, "redis-server")
}

func start(t testing.TB, o Options, kind string) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir(), opts: o, port: freePort(t)}
	s.args = []string{"--bind", "127.0.0.1", "--dir", s.dir, "--daemonize", "no", "--pidfile", "", "--logfile", filepath.Join(s.dir, "log")}
	s.args = append(s.args, s.portArgs()...)
	if kind == "redis-server" {
		s.args = append(s.args, "--save", "", "--appendonly", "yes", "--repl-diskless-sync-delay", "0")
	}
	if host, master, ok := strings.Cut(o.ReplicaOf, ":"); ok {
		s.args = append(s.args, "--replicaof", host, master)
	}
	switch {
	case o.User != "":
		s.args = append(s.args, "--user", o.User, "on", ">"+o.Password, "~*", "&*", "+@all", "--user", "default", "off",
			"--masteruser", o.User, "--masterauth", o.Password)
	case o.Password != "":
		s.args = append(s.args, "--requirepass", o.Password, "--masterauth", o.Password)
	}
	s.args = append(s.args, o.Args...)
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// portArgs are the arguments that say how to reach the server. With TLS it speaks so with its master and its cluster, too.
func (s *Server) portArgs() []string {
	port, certs := strconv.Itoa(s.port), s.opts.TLS
	if certs == nil {
		return []string{"--port", port}
	}
	return []string{"--port", "0", "--tls-port", port, "--tls-cert-file", certs.CertFile, "--tls-key-file", certs.KeyFile,
		"--tls-ca-cert-file", certs.CAFile, "--tls-auth-clients", "no", "--tls-replication", "yes"}
}

// Start starts the server again after Kill, with the same files and port, and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		s.t.Fatal("redis-server is not on the PATH: install the package redis-server (apt-get install redis-server), version 6.2 or newer; " +
			"its service need not run")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil {
		s.t.Fatal("the server runs already")
	}
	var out bytes.Buffer
	cmd := exec.Command(path, s.args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	// A test that is killed takes its servers with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("start redis-server: %v", err)
	}
	end := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(end)
	}()
	s.cmd, s.end = cmd, end
	if err := s.answers(end); err != nil {
		s.t.Fatalf("redis-server does not answer: %v\n%s\n%s", err, out.String(), s.Log())
	}
}

// answers waits until the server answers, if only to say that it wants a password.
func (s *Server) answers(end <-chan struct{}) error {
	c := s.Client()
	defer c.Close() //nolint:errcheck // nothing was written
	for deadline := time.Now().Add(startWithin); ; {
		err := c.Ping(context.Background()).Err()
		if err == nil || strings.Contains(err.Error(), "MASTERDOWN") {
			return nil
		}
		select {
		case <-end:
			return fmt.Errorf("it has ended; last answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}

// Addr is host:port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Dir is where the server keeps its data, and its log.
func (s *Server) Dir() string { return s.dir }

// Client returns a client for this one server, with one connection; the caller closes it.
func (s *Server) Client() *redis.Client {
	o := &redis.Options{
		Addr: s.Addr(), Username: s.opts.User, Password: s.opts.Password, Protocol: 2, PoolSize: 1, MaxRetries: -1,
		DialTimeout: time.Second, DialerRetries: 1, DisableIdentity: true,
	}
	if s.opts.TLS != nil {
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.opts.TLS.Roots}
	}
	return redis.NewClient(o)
}

// Do runs one command.
func (s *Server) Do(args ...any) any {
	s.t.Helper()
	c := s.Client()
	defer c.Close() //nolint:errcheck // the command has been answered
	out, err := c.Do(context.Background(), args...).Result()
	if err != nil {
		s.t.Fatalf("%v: %v", args, err)
	}
	return out
}

// Kill ends the server at once, as a power failure of the process: nothing is written any more. More than once is harmless.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.end
	s.cmd = nil
}

// Freeze stops the server without closing its connections: it hangs. Thaw lets it go on.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		s.t.Fatal("the server does not run")
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// Log returns the end of the server's log.
func (s *Server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// Ports of servers lie below those that systems give to outgoing connections (32768 and up on Linux), one of which could else get the port of a
// server before it starts, or while it is down.
const (
	portMin, portMax = 10_000, 20_000
	// busOffset is how far above its port a server of a cluster speaks with the others.
	busOffset = 10_000
)

// freePort returns a port that nobody listens on now, together with the one which a cluster needs.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := portMin + rand.IntN(portMax-portMin)
		if free(port) && free(port+busOffset) {
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	return err == nil && l.Close() == nil
}
