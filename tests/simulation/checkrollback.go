package simulation

import (
	"maps"
	"slices"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
)

// rollback is what is known of the one time at which the store went back. What is allowed because of it is allowed for what it changed, and
// for nothing else.
type rollback struct {
	// at is when the store went back, and by how far; 0: it did not.
	at time.Time
	by time.Duration
	// incarnation is that of the state that the store went back to.
	incarnation time.Time
	// changed are the records that the store had in another state, or not at all, before it was taken back. Not rebuilt of them are idempotency
	// keys, credentials, records without a node, what a client was told of the end of one, and leases of ports that have been given out anew.
	changed map[sandbox.ID]bool
	// doomed are containers that were not wanted any more when the store went back: an agent that has made up its mind about one removes it,
	// whatever the store says a moment later.
	doomed map[executor.Ref]bool
	// rebuild are the containers that ran and were wanted then, by node. Each has a record again when its node has reported.
	rebuild map[string][]executor.Ref
	// forgotten are the containers that the store had given to a node and has forgotten that it did.
	forgotten map[executor.Ref]string
	// untold are the sandboxes whose node was given up before it had told what it has: whatever it had noted of them is lost.
	untold map[sandbox.ID]bool
	// settled is when the last recovery was over, or looked at while it went on.
	settled time.Time
}

// twiceWithin is how long after the store went back a container may be made that another node has under the same epoch. By then every agent has
// looked at its records.
const twiceWithin = time.Minute

// rollingBack notes what there is just before the store goes back by some time.
func (c *checker) rollingBack(by time.Duration) {
	c.back = rollback{at: c.p.now, by: by, changed: map[sandbox.ID]bool{}, doomed: map[executor.Ref]bool{}, rebuild: map[string][]executor.Ref{},
		forgotten: map[executor.Ref]string{}, untold: map[sandbox.ID]bool{}, settled: c.back.settled}
	for _, n := range c.p.nodes {
		for _, in := range n.real.Instances() {
			r, wanted := c.wanted(n, in.Ref)
			c.back.forgotten[in.Ref] = n.name
			switch {
			case !wanted:
				c.back.doomed[in.Ref] = true
			case r.Observed.Started && (in.Phase == executor.Running || in.Phase == executor.Paused):
				c.back.rebuild[n.name] = append(c.back.rebuild[n.name], in.Ref)
			}
		}
	}
}

// rolledBack forgets what records were after the state that the store has gone back to.
func (c *checker) rolledBack() {
	now, err := c.p.real.Recovery(background())
	if err != nil {
		c.p.fail("read the mark of the store: %v", err)
	}
	c.back.incarnation = now.Mark.Incarnation
	for _, id := range c.ids() {
		r, err := c.p.real.Get(background(), id)
		if err != nil {
			r = sandbox.Record{} // lost; what it left on an engine must go all the same
		}
		c.back.changed[id] = r.Version != c.last[id].Version
		c.last[id] = r
		if err == nil {
			c.promiseLess(&r)
		}
	}
	maps.DeleteFunc(c.back.forgotten, func(ref executor.Ref, node string) bool {
		r := c.last[ref.ID]
		return r.Placement.Node == node && r.Placement.Epoch >= ref.Epoch
	})
	// What is gone may be made once more under an epoch that the store has lost, or by a record that had come to its end, as long as nobody has
	// noticed.
	maps.DeleteFunc(c.starts, func(ref executor.Ref, _ int) bool {
		return c.back.changed[ref.ID] && !slices.ContainsFunc(c.p.nodes, func(n *simNode) bool { return c.has(n, ref) })
	})
}

// mayBeTwice reports whether an incarnation may be on two nodes: the store has forgotten that it gave it to one, has given it to the other, and
// has come so far since that its counter does not show it. The first agent finds that out when it next reads the record.
func (c *checker) mayBeTwice(ref executor.Ref, one, other string) bool {
	first, forgotten := c.back.forgotten[ref]
	return forgotten && (first == one || first == other) && c.p.now.Sub(c.back.at) < twiceWithin
}

// promiseLess notes what is left of a promise: what the store has, or more if a node has noted more, but not more than there was.
func (c *checker) promiseLess(r *sandbox.Record) {
	before := c.promised[r.ID]
	c.promise(r)
	least := c.promised[r.ID]
	noted := *r
	noted.Intent.ExpiresAt = c.noted(r)
	c.promise(&noted)
	c.promised[r.ID] = latest(least, earliest(before, c.promised[r.ID]))
}

// noted returns the latest deadline of a sandbox that anybody has noted: the store that went back, or a node that has the sandbox. A renewal
// that no node had noted yet is lost with the store's state.
func (c *checker) noted(r *sandbox.Record) time.Time {
	at := r.Intent.ExpiresAt
	for _, n := range c.p.live() {
		note, ok := n.memory.notes[r.ID]
		if ok && note.Intent.ExpiresAt.After(at) && c.has(n, executor.Ref{ID: r.ID, Epoch: note.Epoch}) && note.Version > 0 {
			at = note.Intent.ExpiresAt
		}
	}
	return at
}

// unreported reports whether a node has not told a store that went back what it has. A store does not wait for one that is away.
func (c *checker) unreported(name string) bool {
	r, err := c.p.real.Recovery(background())
	return err == nil && r.Awaits(name)
}

// unnoticed reports whether nobody can have seen yet that the store went back: more has been written since than was lost.
func (c *checker) unnoticed() bool {
	r, err := c.p.real.Recovery(background())
	return err == nil && r.Mark.Incarnation.Equal(c.back.incarnation) && c.p.now.Sub(c.back.at) < twiceWithin
}

// renewalLost reports whether a renewal that the store has lost cannot have come back: the node that had the sandbox has not told so, or was given
// up before it had, or has nothing left of it, or nobody has noticed.
func (c *checker) renewalLost(r *sandbox.Record) bool {
	n := c.p.node(r.Placement.Node)
	return c.back.changed[r.ID] && (n == nil || c.back.untold[r.ID] || c.unnoticed() || c.unreported(n.name) || !c.has(n, executor.Ref{ID: r.ID, Epoch: r.Placement.Epoch}))
}

// sighted notes what a record is after a node has told of its container: it may be one that the store had lost, or be brought forward by any
// number of steps.
func (c *checker) sighted(id sandbox.ID) {
	r, err := c.p.real.Get(background(), id)
	if err != nil {
		c.p.fail("%s was sighted and is not there: %v", id, err)
		return
	}
	was := c.last[id]
	switch {
	case was.Gone() && !r.Gone():
		c.p.fail("%s: Gone(%s) became %s by a sighting", id, was.Intent.Reason, r.Intent.Desired)
	case was.Ended() && !r.Ended():
		c.p.fail("%s came back from its end by a sighting", id)
	case was.FailedCreate() && !r.FailedCreate():
		c.p.fail("%s: a failed create was taken back by a sighting", id)
	case r.Intent.ExpiresAt.Before(was.Intent.ExpiresAt):
		c.p.fail("%s: its deadline came forward by a sighting", id)
	}
	c.p.say("record", "sighted %s %s gen %d/%d node %q epoch %d %s %s", id, r.Intent.Desired, r.Observed.Generation, r.Intent.Generation, r.Placement.Node,
		r.Placement.Epoch, r.Observed.State, r.Observed.Reason)
	c.last[id] = r
	if was.ID == "" || !r.Intent.ExpiresAt.Equal(was.Intent.ExpiresAt) {
		c.promise(&r)
	}
}

// reported checks that what a node has is in the store again.
func (c *checker) reported(name string) {
	n := c.p.node(name)
	for _, ref := range c.back.rebuild[name] {
		if !c.has(n, ref) {
			continue
		}
		if r, err := c.p.real.Get(background(), ref.ID); err != nil || (r.Placement.Epoch < ref.Epoch && !r.Gone()) {
			c.p.fail("%s/%d runs on %s, and the store does not know it when the node has reported: %v", ref.ID, ref.Epoch, name, err)
		}
	}
	delete(c.back.rebuild, name)
}

// settling notes whether a recovery goes on, during which no deadline is decided.
func (c *checker) settling() {
	if r, err := c.p.real.Recovery(background()); err == nil && r.Going() {
		c.back.settled = c.p.now
	}
}
