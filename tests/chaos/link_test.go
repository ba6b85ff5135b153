//go:build chaos

package chaos

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// link is what joins a network namespace to the rest of the world: a pair of interfaces, over which clients reach sandboxes and the apis the
// agent, and listeners in the namespace through which the agent reaches the Redis servers of this machine under their own addresses.
type link struct {
	name      string
	listeners []net.Listener
	running   sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func newLink(name string, addrs []string) (*link, error) {
	l := &link{name: name, conns: map[net.Conn]bool{}}
	for _, addr := range addrs {
		listener, err := listenIn(name, addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen on %s in %s: %w", addr, name, err), l.close())
		}
		l.listeners = append(l.listeners, listener)
		l.running.Go(func() { l.serve(listener, addr) })
	}
	return l, nil
}

// listenIn listens in a network namespace: a socket stays in the one that its thread was in. The thread goes back instead of ending: the
// processes that it has started would end with it.
func listenIn(name, addr string) (listener net.Listener, err error) {
	runtime.LockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	other, err := os.Open("/run/netns/" + name)
	if err != nil {
		return nil, err
	}
	defer other.Close()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	listener, err = net.Listen("tcp", addr)
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return nil, back // the thread stays locked, so that nobody else gets it
	}
	runtime.UnlockOSThread()
	return listener, err
}

func (l *link) serve(listener net.Listener, addr string) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", addr)
		if err != nil || !l.keep(near, far) {
			_ = near.Close()
			if far != nil {
				_ = far.Close()
			}
			continue
		}
		l.running.Go(func() { l.copy(near, far) })
		l.running.Go(func() { l.copy(far, near) })
	}
}

// keep notes a pair of connections; false while the link is cut.
func (l *link) keep(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return false
	}
	for _, c := range conns {
		l.conns[c] = true
	}
	return true
}

func (l *link) copy(to, from net.Conn) {
	_, _ = io.Copy(to, from) // either side may end it
	_, _ = to.Close(), from.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, to)
	delete(l.conns, from)
}

// sever cuts the node off; mend joins it again.
func (l *link) sever() error {
	l.mu.Lock()
	l.cut = true
	for c := range l.conns {
		_ = c.Close()
	}
	l.mu.Unlock()
	return l.set("down")
}

func (l *link) mend() error {
	l.mu.Lock()
	l.cut = false
	l.mu.Unlock()
	return l.set("up")
}

func (l *link) set(state string) error {
	if out, err := exec.Command("ip", "link", "set", l.name+"-a", state).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (l *link) close() error {
	for _, listener := range l.listeners {
		_ = listener.Close()
	}
	err := l.mend()
	l.mu.Lock()
	l.cut = true
	for c := range l.conns {
		_ = c.Close()
	}
	l.mu.Unlock()
	l.running.Wait()
	return err
}
