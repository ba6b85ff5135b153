// Package identity does the file work of requests that name a user and a group. Each request is served by a process of its own that
// runs as that user and group from its first instruction, so the kernel itself checks every access, at the moment of the access.
//
// A thread of execd that switches its own identity would be cheaper, but execd's other privileges, open files and /proc/self would
// stay within reach, and a forgotten switch back would go unnoticed. There is no way back from the identity of a process.
package identity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/environ"
	"opensandbox/services/execd/internal/reap"
)

const (
	// Flag makes this program a worker that serves one request on the connection that it inherited.
	Flag = "--file-worker"
	// maxWorkers bounds the processes that run at the same time; further requests wait.
	maxWorkers = 32
	// self is this program even where its path cannot be reached by the other user, or was replaced.
	self = "/proc/self/exe"
	// MaxID is the largest user or group number that the kernel takes; the next one means "unchanged".
	MaxID = 1<<32 - 2
)

// Starter starts processes; *reap.Reaper is one.
type Starter interface {
	// Start runs a file; reap.ErrStopping means that the sandbox is going down.
	Start(file string, argv []string, attr *syscall.ProcAttr) (*reap.Process, error)
	// SignalGroup signals the group of a leader that was not collected yet.
	SignalGroup(p *reap.Process, sig syscall.Signal)
}

// Workers starts workers. Its methods may be called concurrently.
type Workers struct {
	starter Starter
	env     []string
	slots   chan struct{}
	closing chan struct{}

	mu     sync.Mutex
	closed bool
	ending sync.WaitGroup // Open requests, and workers of requests that have ended.
}

// New returns Workers. env is what paths are expanded with, except that HOME is the home of the identity.
func New(starter Starter, env []string) *Workers {
	return &Workers{starter: starter, env: env, slots: make(chan struct{}, maxWorkers), closing: make(chan struct{})}
}

// Close kills the workers of clients that went away, and waits for all. Later requests are refused.
func (s *Workers) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.closing)
	s.ending.Wait()
}

// enter counts a request, so that Close waits for it.
func (s *Workers) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.ending.Add(1)
	}
	return !s.closed
}

// Serve lets a worker with the identity answer r as a request for path, such as /files/info. An error means that nothing was
// answered: fault.Unsupported where the identity cannot be taken on, for execd's own is never used instead.
func (s *Workers) Serve(w http.ResponseWriter, r *http.Request, uid, gid uint32, path string) error {
	if !s.enter() {
		return stopping(reap.ErrStopping)
	}
	defer s.ending.Done()
	select {
	case s.slots <- struct{}{}:
	case <-r.Context().Done():
		return nil
	}
	conn, proc, err := s.start(uid, gid)
	if err != nil {
		<-s.slots
		return err
	}
	defer s.ending.Go(func() { s.end(proc) })
	defer conn.Close() // Also how a worker in the middle of its work learns that the client went away.
	return forward(w, r, conn, path)
}

// end waits for a worker that has nobody left to answer. As on the normal routes, it finishes what it was doing.
func (s *Workers) end(proc *reap.Process) {
	defer func() { <-s.slots }()
	select {
	case <-proc.Done():
		return
	case <-s.closing:
	}
	s.starter.SignalGroup(proc, syscall.SIGKILL)
	<-proc.Done()
}

// start makes a worker and the connection to it.
func (s *Workers) start(uid, gid uint32) (net.Conn, *reap.Process, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	defer syscall.Close(fds[1])
	ours := os.NewFile(uintptr(fds[0]), "worker")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	proc, err := s.run(uid, gid, uintptr(fds[1]))
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, proc, nil
}

func (s *Workers) run(uid, gid uint32, socket uintptr) (*reap.Process, error) {
	null, err := syscall.Open(os.DevNull, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	defer syscall.Close(null)
	credential, home := account(uid, gid)
	proc, err := s.starter.Start(self, []string{"opensandbox-execd", Flag}, &syscall.ProcAttr{
		Env:   environ.Merge(s.env, map[string]string{"HOME": home}),
		Files: []uintptr{uintptr(null), uintptr(null), 2, socket},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Credential: credential},
	})
	switch {
	case errors.Is(err, reap.ErrStopping):
		return nil, stopping(err)
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EINVAL):
		text := fmt.Sprintf("this sandbox cannot take on uid %d gid %d: %s (it needs the capabilities SETUID and SETGID)", uid, gid, err)
		return nil, fault.New(fault.Unsupported, text).WithCode("NOT_SUPPORTED")
	case err != nil:
		return nil, fmt.Errorf("file worker: %w", err)
	}
	return proc, nil
}

func stopping(err error) error {
	return fault.New(fault.Unavailable, "the sandbox is shutting down").WithCode("RUNTIME_ERROR").Because(err)
}

// account returns the identity to switch to, nil when it is execd's own: a switch needs capabilities even for equal numbers. The
// supplementary groups are those that the image's group file lists for the user; a number without an account has none.
func account(uid, gid uint32) (c *syscall.Credential, home string) {
	c = &syscall.Credential{Uid: uid, Gid: gid}
	a, err := environ.AccountOf(int(uid))
	if err == nil {
		home = a.Home
		// The account's primary group is replaced by the group of the request. AccountOf lists it first.
		for _, g := range a.Groups {
			if g != a.GID && !slices.Contains(c.Groups, uint32(g)) {
				c.Groups = append(c.Groups, uint32(g))
			}
		}
	}
	if int(uid) == os.Geteuid() && int(gid) == os.Getegid() {
		return nil, home
	}
	return c, home
}

// forward passes the request and the answer through, both as streams. An error means that nothing was answered.
func forward(w http.ResponseWriter, r *http.Request, conn net.Conn, path string) error {
	const idHeader = "X-Request-Id"
	id := w.Header().Get(idHeader)
	used := false
	t := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if used {
				return nil, errors.New("the worker ended early") // A second try would need a second worker.
			}
			used = true
			return conn, nil
		},
		DisableKeepAlives: true, DisableCompression: true,
	}
	var failed error
	rp := httputil.ReverseProxy{
		Transport: t,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL = &url.URL{Scheme: "http", Host: "worker", Path: path, RawQuery: pr.In.URL.RawQuery}
			pr.Out.Header.Del("X-EXECD-ACCESS-TOKEN")
			pr.Out.Header.Set(idHeader, id)
		},
		ModifyResponse: func(*http.Response) error {
			w.Header().Del(idHeader) // The worker sent it back.
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil { // Otherwise nobody is left to answer.
				failed = fmt.Errorf("file worker: %w", err)
			}
		},
	}
	rp.ServeHTTP(w, r)
	return failed
}

// ParseID reads a user or group number as clients send it: decimal, from 0 to MaxID.
func ParseID(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > MaxID || strconv.FormatUint(n, 10) != text {
		return 0, fault.Newf(fault.Invalid, "invalid request, validation error %q is not a number from 0 to %d", text, uint32(MaxID)).
			WithCode("INVALID_REQUEST_BODY")
	}
	return uint32(n), nil
}
