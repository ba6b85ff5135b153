package converge

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
)

// Lease is what this process knows of its node's lease, and when that was so long ago that the sandboxes may have been given up. Safe for
// concurrent use; nil is a lease that never ends.
type Lease struct {
	limit time.Duration

	mu    sync.Mutex
	sent  time.Time
	ended bool
}

// NewLease returns a lease that was taken by a request sent at a time; with the zero time it begins with the first call of Renewed. lostAfter is
// how long a node may be unreachable before the scheduler gives its sandboxes up; 0 means that it never does.
//
// The agent acts after four fifths of it: the rest is for the clocks, which need not run at the same speed, and for the stopping itself. The
// time counts from when a renewal was sent, because nobody here knows when it arrived.
func NewLease(lostAfter time.Duration, sent time.Time) *Lease {
	return &Lease{limit: lostAfter / 5 * 4, sent: sent}
}

// Renewed notes a renewal that has succeeded and was sent at a time by the same clock as all other times of the lease.
func (l *Lease) Renewed(sent time.Time) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if sent.After(l.sent) {
		l.sent = sent
	}
}

// End says that the lease is over for ever: the node was removed.
func (l *Lease) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// Sent returns when the last renewal that succeeded was sent.
func (l *Lease) Sent() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

// CutOff reports whether the sandboxes of the node may have been given up by now, and since when the lease stands, which tells one time
// of being cut off from the next.
func (l *Lease) CutOff(now time.Time) (since time.Time, over bool) {
	if l == nil {
		return time.Time{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent, l.ended || (l.limit > 0 && !l.sent.IsZero() && now.Sub(l.sent) >= l.limit)
}

// cutOffRetry is the pause of a step that may do nothing because the node is cut off.
const cutOffRetry = time.Second

// cutOff holds what was stopped because the node was cut off.
type cutOff struct {
	// stopping is held while everything is being stopped.
	stopping sync.Mutex
	// done is the beginning of the lease after which everything was stopped.
	done time.Time

	mu     sync.Mutex
	marked map[executor.Ref]struct{}
	// noting is held while the marks are being written down, so that an older list does not replace a newer one.
	noting sync.Mutex
}

func newCutOff(marks []executor.Ref) cutOff {
	marked := make(map[executor.Ref]struct{}, len(marks))
	for _, r := range marks {
		marked[r] = struct{}{}
	}
	return cutOff{marked: marked}
}

// now is the time by the clock of the lease. A step may have taken long, or have been stopped itself, since it was given its time.
func (c *Converger) now(given time.Time) time.Time {
	if c.cfg.Clock != nil {
		return c.cfg.Clock()
	}
	return given
}

// isCutOff reports whether nothing may be created or started now.
func (c *Converger) isCutOff(now time.Time) bool {
	_, over := c.cfg.Lease.CutOff(c.now(now))
	return over
}

// CutOff stops everything that runs if the node has been cut off from the store for so long that its sandboxes may run elsewhere by now.
// What was stopped is never started again; it is reported when the store is back. It is safe to call it again and again, and it should be,
// as long as the node is cut off: a step that had begun before may have started something. Safe for concurrent use with Step.
func (c *Converger) CutOff(ctx context.Context, now time.Time) error {
	since, over := c.cfg.Lease.CutOff(c.now(now))
	if !over {
		return nil
	}
	if !c.cut.stopping.TryLock() {
		return nil // somebody is at it. Nobody waits here: what drives the steps may do one thing at a time.
	}
	defer c.cut.stopping.Unlock()
	if !c.cut.done.Equal(since) {
		c.cfg.Log.ErrorContext(ctx, "the store cannot be reached for so long that the sandboxes of this node may be given up; stopping them", "since", since)
	}
	if err := c.StopAll(ctx); err != nil {
		return err
	}
	c.cut.done = since
	return nil
}

// cutOffFirst makes sure that everything is stopped before a step does anything else. It reports whether the step may do nothing.
func (c *Converger) cutOffFirst(ctx context.Context, now time.Time) bool {
	since, over := c.cfg.Lease.CutOff(c.now(now))
	if !over {
		return false
	}
	if !c.cut.stopping.TryLock() {
		return true // everything is being stopped at this moment
	}
	stopped := c.cut.done.Equal(since)
	c.cut.stopping.Unlock()
	if !stopped {
		if err := c.CutOff(ctx, now); err != nil {
			c.cfg.Log.DebugContext(ctx, "cannot stop the sandboxes of a node that is cut off", "error", err) // the loop that calls CutOff says so
		}
	}
	return true
}

// StopAll kills everything that runs on this node, whatever its record says. The containers stay.
func (c *Converger) StopAll(ctx context.Context) error {
	instances, err := c.deps.Executor.List(ctx)
	if err != nil {
		return err
	}
	var running []executor.Instance
	for _, in := range instances {
		switch in.Phase {
		case executor.Running, executor.Paused:
			running = append(running, in)
		case executor.Created:
		default:
			continue
		}
		c.mark(in.Ref)
	}
	c.noteMarks(ctx) // before the first is stopped: the next start of the agent has to know too
	failed := make([]error, len(running))
	c.deps.Each(len(running), func(i int) { failed[i] = c.kill(ctx, running[i].Ref) })
	return errors.Join(failed...)
}

// mark notes a container that is over because the node was cut off, and forgets how far its create had come.
func (c *Converger) mark(r executor.Ref) {
	c.forget(r.ID)
	c.cut.mu.Lock()
	defer c.cut.mu.Unlock()
	c.cut.marked[r] = struct{}{}
}

func (c *Converger) unmark(ctx context.Context, r executor.Ref) {
	c.cut.mu.Lock()
	delete(c.cut.marked, r)
	c.cut.mu.Unlock()
	c.noteMarks(ctx)
}

// noteMarks writes the marks down. What cannot be written is forgotten with this process, and reported as an ordinary end then.
func (c *Converger) noteMarks(ctx context.Context) {
	c.cut.noting.Lock()
	defer c.cut.noting.Unlock()
	c.cut.mu.Lock()
	marks := slices.SortedFunc(maps.Keys(c.cut.marked), func(a, b executor.Ref) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), cmp.Compare(a.Epoch, b.Epoch))
	})
	c.cut.mu.Unlock()
	if err := c.deps.Stopped(marks); err != nil {
		c.cfg.Log.WarnContext(ctx, "cannot note what was stopped because the node is cut off", "error", err)
	}
}

func (c *Converger) isMarked(r executor.Ref) bool {
	c.cut.mu.Lock()
	defer c.cut.mu.Unlock()
	_, ok := c.cut.marked[r]
	return ok
}

// keepMarks forgets the marks of containers that are no more.
func (c *Converger) keepMarks(ctx context.Context, have map[executor.Ref]executor.Phase) {
	c.cut.mu.Lock()
	before := len(c.cut.marked)
	maps.DeleteFunc(c.cut.marked, func(r executor.Ref, _ struct{}) bool { return have[r] == "" })
	fewer := len(c.cut.marked) < before
	c.cut.mu.Unlock()
	if fewer {
		c.noteMarks(ctx)
	}
}

// stopped reports a sandbox that was stopped, or not started, because the node was cut off. One that the engine did not let us kill is what it
// was: its placement is still the present one, so nobody else can have it.
func (c *Converger) stopped(ctx context.Context, r *sandbox.Record, in executor.Instance) (out Outcome, handled bool, err error) {
	if !c.isMarked(in.Ref) || r.Over() {
		return again, false, nil
	}
	rep := sandbox.Report{State: sandbox.StateFailed, Reason: sandbox.ReasonNodeCutOff, Message: "the node was cut off for too long, so the sandbox was stopped"}
	switch in.Phase {
	case executor.Running, executor.Paused:
		c.unmark(ctx, in.Ref)
		return again, false, nil
	case executor.Exited:
		code := in.ExitCode
		rep.ExitCode = &code
	}
	out, err = c.report(ctx, r, rep)
	if err == nil {
		c.unmark(ctx, in.Ref)
	}
	return out, true, err
}
