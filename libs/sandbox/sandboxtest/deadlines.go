package sandboxtest

import (
	"time"

	"opensandbox/libs/sandbox"
)

var deadlineTests = []test{
	{"ExpireDueInOrder", testExpireDue},
	{"ExpireDueUsesTheEarlierClock", testExpireClocks},
	{"ExpireDueEndsWhatHoldsNothing", testExpireEnds},
	{"NextDeadline", testNextDeadline},
}

func testExpireDue(e *env) {
	e.register("n")
	for id, d := range map[sandbox.ID]time.Duration{"third": 3 * time.Minute, "first": time.Minute, "second": 2 * time.Minute, "later": time.Hour} {
		e.running(id, "n", withTimeout(d))
	}
	e.insert("never", noTimeout)
	e.running("deleted", "n", withTimeout(time.Minute))
	deleted := e.gone("deleted", sandbox.ReasonDeleted)
	e.clock.Advance(time.Minute - time.Microsecond)
	expire := func(max int, want ...sandbox.ID) {
		e.Helper()
		got, err := e.ExpireDue(e.ctx(), e.clock.Now(), max)
		e.ok(err)
		e.equal("expired", got, want)
	}
	expire(10)
	e.clock.Advance(time.Microsecond)
	expire(10, "first")
	expire(10)
	e.clock.Advance(2 * time.Minute)
	expire(0)
	expire(1, "second")
	expire(1, "third")
	expire(1)
	for _, id := range []sandbox.ID{"first", "second", "third"} {
		r := e.get(id)
		if !r.Gone() || r.Intent.Reason != sandbox.ReasonExpired || r.Intent.Generation != 2 || r.Ended() {
			e.Errorf("%s: intent %+v, ended %v", id, r.Intent, r.Ended())
		}
	}
	e.unchanged(deleted)
	e.register("m")
	e.failed("failed", "m", withTimeout(time.Minute))
	e.clock.Advance(time.Minute)
	expire(10, "failed")
}

func testExpireClocks(e *env) {
	e.insert("a", withTimeout(time.Minute))
	deadline := e.clock.Now().Add(time.Minute)
	got, err := e.ExpireDue(e.ctx(), deadline.Add(time.Hour), 10)
	e.ok(err)
	e.equal("the caller is ahead", got, []sandbox.ID{})
	e.clock.Advance(time.Hour)
	got, err = e.ExpireDue(e.ctx(), deadline.Add(-time.Microsecond), 10)
	e.ok(err)
	e.equal("the caller is behind", got, []sandbox.ID{})
	got, err = e.ExpireDue(e.ctx(), deadline, 10)
	e.ok(err)
	e.equal("both have come to the deadline", got, []sandbox.ID{"a"})
	if r := e.get("a"); !r.EndedAt.Equal(e.clock.Now()) {
		e.Errorf("ended at %s by the caller's clock; the store shows %s", r.EndedAt, e.clock.Now())
	}
}

func testExpireEnds(e *env) {
	e.insert("a", withTimeout(time.Minute))
	e.clock.Advance(time.Minute)
	_, err := e.ExpireDue(e.ctx(), e.clock.Now(), 10)
	e.ok(err)
	if r := e.get("a"); !r.Ended() {
		e.Error("an unplaced record did not end with its deadline")
	}
}

func testNextDeadline(e *env) {
	start := e.clock.Now()
	next := func(what string, want time.Time) {
		e.Helper()
		at, ok, err := e.NextDeadline(e.ctx())
		e.ok(err)
		if ok == want.IsZero() || !at.Equal(want) {
			e.Errorf("%s: %s, %v; want %s", what, at, ok, want)
		}
	}
	next("empty", time.Time{})
	e.insert("never", noTimeout)
	next("without a deadline", time.Time{})
	e.insert("late", withTimeout(time.Hour))
	next("one", start.Add(time.Hour))
	e.insert("early", withTimeout(time.Minute))
	next("two", start.Add(time.Minute))
	_, err := e.Renew(e.ctx(), "early", tenant, start.Add(2*time.Hour))
	e.ok(err)
	next("renewed", start.Add(time.Hour))
	e.gone("late", sandbox.ReasonDeleted)
	next("gone", start.Add(2*time.Hour))
	e.clock.Advance(3 * time.Hour)
	next("past", start.Add(2*time.Hour))
	_, err = e.ExpireDue(e.ctx(), e.clock.Now(), 1)
	e.ok(err)
	next("expired", time.Time{})
}
