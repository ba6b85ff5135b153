package sandboxproxy

import (
	"container/list"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// idlePool keeps connections to applications between two requests: idlePerAddress for each address, idleTotal in all, idleTimeout each.
// The zero value is ready; it may be used concurrently.
type idlePool struct {
	mu sync.Mutex
	// all has the connections, the longest idle ones in front; at has its elements by address in the same order.
	all list.List
	at  map[string][]*list.Element
	// sweep runs while there are connections.
	sweep  *time.Timer
	closed bool
}

// take returns the connection to address that was used last and can be used again, or nil.
func (p *idlePool) take(address string) *leanConn {
	for {
		c := p.pop(address)
		if c == nil || c.quiet() {
			return c
		}
		_ = c.conn.Close()
	}
}

func (p *idlePool) pop(address string) *leanConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	here := p.at[address]
	if len(here) == 0 {
		return nil
	}
	last := here[len(here)-1]
	here[len(here)-1] = nil
	p.set(address, here[:len(here)-1])
	return p.conn(p.all.Remove(last))
}

// put keeps a connection. Where there is no room the one goes that was idle for longest.
func (p *idlePool) put(c *leanConn) {
	c.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.conn.Close()
		return
	}
	if here := p.at[c.address]; len(here) >= idlePerAddress {
		p.drop(here[0])
	}
	if p.all.Len() >= idleTotal {
		p.drop(p.all.Front())
	}
	if p.at == nil {
		p.at = make(map[string][]*list.Element)
	}
	p.at[c.address] = append(p.at[c.address], p.all.PushBack(c))
	if p.sweep == nil {
		p.sweep = time.AfterFunc(idleTimeout, p.age)
	}
}

// age closes what was idle for long enough, and comes again when the next one will have been.
func (p *idlePool) age() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for e := p.all.Front(); e != nil; e = p.all.Front() {
		if left := idleTimeout - time.Since(p.conn(e.Value).since); left > 0 {
			p.sweep.Reset(left)
			return
		}
		p.drop(e)
	}
	p.sweep = nil
}

// close closes all connections, and those that come later.
func (p *idlePool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for e := p.all.Front(); e != nil; e = p.all.Front() {
		p.drop(e)
	}
	if p.sweep != nil {
		p.sweep.Stop()
	}
}

// drop closes a connection, which is the first one of its address.
func (p *idlePool) drop(e *list.Element) {
	c := p.conn(p.all.Remove(e))
	p.set(c.address, p.at[c.address][1:])
	_ = c.conn.Close()
}

func (p *idlePool) set(address string, here []*list.Element) {
	if len(here) == 0 {
		delete(p.at, address)
		return
	}
	p.at[address] = here
}

// conn is what an element holds.
func (p *idlePool) conn(value any) *leanConn {
	c, _ := value.(*leanConn)
	return c
}

// quietness returns what reports whether an idle connection is still open and the application has sent nothing that nobody asked for. It is made
// once for each connection, and called by one goroutine at a time.
func quietness(conn net.Conn) func() bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return func() bool { return false }
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return func() bool { return false }
	}
	open := false
	look := func(fd uintptr) bool {
		var b [1]byte
		_, _, got := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = errors.Is(got, syscall.EAGAIN)
		return true
	}
	return func() bool {
		open = false
		return raw.Read(look) == nil && open
	}
}
