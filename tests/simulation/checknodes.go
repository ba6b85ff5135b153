package simulation

import (
	"maps"
	"slices"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// moved checks how a sandbox came to a node, went from it or ended there.
func (c *checker) moved(was, is *sandbox.Record) {
	switch {
	case !was.Placed() && is.Placed():
		c.came(is)
	case was.Placed() && is.Placement.Node == "":
		c.given(was, is)
	case was.Placed() && is.Ended():
		// What an agent makes after another one has taken its place, and has removed it before, goes when that one next compares.
		n := c.p.node(is.Placement.Node)
		for _, in := range n.real.Instances() {
			if in.ID == is.ID && in.Epoch == is.Placement.Epoch && !n.late[in.Ref] {
				c.p.fail("%s/%d ended and is still on %s", in.ID, in.Epoch, n.name)
			}
		}
	}
}

// came checks that a node may have the sandbox that was given to it.
func (c *checker) came(r *sandbox.Record) {
	n, ok := c.registered(r.Placement.Node)
	switch {
	case !ok:
		c.p.fail("%s was placed on %s, which is unknown", r.ID, r.Placement.Node)
	case n.Draining || n.Removed || !n.Live(c.p.storeNow()):
		c.p.fail("%s was placed on %s, which takes none: %+v", r.ID, n.Name, n)
	}
	if r.Placement.Epoch > 1 {
		c.replaced++
	}
	c.room(c.p.node(r.Placement.Node), r)
}

func (c *checker) registered(name string) (node.Node, bool) {
	all, err := c.p.real.Nodes(background())
	i := slices.IndexFunc(all, func(n node.Node) bool { return n.Name == name })
	if err != nil || i < 0 {
		return node.Node{}, false
	}
	return all[i], true
}

// room checks that a node holds no more than it can with a record that was just placed there. What a node has told of after the store went back
// may be too much; only its placements know that.
func (c *checker) room(n *simNode, placed *sandbox.Record) {
	var count int
	var sum sandbox.Resources
	ports := map[int]sandbox.ID{}
	for _, id := range c.ids() {
		r := c.last[id]
		if !r.Placed() || r.Placement.Node != n.name {
			continue
		}
		count++
		if r.HoldsReservation() {
			sum.CPU += r.Placement.Reserved.CPU
		}
		for _, port := range r.Placement.Ports {
			if other, taken := ports[port]; taken && !c.back.changed[id] && !c.back.changed[other] {
				c.p.fail("port %d of %s is leased to %s and %s", port, n.name, other, id)
			}
			ports[port] = id
		}
	}
	if (count > n.most || (sum.CPU > n.capacity.CPU && placed.Placement.Reserved.CPU > 0)) && !c.unreported(n.name) {
		c.p.fail("%s has %d of %d sandboxes and %d of %d milli-CPUs", n.name, count, n.most, sum.CPU, n.capacity.CPU)
	}
}

// given checks what became of a sandbox whose node was given up.
func (c *checker) given(was, is *sandbox.Record) {
	c.gaveUp++
	wasOver := was.Over() && was.Observed.Epoch == was.Placement.Epoch
	switch {
	case is.Placement.Epoch != was.Placement.Epoch+1 && !(c.back.by > 0 && is.Placement.Epoch > was.Placement.Epoch):
		c.p.fail("%s was given up under epoch %d, after %d", is.ID, is.Placement.Epoch, was.Placement.Epoch)
	case was.Gone():
		if !is.Ended() {
			c.p.fail("%s was Gone when its node was given up, and has not ended", is.ID)
		}
	case wasOver:
		if is.Observed.State != was.Observed.State {
			c.p.fail("%s was %s when its node was given up, and is %s", is.ID, was.Observed.State, is.Observed.State)
		}
	case is.Spec.Replace:
		if !is.Unplaced() || sandbox.StateOf(is) != sandbox.StatePending {
			c.p.fail("%s was to be placed again and is %s", is.ID, sandbox.StateOf(is))
		}
	case is.Observed.State != sandbox.StateFailed || is.Observed.Reason != sandbox.ReasonNodeLost:
		c.p.fail("%s lost its node and is %s %s", is.ID, is.Observed.State, is.Observed.Reason)
	}
}

// observed checks that what an agent said is so.
func (c *checker) observed(was, is *sandbox.Record) {
	if !is.Placed() || is.Observed.Epoch != is.Placement.Epoch {
		return
	}
	ref := executor.Ref{ID: is.ID, Epoch: is.Placement.Epoch}
	same := was.Observed.Epoch == is.Observed.Epoch
	switch {
	case is.Observed.Started && !(same && was.Observed.Started):
		if c.startedOn[ref] != is.Placement.Node {
			c.p.fail("%s is said to run on %s, where epoch %d was never started", is.ID, is.Placement.Node, ref.Epoch)
		}
	case !c.back.changed[is.ID] && same && was.Observed.Generation == is.Observed.Generation && was.Observed.State != is.Observed.State && frozenOrNot(was) && frozenOrNot(is):
		c.p.fail("%s: generation %d was finished as %s and then as %s", is.ID, is.Observed.Generation, was.Observed.State, is.Observed.State)
	}
	if ports := is.Observed.Addresses.Ports; ports != nil && c.has(c.p.node(is.Placement.Node), ref) {
		if real := c.p.node(is.Placement.Node).real.Ports(is.ID); !maps.Equal(ports, real) {
			c.p.fail("%s has ports %v on %s, and %v are given out", is.ID, real, is.Placement.Node, ports)
		}
	}
	if is.Over() && is.Observed.Started && !(same && was.Over()) && c.runs(c.p.node(is.Placement.Node), ref) {
		c.p.fail("%s is said to be %s %s, and runs", is.ID, is.Observed.State, is.Observed.Reason)
	}
}

func frozenOrNot(r *sandbox.Record) bool {
	return r.Observed.State == sandbox.StateRunning || r.Observed.State == sandbox.StatePaused
}

func (c *checker) has(n *simNode, ref executor.Ref) bool {
	return slices.ContainsFunc(n.real.Instances(), func(in executor.Instance) bool { return in.Ref == ref })
}

func (c *checker) runs(n *simNode, ref executor.Ref) bool {
	return slices.ContainsFunc(n.real.Instances(), func(in executor.Instance) bool {
		return in.Ref == ref && (in.Phase == executor.Running || in.Phase == executor.Paused)
	})
}

// alone checks that an incarnation is on no other node, unless nobody can have known.
func (c *checker) alone(n *simNode, ref executor.Ref) {
	for _, other := range c.p.nodes {
		if other == n {
			continue
		}
		for _, in := range other.real.Instances() {
			if in.Ref == ref && !c.mayBeTwice(ref, n.name, other.name) {
				c.p.fail("%s/%d is on %s and on %s", ref.ID, ref.Epoch, other.name, n.name)
			}
		}
	}
}

// mayStop reports whether the running process is the agent of the node and has been cut off so long that it has to stop its sandboxes.
func (c *checker) mayStop(n *simNode) bool {
	proc := c.p.current.proc
	over := !proc.renewed.IsZero() && c.p.now.Sub(proc.renewed) >= cutOffAfter
	return proc.link == n.link && (over || c.p.now.Before(proc.stopping)) && !c.p.variant.NoCutOff
}

// renewed notes a renewal of a node's lease that took effect.
func (c *checker) renewed(name string) {
	if n := c.p.node(name); n != nil {
		n.renewed = c.p.now
	}
}

// leases returns when the lease of each node ends.
func (c *checker) leases() map[string]time.Time {
	all, _ := c.p.real.Nodes(background()) // a store in memory does not fail
	until := make(map[string]time.Time, len(all))
	for _, n := range all {
		until[n.Name] = n.LeaseUntil
	}
	return until
}

// cutShort notes the leases that were not over, and ended when a recovery began: a clock that was set forward says of a lease that was renewed
// just before that it has run out. before is when they ended before that.
func (c *checker) cutShort(before map[string]time.Time) {
	for name, until := range c.leases() {
		if n := c.p.node(name); n != nil && !until.Equal(before[name]) && c.p.now.Sub(n.renewed) < node.LeaseTime {
			n.cutShort = c.p.now
		}
	}
}

// lost checks, at the moment at which a scheduler gives a sandbox up with its node, that it may.
func (c *checker) lost(l sandbox.Loss, by *process) {
	n := c.p.node(l.Node)
	if c.back.changed[l.ID] && c.unreported(l.Node) {
		c.back.untold[l.ID] = true
	}
	if reg, ok := c.registered(l.Node); !ok || reg.Removed {
		return
	}
	least := lossTime
	if n.renewed.Before(c.back.at) || n.renewed.Before(n.cutShort) {
		least -= node.LeaseTime // a lease that the store has lost, or takes for over, ends when the recovery begins
	}
	silent := c.p.now.Sub(n.renewed)
	switch {
	case silent < least:
		c.p.fail("%s was given up with %s, %v after the last renewal of its lease", l.ID, l.Node, silent)
	case c.p.now.Sub(c.p.reachedSince(by)) < node.LeaseTime:
		c.p.fail("%s was given up with %s by %s, which has reached the store for %v only", l.ID, l.Node, by.name, c.p.now.Sub(c.p.reachedSince(by)))
	case c.p.stopped(n, n.renewed) && c.runs(n, executor.Ref{ID: l.ID, Epoch: l.Epoch}):
		c.p.fail("%s/%d was given up while it runs on %s, which was cut off for %v", l.ID, l.Epoch, l.Node, silent)
	}
}

// keyed notes a record that an idempotency key has led to. A second one is allowed when nothing came of the first, for a reason that passes.
func (c *checker) keyed(key string, id sandbox.ID) {
	if key == "" || slices.Contains(c.keys[key], id) {
		return
	}
	for _, other := range c.keys[key] {
		r, err := c.p.real.Get(background(), other)
		if err != nil {
			continue // purged: the key has run out
		}
		if repeats, err := r.Repeats(sandbox.Key{Name: key}, ""); (repeats || err != nil) && !c.back.changed[other] {
			c.p.fail("key %s gave %s and %s, which is %s", key, id, other, sandbox.StateOf(&r))
		}
	}
	c.keys[key] = append(c.keys[key], id)
}

// answered checks what a client is told for a key.
func (c *checker) answered(key string, id sandbox.ID) {
	if key != "" && !slices.Contains(c.keys[key], id) {
		c.p.fail("key %s was answered with %s, but gave %v", key, id, c.keys[key])
	}
}
