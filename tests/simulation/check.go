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
	scheduler "opensandbox/services/scheduler/app"
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
	// back is what is known of the store having gone back.
	back rollback
	// startedOn is the node that each incarnation was started on.
	startedOn map[executor.Ref]string
	// keys are the records that were made for each idempotency key.
	keys map[string][]sandbox.ID
	// lateness is the longest time between a deadline and the decision, without clock steps.
	lateness time.Duration
	// gaveUp and replaced count sandboxes that were given up with their node, and those that got another one.
	gaveUp, replaced int
}

func newChecker(p *plane) *checker {
	return &checker{p: p, last: map[sandbox.ID]sandbox.Record{}, promised: map[sandbox.ID]time.Time{}, looked: map[string]int{},
		starts: map[executor.Ref]int{}, startedOn: map[executor.Ref]string{}, keys: map[string][]sandbox.ID{}}
}

// ids returns the ids that were ever inserted.
func (c *checker) ids() []sandbox.ID { return slices.Sorted(maps.Keys(c.last)) }

// inserted notes a new record.
func (c *checker) inserted(id sandbox.ID) {
	if _, known := c.last[id]; !known {
		c.last[id] = sandbox.Record{}
	}
}

// records checks records against what they were.
func (c *checker) records(ids ...sandbox.ID) {
	for _, id := range ids {
		r, err := c.p.real.Get(background(), id)
		if fault.Is(err, fault.NotFound) {
			continue // purged
		}
		if err != nil {
			c.p.fail("get: %v", err)
			return
		}
		was := c.last[id]
		c.last[id] = r
		c.record(was, r)
	}
}

// secret checks that credentials are kept while they may be needed, and no longer.
func (c *checker) secret(r *sandbox.Record) {
	kept, err := c.p.real.Secret(background(), r.ID)
	switch {
	case err != nil:
		c.p.fail("secret of %s: %v", r.ID, err)
	case kept == nil && c.back.changed[r.ID]:
		// Whatever the nodes know, they do not know credentials.
	case (kept != nil) != r.KeepsSecret():
		c.p.fail("%s: the credentials are kept: %v, and are needed: %v", r.ID, kept != nil, r.KeepsSecret())
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
	c.secret(&is)
	p.say("record", "%s %s gen %d/%d node %q epoch %d %s %s ended=%v accepted=%v", is.ID, is.Intent.Desired, is.Observed.Generation, is.Intent.Generation,
		is.Placement.Node, is.Placement.Epoch, is.Observed.State, is.Observed.Reason, is.Ended(), is.Intent.Accepted)
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
		if early := c.promised[is.ID].Sub(p.now); early > 0 && !c.renewalLost(&is) {
			p.fail("%s expired %v early", is.ID, early)
		} else {
			c.late(c.promised[is.ID])
		}
	}
	c.moved(&was, &is)
	c.observed(&was, &is)
}

// late notes how late a decision comes that was due, unless the clock was changed meanwhile, which makes deadlines late on purpose. The time
// in which no scheduler could have decided does not count.
func (c *checker) late(due time.Time) {
	if c.p.clockSteps {
		return
	}
	able := c.p.now
	for _, s := range c.p.schedulers {
		if s.crashed || !c.p.reaches(s) {
			continue
		}
		since := latest(c.p.reachedSince(s), c.p.stoppedUntil(s), c.back.settled)
		if c.p.now.Sub(s.began) <= scheduler.Hearing+5*time.Second { // it may still wait for an agent that answers
			since = latest(since, earliest(c.answerable(), s.began.Add(scheduler.Hearing)))
		}
		able = earliest(able, since)
	}
	c.lateness = max(c.lateness, c.p.now.Sub(latest(due, able)))
}

// answerable returns since when there is an agent that can answer a scheduler; now if there is none.
func (c *checker) answerable() time.Time {
	at := c.p.now
	for _, n := range c.p.nodes {
		if a := n.agent; !a.crashed && c.p.reaches(a) {
			at = earliest(at, latest(c.p.reachedSince(a), c.p.stoppedUntil(a)))
		}
	}
	return at
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a time.Time, more ...time.Time) time.Time {
	for _, b := range more {
		if b.After(a) {
			a = b
		}
	}
	return a
}

// promise notes how early the deadline may come: by the machine's own time, and no more than a tenth sooner than the clock said when it was
// set, whatever the clock does in between.
func (c *checker) promise(r *sandbox.Record) {
	if r.Intent.ExpiresAt.IsZero() {
		return
	}
	left := r.Intent.ExpiresAt.Sub(c.p.storeNow())
	if c.p.clockSteps {
		left = left*10/11 - unlooked/10
	}
	c.promised[r.ID] = c.p.now.Add(left - 2*time.Millisecond)
}

// unlooked is the longest time that a scheduler may not have looked at its clock before a deadline was set.
const unlooked = 4 * time.Second

// engine checks what has newly happened on the engines.
func (c *checker) engine() {
	for _, n := range c.p.nodes {
		for _, e := range n.real.HistorySince(c.looked[n.name]) {
			c.happened(n, e)
			c.looked[n.name]++
			select {
			case n.happened <- struct{}{}:
			default:
			}
		}
	}
}

func (c *checker) happened(n *simNode, e fakeexec.Entry) {
	c.p.say(n.name, "%s/%d %s", e.ID, e.Epoch, e.What)
	switch e.What {
	case fakeexec.WasCreated:
		c.alone(n, e.Ref)
	case fakeexec.WasStarted:
		first := c.startedOn[e.Ref]
		c.startedOn[e.Ref] = n.name
		if c.starts[e.Ref]++; c.starts[e.Ref] > 1 && (first == n.name || !c.mayBeTwice(e.Ref, first, n.name)) {
			c.p.fail("%s/%d was started twice", e.ID, e.Epoch)
		}
	case fakeexec.WasKilled:
		if r, wanted := c.wanted(n, e.Ref); wanted && !r.Over() && !c.mayStop(n) && !c.back.doomed[e.Ref] {
			c.p.fail("%s/%d was killed although it is wanted", e.ID, e.Epoch)
		}
	case fakeexec.WasRemoved:
		// Before Running a container may be made anew, for another port; afterwards it stays as long as its record wants it.
		if r, wanted := c.wanted(n, e.Ref); wanted && r.Observed.Started && !c.back.doomed[e.Ref] {
			c.p.fail("%s/%d was removed although it is wanted", e.ID, e.Epoch)
		}
	}
}

// wanted returns the record of an incarnation, and whether it is the present one and shall be on a node. Of two nodes that have the same one,
// because the store has forgotten the first, only the second shall.
func (c *checker) wanted(n *simNode, ref executor.Ref) (sandbox.Record, bool) {
	r, err := c.p.real.Get(background(), ref.ID)
	return r, err == nil && !r.Gone() && !r.FailedCreate() && r.Placement.Epoch == ref.Epoch && r.Placement.Node == n.name
}

// atEnd checks what must hold when faults have stopped and everything was given time.
func (c *checker) atEnd() {
	for _, n := range c.p.nodes {
		if left := n.real.Volumes(); len(left) > 0 && !n.dead {
			c.p.fail("leaked on %s: volumes %q", n.name, left)
		}
		for _, in := range n.real.Instances() {
			switch {
			case !n.dead:
				c.p.fail("leaked on %s: %s/%d %s", n.name, in.ID, in.Epoch, in.Phase)
			case (in.Phase == executor.Running || in.Phase == executor.Paused) && c.p.stopped(n, n.link.since):
				c.p.fail("still runs on %s, which is lost: %s/%d %s", n.name, in.ID, in.Epoch, in.Phase)
			}
		}
	}
	for _, id := range c.ids() {
		r, err := c.p.real.Get(background(), id)
		if err == nil && !r.Ended() {
			c.p.fail("%s never ended: %s/%s, observed %s on %q", id, r.Intent.Desired, r.Intent.Reason, r.Observed.State, r.Placement.Node)
		}
	}
	for i, n := range c.p.nodes {
		c.roomIsFree(i, n)
	}
}

// roomIsFree places one sandbox on a node under bounds that only an empty node meets.
func (c *checker) roomIsFree(i int, n *simNode) {
	// Whether an agent is alive at this very moment is not the question, nor what the operator did.
	_, err := c.p.real.Register(background(), node.Registration{Name: n.name, EngineID: fmt.Sprintf("engine-%d", i), TakeOver: true})
	if err == nil {
		err = c.p.real.SetDraining(background(), n.name, false)
	}
	id := sandbox.ID("room-" + n.name)
	if err == nil {
		_, err = c.p.real.Insert(background(), sandbox.New{ID: id, Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"run"}}})
	}
	if err != nil {
		c.p.fail("look for room on %s: %v", n.name, err)
		return
	}
	ports := make([]int, portMax-portMin+1-len(c.p.taken))
	for i := range ports {
		ports[i] = i + 1
	}
	_, err = c.p.real.Place(background(), sandbox.PlaceRequest{ID: id, Ports: ports, Reserve: sandbox.Resources{CPU: 1, Memory: 1},
		Candidates: []sandbox.Candidate{{Node: n.name, MaxSandboxes: 1, Capacity: sandbox.Resources{CPU: 1, Memory: 1}, PortMin: portMin, PortMax: portMax}}})
	if err != nil {
		c.p.fail("reservations or ports leaked on %s: %v", n.name, err)
	}
}
