package simulation

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// checker looks, after each change of the store or an engine, at what must hold at every moment.
type checker struct {
	p    *plane
	last map[sandbox.ID]sandbox.Record
	// promised is when, by true time, each deadline may come at the earliest.
	promised map[sandbox.ID]time.Time
	// looked counts the entries of each engine's history that have been judged.
	looked map[string]int
	starts map[executor.Ref]int
	// byHand are sandboxes that the simulator itself interfered with.
	byHand map[sandbox.ID]bool
	// lateness is the longest time between a deadline and the decision, without clock steps.
	lateness time.Duration
}

func newChecker(p *plane) *checker {
	return &checker{p: p, last: map[sandbox.ID]sandbox.Record{}, promised: map[sandbox.ID]time.Time{}, looked: map[string]int{},
		starts: map[executor.Ref]int{}, byHand: map[sandbox.ID]bool{}}
}

// ids returns the ids that were ever inserted.
func (c *checker) ids() []sandbox.ID { return slices.Sorted(maps.Keys(c.last)) }

// inserted notes a new record; clients call it, since the store cannot list ended ones.
func (c *checker) inserted(id sandbox.ID) {
	if _, known := c.last[id]; !known {
		c.last[id] = sandbox.Record{}
	}
}

// store checks all records against what they were.
func (c *checker) store() {
	page, err := c.p.real.List(background(), sandbox.Query{Offset: 0, Limit: 1000})
	if err != nil {
		c.p.fail("list: %v", err)
		return
	}
	for i := range page.Items {
		c.inserted(page.Items[i].ID)
	}
	for _, id := range c.ids() {
		r, err := c.p.real.Get(background(), id)
		if fault.Is(err, fault.NotFound) {
			continue // purged
		}
		if err != nil {
			c.p.fail("get: %v", err)
			return
		}
		c.record(c.last[id], r)
		c.last[id] = r
	}
}

func (c *checker) record(was, is sandbox.Record) {
	if was.ID == "" || !is.Intent.ExpiresAt.Equal(was.Intent.ExpiresAt) {
		c.promise(&is)
	}
	if was.ID == "" || was.Version == is.Version {
		return
	}
	p := c.p
	p.say("record", "%s %s gen %d/%d epoch %d %s %s ended=%v accepted=%v", is.ID, is.Intent.Desired, is.Observed.Generation, is.Intent.Generation,
		is.Placement.Epoch, is.Observed.State, is.Observed.Reason, is.Ended(), is.Intent.Accepted)
	switch {
	case was.Gone() && (!is.Gone() || is.Intent.Reason != was.Intent.Reason):
		p.fail("%s: Gone(%s) became %s(%s)", is.ID, was.Intent.Reason, is.Intent.Desired, is.Intent.Reason)
	case was.Ended() && !is.Ended():
		p.fail("%s came back from its end", is.ID)
	case is.Intent.Generation < was.Intent.Generation || is.Placement.Epoch < was.Placement.Epoch:
		p.fail("%s: generation or epoch went back", is.ID)
	case was.FailedCreate() && !is.FailedCreate():
		p.fail("%s: a failed create was taken back", is.ID)
	case !sandbox.CanFollow(sandbox.StateOf(&was), sandbox.StateOf(&is)):
		p.fail("%s: %s cannot follow %s", is.ID, sandbox.StateOf(&is), sandbox.StateOf(&was))
	case is.Ended() && is.Placed() && !was.Ended():
		p.fail("%s ended while it holds amounts", is.ID)
	}
	if !was.Gone() && is.Gone() && is.Intent.Reason == sandbox.ReasonExpired {
		if early := c.promised[is.ID].Sub(p.now); early > 0 {
			p.fail("%s expired %v early", is.ID, early)
		} else {
			c.late(-early)
		}
	}
}

// late notes a lateness, unless the clock was changed meanwhile, which makes deadlines late on purpose.
func (c *checker) late(by time.Duration) {
	if !c.p.clockSteps {
		c.lateness = max(c.lateness, by)
	}
}

// promise notes how early the deadline may come: by the machine's own time, and no more than a tenth sooner than the clock said when it was
// set, whatever the clock does in between.
func (c *checker) promise(r *sandbox.Record) {
	if r.Intent.ExpiresAt.IsZero() {
		return
	}
	left := r.Intent.ExpiresAt.Sub(c.p.storeNow())
	if c.p.clockSteps {
		left = left*10/11 - lastLook
	}
	c.promised[r.ID] = c.p.now.Add(left - 2*time.Millisecond)
}

// lastLook is a tenth of the longest time that a scheduler may not have looked at its clock before the deadline was set.
const lastLook = 150 * time.Millisecond

// engine checks what has newly happened on the engines.
func (c *checker) engine() {
	for _, n := range c.p.nodes {
		h := n.real.History()
		for _, e := range h[c.looked[n.name]:] {
			c.happened(n, e)
		}
		c.looked[n.name] = len(h)
	}
}

func (c *checker) happened(n *simNode, e fakeexec.Entry) {
	c.p.say(n.name, "%s/%d %s", e.ID, e.Epoch, e.What)
	r, err := c.p.real.Get(background(), e.ID)
	known := err == nil
	switch e.What {
	case fakeexec.WasStarted:
		if c.starts[e.Ref]++; c.starts[e.Ref] > 1 {
			c.p.fail("%s/%d was started twice", e.ID, e.Epoch)
		}
		for _, other := range c.p.nodes {
			for _, in := range other.real.Instances() {
				if other != n && in.ID == e.ID && in.Epoch == e.Epoch {
					c.p.fail("%s/%d is on two nodes", e.ID, e.Epoch)
				}
			}
		}
	case fakeexec.WasKilled:
		if known && !r.Gone() && !r.FailedCreate() && r.Placement.Epoch == e.Epoch && !r.Over() {
			c.p.fail("%s/%d was killed although it is wanted", e.ID, e.Epoch)
		}
	case fakeexec.WasRemoved:
		// Before Running a container may be made anew, for another port; afterwards it stays as long as its record wants it.
		if known && !r.Gone() && !r.FailedCreate() && r.Placement.Epoch == e.Epoch && r.Observed.Started {
			c.p.fail("%s/%d was removed although it is wanted", e.ID, e.Epoch)
		}
	}
}

// atEnd checks what must hold when faults have stopped and everything was given time.
func (c *checker) atEnd() {
	for _, n := range c.p.nodes {
		for _, in := range n.real.Instances() {
			c.p.fail("leaked on %s: %s/%d %s", n.name, in.ID, in.Epoch, in.Phase)
		}
	}
	for _, id := range c.ids() {
		r, err := c.p.real.Get(background(), id)
		if err == nil && !r.Ended() {
			c.p.fail("%s never ended: %s/%s, observed %s", id, r.Intent.Desired, r.Intent.Reason, r.Observed.State)
		}
	}
	c.roomIsFree()
}

// roomIsFree places one sandbox on each node under bounds that only an empty node meets.
func (c *checker) roomIsFree() {
	for i, n := range c.p.nodes {
		// Whether an agent is alive at this very moment is not the question.
		if _, err := c.p.real.Register(background(), node.Registration{Name: n.name, EngineID: fmt.Sprintf("engine-%d", i), TakeOver: true}); err != nil {
			c.p.fail("register: %v", err)
		}
		id := sandbox.ID("room-" + n.name)
		if _, err := c.p.real.Insert(background(), sandbox.New{ID: id, Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"run"}}}); err != nil {
			c.p.fail("insert: %v", err)
		}
		ports := make([]int, portMax-portMin+1)
		for i := range ports {
			ports[i] = i + 1
		}
		_, err := c.p.real.Place(background(), sandbox.PlaceRequest{ID: id, Ports: ports[:len(ports)-len(c.p.taken)], Reserve: sandbox.Resources{CPU: 1, Memory: 1},
			Candidates: []sandbox.Candidate{{Node: n.name, MaxSandboxes: 1, Capacity: sandbox.Resources{CPU: 1, Memory: 1}, PortMin: portMin, PortMax: portMax}}})
		if err != nil {
			c.p.fail("reservations or ports leaked on %s: %v", n.name, err)
		}
	}
}
