package converge

import (
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
		s = start{epoch: r.Placement.Epoch}
	}
	change(&s)
	c.starts[r.ID] = s
}

func (c *Converger) forget(id sandbox.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.starts, id)
}
