package converge

import (
	"context"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
)

// outage is a time in which the engine could not be reached.
type outage struct{ from, to time.Time }

// engineLostExitCode is what an engine reports for a process whose end it did not see because it was not running itself.
const engineLostExitCode = 255

// outageSlack is how far the clocks of the engine and of this process may be apart.
const outageSlack = 2 * time.Second

// EngineAway notes a time in which the engine could not be reached: what ended meanwhile, ended because of it.
func (c *Converger) EngineAway(from, to time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outages = append(c.outages, outage{from.Add(-outageSlack), to.Add(outageSlack)})
	if len(c.outages) > 16 {
		c.outages = c.outages[1:]
	}
}

func (c *Converger) endedByEngine(in executor.Instance) bool {
	if in.ExitCode == engineLostExitCode {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.outages {
		if in.FinishedAt.After(o.from) && in.FinishedAt.Before(o.to) {
			return true
		}
	}
	return false
}

// known reports whether this process has begun to make the present placement.
func (c *Converger) known(r *sandbox.Record) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.starts[r.ID]
	return ok && s.epoch == r.Placement.Epoch
}

// delivered reports whether this process has started the present placement's container.
func (c *Converger) delivered(r *sandbox.Record) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.starts[r.ID]
	return ok && s.epoch == r.Placement.Epoch && s.delivered
}

// started returns what is remembered of a container that was seen running and is not ready yet.
func (c *Converger) started(r *sandbox.Record) (start, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.starts[r.ID]
	return s, ok && s.epoch == r.Placement.Epoch && (s.fresh || !s.looked.IsZero()) && !r.Observed.Started
}

func (c *Converger) note(r *sandbox.Record, change func(*start)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.starts[r.ID]
	if s.epoch != r.Placement.Epoch {
		if s.ready != nil {
			s.ready.end(errUnready)
		}
		s = start{epoch: r.Placement.Epoch}
	}
	change(&s)
	c.starts[r.ID] = s
}

func (c *Converger) forget(id sandbox.ID) {
	c.mu.Lock()
	s := c.starts[id]
	delete(c.starts, id)
	c.mu.Unlock()
	if s.ready != nil {
		s.ready.end(errUnready)
	}
}

// delivering notes that this process has started the container, and measures from now on until its daemon answers.
func (c *Converger) delivering(ctx context.Context, r *sandbox.Record) {
	_, end := c.deps.Work(ctx, r.Intent.Trace, "agent ready")
	w := &wait{over: c.deps.Observe.Begin(stageReady), end: end}
	var before *wait
	c.note(r, func(s *start) { before, s.ready, s.delivered = s.ready, w, true })
	if before != nil {
		before.end(errUnready)
	}
}

// answered ends what delivering began.
func (c *Converger) answered(r *sandbox.Record) {
	var w *wait
	c.note(r, func(s *start) { w, s.ready = s.ready, nil })
	if w != nil {
		w.over()
		w.end(nil)
	}
}
