package sandboxproxy

import (
	"bufio"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// farewellTime is how long both ends of a WebSocket have to close it after they were told that the router goes away.
const farewellTime = time.Second

// goingAway is the close frame with status 1001, as a server sends it (RFC 6455, sections 5.5.1 and 7.4.1).
var goingAway = []byte{0x80 | opClose, 2, 1001 >> 8, 1001 & 0xff}

// upgrades are the connections of clients that have left HTTP. net/http does not know them any more. The zero value is ready.
type upgrades struct {
	mu   sync.Mutex
	all  map[*upgraded]struct{}
	gone bool
}

// take wraps a connection that was taken over with its buffers. cut ends what it is connected to.
func (u *upgrades) take(conn net.Conn, rw *bufio.ReadWriter, webSocket bool, cut func()) *upgraded {
	c := &upgraded{Conn: conn, set: u, webSocket: webSocket, cut: cut}
	if n := rw.Reader.Buffered(); n > 0 { // the client did not wait for the answer
		early, _ := rw.Reader.Peek(n) // what is buffered can be peeked at
		c.early = append(c.early, early...)
	}
	return c
}

// goAway asks the ends of every connection to close it, now and of those that come later.
func (u *upgrades) goAway() {
	u.mu.Lock()
	u.gone = true
	u.mu.Unlock()
	for _, c := range u.present() {
		c.goAway()
	}
}

// cut ends every connection.
func (u *upgrades) cut() {
	for _, c := range u.present() {
		c.cut()
	}
}

func (u *upgrades) present() []*upgraded {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Keys(u.all))
}

// add reports whether the connection has come too late.
func (u *upgrades) add(c *upgraded) (late bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		u.all = make(map[*upgraded]struct{})
	}
	u.all[c] = struct{}{}
	return u.gone
}

func (u *upgrades) drop(c *upgraded) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.all, c)
}

// upgraded is the connection of one client after an upgrade. httputil writes to it what the application sends, from one goroutine, and
// reads what the client sends, from another.
type upgraded struct {
	net.Conn
	set       *upgrades
	webSocket bool
	cut       func()
	// early and began belong to the goroutine that reads.
	early []byte
	began bool

	mu     sync.Mutex
	frames frames
	// leaving says that the close frame follows the frame in progress, closed that it was sent, by us or by the application.
	leaving, closed bool
}

// Read implements net.Conn. Its first call comes after the answer to the upgrade has been written: only from then on a frame may be added.
func (c *upgraded) Read(p []byte) (int, error) {
	if !c.began {
		c.began = true
		if c.set.add(c) {
			c.goAway()
		}
	}
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// Write implements net.Conn. After our own close frame nothing is sent any more.
func (c *upgraded) Write(p []byte) (int, error) {
	if !c.webSocket {
		return c.Conn.Write(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	part := p
	if c.leaving {
		if c.closed {
			return len(p), nil
		}
		part = p[:c.frames.rest(p)]
	}
	n, err := c.Conn.Write(part)
	c.frames.pass(part[:n])
	c.closed = c.closed || c.frames.closed
	if err != nil || !c.leaving {
		return n, err
	}
	return len(p), c.farewell()
}

// goAway asks a WebSocket to end, at the next border between two frames, and cuts everything else.
func (c *upgraded) goAway() {
	if !c.webSocket {
		c.cut()
		return
	}
	// Before the lock, because a write to a client that does not read holds it.
	_ = c.Conn.SetDeadline(time.Now().Add(farewellTime))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = true
	_ = c.farewell() // the copying notices a connection that is broken
}

// farewell sends the close frame if it may be sent now. What the client answers goes to the application as any other frame, which
// ends its side in order.
func (c *upgraded) farewell() error {
	if c.closed || !c.frames.between() {
		return nil
	}
	c.closed = true
	_, err := c.Conn.Write(goingAway)
	return err
}

// CloseWrite passes on that the application sends nothing more.
func (c *upgraded) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("the connection cannot be closed for one direction")
	}
	return half.CloseWrite()
}

// Close implements net.Conn.
func (c *upgraded) Close() error {
	c.set.drop(c)
	return c.Conn.Close()
}
