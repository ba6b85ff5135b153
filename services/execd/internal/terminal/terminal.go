package terminal

import (
	"context"
	"fmt"
	"sync"
	"syscall"

	"opensandbox/libs/fault"
)

const (
	// startCols and startRows are the size before a client tells its own, as in OpenSandbox 1.1.1.
	startCols, startRows = 80, 24
	// queueFrames bounds what waits for a holder that reads slowly; beyond it the process waits, as it would for a slow terminal.
	queueFrames = 8
)

// terminal is one session.
type terminal struct {
	m       *Manager
	id      string
	env     []string
	dir     string
	command string

	mu         sync.Mutex
	ring       ring
	changed    chan struct{} // Closed, and replaced, when the ring grows.
	proc       *process      // Nil while none runs.
	holder     *Client
	viewers    map[*Client]struct{}
	cols, rows uint16
	deleted    bool
}

// refusal says why a client cannot attach. Called with the lock.
func (t *terminal) refusal(o Options) error {
	switch {
	case t.deleted:
		return fault.Newf(fault.NotFound, "terminal %s not found", t.id).WithCode("CONTEXT_NOT_FOUND")
	case o.Viewer && t.proc == nil:
		return fault.New(fault.Conflict, "nothing runs in this terminal: there is nothing to view").WithCode("NOT_RUNNING")
	case !o.Viewer && t.holder != nil && !o.Takeover:
		return ErrOccupied
	}
	return nil
}

func (t *terminal) attach(o Options) (*Client, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.refusal(o); err != nil {
		return nil, err
	}
	c := &Client{t: t, viewer: o.Viewer, ended: make(chan struct{})}
	if o.Viewer {
		c.at = max(o.Since, 0)
		c.pipe = t.proc.pipe
		t.viewers[c] = struct{}{}
		return c, nil
	}
	if t.proc == nil {
		p, err := t.start(o.Pipe)
		if err != nil {
			return nil, fault.Newf(fault.Internal, "%s", err).WithCode("START_FAILED")
		}
		t.proc = p
	}
	if t.holder != nil {
		t.holder.finish(End{Why: TakenOver})
	}
	c.pipe = t.proc.pipe
	c.queue = make(chan Frame, queueFrames)
	if b, offset := t.ring.from(o.Since, ringSize); len(b) > 0 {
		c.replay = &Frame{Kind: FrameReplay, Offset: offset, Data: b}
	}
	t.holder = c
	return c, nil
}

// clients returns all. Called with the lock.
func (t *terminal) clients() []*Client {
	var all []*Client
	if t.holder != nil {
		all = append(all, t.holder)
	}
	for c := range t.viewers {
		all = append(all, c)
	}
	return all
}

// printed takes over output and returns who holds the terminal now.
func (t *terminal) printed(b []byte) *Client {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ring.add(b)
	close(t.changed)
	t.changed = make(chan struct{})
	return t.holder
}

// over is called when the process has ended and its output was taken over.
func (t *terminal) over(code int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.proc = nil
	for _, c := range t.clients() {
		c.finish(End{Why: Exited, Code: code})
	}
	t.holder = nil
	clear(t.viewers)
}

// Why says how a connection ended.
type Why int

// The ends of a connection.
const (
	// Exited: the process has ended.
	Exited Why = iota + 1
	// TakenOver: another client took the place.
	TakenOver
	// InputFailed: what the client sent could not be written.
	InputFailed
	// Closing: the sandbox ends.
	Closing
	// Left: the client has detached.
	Left
)

// End tells how a connection ended.
type End struct {
	Why Why
	// Code is the exit code after Exited, -1 for a death by signal.
	Code int
	// Err is the reason after InputFailed.
	Err error
}

// Client is one attached client. Next is called from one goroutine, the others from any.
type Client struct {
	t      *terminal
	viewer bool
	pipe   bool

	replay *Frame     // What Next returns first, nil when there is nothing.
	queue  chan Frame // Of a holder.
	at     int64      // Of a viewer: where it reads on.

	once  sync.Once
	ended chan struct{} // Closed after end was set.
	end   End
}

func (c *Client) finish(e End) {
	c.once.Do(func() {
		c.end = e
		close(c.ended)
	})
}

// Role is "holder" or "viewer", Mode "pty" or "pipe".
func (c *Client) Role() string {
	if c.viewer {
		return "viewer"
	}
	return "holder"
}

// Mode tells what the process runs on.
func (c *Client) Mode() string {
	if c.pipe {
		return "pipe"
	}
	return "pty"
}

// Replay returns the output that was kept, when there is any. It is the first thing that a client is sent.
func (c *Client) Replay() (Frame, bool) {
	if c.viewer {
		return c.kept()
	}
	if c.replay == nil {
		return Frame{}, false
	}
	return *c.replay, true
}

// kept returns what a viewer has not read yet.
func (c *Client) kept() (Frame, bool) {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	return c.unread()
}

func (c *Client) unread() (Frame, bool) {
	b, offset := c.t.ring.from(c.at, ringSize)
	if len(b) == 0 {
		return Frame{}, false
	}
	c.at = offset + int64(len(b))
	return Frame{Kind: FrameReplay, Offset: offset, Data: b}, true
}

// Next waits for output. When ok is false the connection has ended, or ctx has, which counts as leaving; everything before the end of
// the process was returned.
func (c *Client) Next(ctx context.Context) (f Frame, end End, ok bool) {
	if c.viewer {
		return c.nextView(ctx)
	}
	select {
	case f := <-c.queue:
		return f, End{}, true
	case <-ctx.Done():
		return Frame{}, End{Why: Left}, false
	case <-c.ended:
	}
	select {
	case f := <-c.queue:
		return f, End{}, true
	default:
		return Frame{}, c.end, false
	}
}

func (c *Client) nextView(ctx context.Context) (Frame, End, bool) {
	for {
		c.t.mu.Lock()
		f, ok := c.unread()
		changed := c.t.changed
		c.t.mu.Unlock()
		if ok {
			return f, End{}, true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Frame{}, End{Why: Left}, false
		case <-c.ended:
			if f, ok := c.kept(); ok {
				return f, End{}, true
			}
			return Frame{}, c.end, false
		}
	}
}

// holds returns the process that the client may write to.
func (c *Client) holds() (*process, error) {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if c.t.holder != c || c.t.proc == nil {
		return nil, errDetached
	}
	return c.t.proc, nil
}

// Input sends bytes to the process. It waits while much is waiting there already.
func (c *Client) Input(b []byte) error {
	p, err := c.holds()
	if err != nil {
		return err
	}
	select {
	case p.input <- b:
		return nil
	case <-p.gone:
		return errDetached
	case <-c.ended:
		return errDetached
	}
}

// Resize tells the size of the client's window. On pipes it means nothing.
func (c *Client) Resize(cols, rows uint16) error {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if c.t.holder != c || c.t.proc == nil {
		return errDetached
	}
	c.t.cols, c.t.rows = cols, rows
	if c.pipe {
		return nil
	}
	if err := resize(c.t.proc.stdin, cols, rows); err != nil {
		return fmt.Errorf("window size: %w", err)
	}
	return nil
}

// Signal signals what the terminal's keys would reach, the job in the foreground. What is meant to end the terminal, SIGTERM, SIGHUP
// and SIGKILL, goes to its shell as well.
func (c *Client) Signal(sig syscall.Signal) error {
	p, err := c.holds()
	if err != nil {
		return err
	}
	group := 0
	if !p.pipe {
		group = foreground(p.stdin)
	}
	if group > 1 && group != p.leader.PID {
		_ = syscall.Kill(-group, sig) // It may have ended just now.
	}
	if group == 0 || group == p.leader.PID || sig == syscall.SIGTERM || sig == syscall.SIGHUP || sig == syscall.SIGKILL {
		c.t.m.cfg.Starter.SignalGroup(p.leader, sig)
	}
	return nil
}

// Detach gives the place up. The process goes on.
func (c *Client) Detach() {
	c.finish(End{Why: Left})
	c.t.mu.Lock()
	if c.t.holder == c {
		c.t.holder = nil
	}
	delete(c.t.viewers, c)
	c.t.mu.Unlock()
	c.t.m.workers.Done()
}
