package sandboxtest

import (
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

var recoveryTests = []test{
	{"the mark rises with every change", func(e *env) {
		last := e.recovery().Mark
		for what, change := range map[string]func(){
			"register": func() { e.register("m") }, "insert": func() { e.insert("x") }, "gone": func() { e.gone("y", sandbox.ReasonDeleted) },
		} {
			if what == "gone" {
				e.insert("y")
				last = e.recovery().Mark
			}
			change()
			next := e.recovery().Mark
			if next.Changes <= last.Changes || !next.Incarnation.Equal(last.Incarnation) {
				e.Errorf("%s: the mark went from %v to %v", what, last, next)
			}
			last = next
		}
	}},
	{"a claim that is not behind changes nothing", func(e *env) {
		e.register("n")
		now := e.recovery()
		for _, known := range []sandbox.Mark{{}, now.Mark, {Incarnation: now.Mark.Incarnation, Changes: now.Mark.Changes - 1}} {
			r, err := e.Recover(e.ctx(), sandbox.Claim{Known: known, Node: "n"})
			e.ok(err)
			e.equal("the recovery", r, now)
		}
	}},
	{"a claim begins a recovery", func(e *env) {
		e.register("n")
		e.register("m")
		e.ok(e.Remove(e.ctx(), "m"))
		removed := e.node("m").LeaseUntil
		was := e.recovery().Mark
		e.clock.Advance(time.Minute)
		r := e.claim(1000, "k")
		if !r.Going() || !r.Mark.Incarnation.Equal(e.clock.Now()) || r.Mark.Changes <= was.Changes+1000 {
			e.Errorf("the recovery is %+v after %v", r, was)
		}
		e.equal("who has not reported", r.Unreported, []string{"k", "n"})
		at, err := e.Incarnation(e.ctx())
		e.ok(err)
		e.equal("the incarnation", at, r.Mark.Incarnation)
		e.equal("what is read", e.recovery(), r)
		e.equal("the lease that had run out", e.node("n").LeaseUntil, e.clock.Now())
		e.equal("the lease of a removed node", e.node("m").LeaseUntil, removed)
	}},
	{"a claim of an earlier incarnation joins", func(e *env) {
		known := e.recovery().Mark
		known.Changes += 10
		e.clock.Advance(time.Second)
		first, err := e.Recover(e.ctx(), sandbox.Claim{Known: known, Node: "n"})
		e.ok(err)
		e.clock.Advance(time.Second)
		known.Changes += 1000
		second, err := e.Recover(e.ctx(), sandbox.Claim{Known: known, Node: "m"})
		e.ok(err)
		e.equal("the incarnation", second.Mark.Incarnation, first.Mark.Incarnation)
		e.equal("who has not reported", second.Unreported, []string{"m", "n"})
		if second.Mark.Changes <= known.Changes {
			e.Errorf("the counter is at %d, and %d was claimed", second.Mark.Changes, known.Changes)
		}
		// The same incarnation, and yet behind: the store went back after this recovery had begun.
		third := e.claim(1000, "m")
		if !third.Mark.Incarnation.After(second.Mark.Incarnation) {
			e.Errorf("no new incarnation: %v after %v", third.Mark.Incarnation, second.Mark.Incarnation)
		}
	}},
	{"nothing ends meanwhile", func(e *env) {
		e.register("n")
		e.running("due", "n", withTimeout(time.Second))
		e.insert("ended")
		e.gone("ended", sandbox.ReasonDeleted)
		e.clock.Advance(2 * time.Hour)
		r := e.claim(1, "n")
		_, err := e.ExpireDue(e.ctx(), e.clock.Now(), 10)
		e.refused("ExpireDue", err, fault.Unavailable, sandbox.CodeRecovering)
		_, err = e.Purge(e.ctx(), time.Hour, 10)
		e.refused("Purge", err, fault.Unavailable, sandbox.CodeRecovering)
		_, err = e.Lose(e.ctx(), sandbox.Loss{ID: "due", Node: "n", Epoch: 1})
		e.refused("Lose", err, fault.Unavailable, sandbox.CodeRecovering)
		e.clock.Advance(sandbox.RecoverAtMost)
		_, err = e.Settle(e.ctx())
		e.ok(err)
		due, err := e.ExpireDue(sandbox.WithMark(e.ctx(), r.Mark), e.clock.Now(), 10)
		e.ok(err)
		e.equal("what ends afterwards", due, []sandbox.ID{"due"})
		n, err := e.Purge(sandbox.WithMark(e.ctx(), r.Mark), time.Hour, 10)
		e.ok(err)
		e.equal("what is purged afterwards", n, 1)
	}},
	{"a store that is behind is not believed", func(e *env) {
		e.register("n")
		e.running("due", "n", withTimeout(time.Second))
		e.insert("ended")
		e.gone("ended", sandbox.ReasonDeleted)
		e.insert("new")
		e.clock.Advance(2 * time.Hour)
		ahead := e.recovery().Mark
		ahead.Changes += 100
		other := e.recovery().Mark
		other.Incarnation = other.Incarnation.Add(time.Second)
		for _, m := range []sandbox.Mark{ahead, other} {
			ctx := sandbox.WithMark(e.ctx(), m)
			_, err := e.ExpireDue(ctx, e.clock.Now(), 10)
			e.refused("ExpireDue", err, fault.Unavailable, sandbox.CodeWentBack)
			_, err = e.Purge(ctx, time.Hour, 10)
			e.refused("Purge", err, fault.Unavailable, sandbox.CodeWentBack)
			_, err = e.Lose(ctx, sandbox.Loss{ID: "due", Node: "n", Epoch: 1})
			e.refused("Lose", err, fault.Unavailable, sandbox.CodeWentBack)
			_, err = e.Place(ctx, sandbox.PlaceRequest{ID: "new", Candidates: []sandbox.Candidate{candidate("n")}})
			e.refused("Place", err, fault.Unavailable, sandbox.CodeWentBack)
			_, err = e.FailUnplaced(ctx, "new", sandbox.Failure{Reason: sandbox.ReasonNoCapacity, RetainFor: time.Hour})
			e.refused("FailUnplaced", err, fault.Unavailable, sandbox.CodeWentBack)
		}
	}},
	{"what waited before is not placed, what is new is", func(e *env) {
		e.register("n")
		e.insert("old")
		e.clock.Advance(time.Second)
		e.claim(1, "n")
		_, err := e.Place(e.ctx(), sandbox.PlaceRequest{ID: "old", Candidates: []sandbox.Candidate{candidate("n")}})
		e.stale("Place of an old one", err)
		e.insert("new")
		e.place("new", "n")
		failure := sandbox.Failure{Reason: sandbox.ReasonStoreRecovered, RetainFor: time.Hour}
		_, err = e.FailUnplaced(e.ctx(), "old", failure)
		e.refused("FailUnplaced of one that may have a container", err, fault.Unavailable, sandbox.CodeRecovering)
		e.insert("newer")
		_, err = e.FailUnplaced(e.ctx(), "newer", failure)
		e.ok(err)
		e.clock.Advance(sandbox.RecoverAtMost)
		e.settled("the end", true)
		_, err = e.FailUnplaced(sandbox.WithMark(e.ctx(), e.recovery().Mark), "old", failure)
		e.ok(err)
	}},
	{"no record is older than its store", func(e *env) {
		made := e.recovery().Mark.Incarnation
		e.clock.Advance(-time.Hour)
		r := e.insert("a")
		if !r.CreatedAt.Equal(made) || !r.Intent.ExpiresAt.Equal(e.clock.Now().Add(time.Hour)) {
			e.Errorf("made at %v, until %v; the store was made at %v", r.CreatedAt, r.Intent.ExpiresAt, made)
		}
		e.unchanged(r)
		e.clock.Advance(2 * time.Hour)
		e.claim(1, "n")
		e.clock.Advance(-time.Minute)
		if r := e.insert("b"); r.Predates(e.recovery().Mark.Incarnation) {
			e.Errorf("made at %v", r.CreatedAt)
		}
	}},
	{"an epoch after all that were lost", func(e *env) {
		e.register("n")
		before := e.running("a", "n")
		r := e.claim(1, "n")
		e.clock.Advance(sandbox.RecoverAtMost)
		e.settled("the end", true)
		e.ok(e.RenewLease(e.ctx(), "n", e.session("n")))
		e.running("b", "n")
		e.ok(e.Remove(e.ctx(), "n"))
		for id, want := range map[sandbox.ID]uint64{"a": uint64(r.Mark.Incarnation.UnixMicro()), "b": 2} {
			lost, err := e.Lose(e.ctx(), sandbox.Loss{ID: id, Node: "n", Epoch: before.Placement.Epoch})
			e.ok(err)
			e.unchanged(lost)
			e.equal("the epoch", lost.Placement.Epoch, want)
		}
	}},
	{"a record with the recovery", func(e *env) {
		e.register("n")
		e.running("a", "n")
		r, now, err := e.GetWithRecovery(e.ctx(), "a")
		e.ok(err)
		e.equal("the record", r, e.get("a"))
		e.equal("the recovery", now, e.recovery())
		if _, _, err := e.GetWithRecovery(e.ctx(), "b"); !fault.Is(err, fault.NotFound) {
			e.Errorf("a record that is not there: %v", err)
		}
	}},
	{"who calls the roll is heard", func(e *env) {
		n := e.register("n")
		e.hinted("the roll", sandbox.TopicRollCall, func() { e.ok(e.CallRoll(e.ctx())) })
		was := e.recovery()
		e.ok(e.CallRoll(e.ctx()))
		e.equal("the mark", e.recovery(), was)
		behind := was.Mark
		behind.Changes += 100
		err := e.RenewLease(sandbox.WithMark(e.ctx(), behind), "n", n.Session)
		e.refused("RenewLease", err, fault.Unavailable, sandbox.CodeWentBack)
		_, err = e.Register(sandbox.WithMark(e.ctx(), behind), node.Registration{Name: "m", EngineID: "m", PortMin: portMin, PortMax: portMax})
		e.refused("Register", err, fault.Unavailable, sandbox.CodeWentBack)
		e.ok(e.RenewLease(sandbox.WithMark(e.ctx(), was.Mark), "n", n.Session))
		r := e.claim(1, "n")
		e.ok(e.RenewLease(sandbox.WithMark(e.ctx(), r.Mark), "n", n.Session))
	}},
	{"the end", func(e *env) {
		n := e.register("n")
		e.register("m")
		e.claim(1, "away")
		e.clock.Advance(sandbox.RecoverFor - time.Second)
		e.ok(e.RenewLease(e.ctx(), "n", n.Session))
		r, err := e.Reported(e.ctx(), "m", e.session("m"))
		e.ok(err)
		e.equal("who has not reported", r.Unreported, []string{"away", "n"})
		if _, err := e.Reported(e.ctx(), "n", n.Session+1); !sandbox.IsStale(err) {
			e.Errorf("Reported of another session: %v", err)
		}
		e.settled("too soon", false)
		e.clock.Advance(time.Second)
		e.settled("a live node has not reported", false)
		_, err = e.Reported(e.ctx(), "n", n.Session)
		e.ok(err)
		e.settled("only one that is away has not", true)
		e.equal("who has not reported", e.recovery().Unreported, []string{"away"})
		// Who was away claims when it is back, and everybody reports again.
		if r := e.claim(1, "away"); !r.Going() {
			e.Errorf("no new recovery: %+v", r)
		}
		e.clock.Advance(sandbox.RecoverAtMost)
		e.ok(e.RenewLease(e.ctx(), "n", n.Session))
		e.settled("a live node does not report for long", true)
	}},
	{"a session after one that the store does not know", func(e *env) {
		n, err := e.Register(e.ctx(), node.Registration{Name: "n", EngineID: "e", PortMin: portMin, PortMax: portMax, After: 41})
		e.ok(err)
		e.equal("the session", n.Session, uint64(42))
	}},
}

func (e *env) node(name string) node.Node {
	e.Helper()
	all, err := e.Nodes(e.ctx())
	e.ok(err)
	for _, n := range all {
		if n.Name == name {
			return n
		}
	}
	e.Fatalf("no node %q", name)
	return node.Node{}
}

func (e *env) recovery() sandbox.Recovery {
	e.Helper()
	r, err := e.Recovery(e.ctx())
	e.ok(err)
	return r
}

// claim begins a recovery: the store is behind by so many changes.
func (e *env) claim(by uint64, name string) sandbox.Recovery {
	e.Helper()
	known := e.recovery().Mark
	known.Changes += by
	e.clock.Advance(time.Second) // so that what was there before is older
	r, err := e.Recover(e.ctx(), sandbox.Claim{Known: known, Node: name})
	e.ok(err)
	return r
}

// settled settles and checks whether that ended the recovery.
func (e *env) settled(what string, want bool) {
	e.Helper()
	r, err := e.Settle(e.ctx())
	e.ok(err)
	if r.Going() == want {
		e.Errorf("%s: the recovery is %+v", what, r)
	}
}
