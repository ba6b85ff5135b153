package sandboxtest

import (
	"time"

	"opensandbox/libs/sandbox"
)

var attentionTests = []test{
	{"FailedPauseIsWithdrawn", testAttentionWithdraw},
	{"UnacceptedFailureIsAbandoned", testAttentionAbandon},
	{"FailureIsRetained", testAttentionRetain},
	{"OrderMaxAndNext", testAttentionOrder},
}

var purgeTests = []test{
	{"ForgetsOldEndedRecords", testPurge},
}

// attention checks what is due and when the next look is needed.
func (e *env) attention(what string, max int, wantNext time.Time, want ...sandbox.ID) []sandbox.Record {
	e.Helper()
	due, next, err := e.Attention(e.ctx(), max)
	e.ok(err)
	e.equal(what, ids(due), want)
	if !next.Equal(wantNext) {
		e.Errorf("%s: next %s; want %s", what, next, wantNext)
	}
	return due
}

func testAttentionWithdraw(e *env) {
	e.register("n")
	e.running("a", "n")
	e.attention("running", 10, time.Time{})
	_, err := e.SetDesired(e.ctx(), "a", sandbox.DesiredPaused, 1)
	e.ok(err)
	e.attention("pausing", 10, time.Time{})
	// The agent has finished generation 2, and the sandbox still runs: the pause has failed.
	rep := e.reportOf(e.get("a"), sandbox.StateRunning)
	rep.Reason = sandbox.ReasonPauseFailed
	r, err := e.Report(e.ctx(), rep)
	e.ok(err)
	at := r.Observed.At.Add(sandbox.WithdrawAfter)
	e.attention("failed pause", 10, at)
	e.clock.Advance(at.Sub(e.clock.Now()) - time.Microsecond)
	e.attention("too early", 10, at)
	e.clock.Advance(time.Microsecond)
	due := e.attention("due", 10, time.Time{}, "a")
	if len(due) == 1 {
		e.equal("record", due[0], r)
	}
	_, err = e.SetDesired(e.ctx(), "a", sandbox.DesiredRunning, 2)
	e.ok(err)
	e.attention("withdrawn", 10, time.Time{})
}

func testAttentionAbandon(e *env) {
	e.register("n")
	r := e.failed("a", "n", unaccepted)
	at := r.Observed.At.Add(sandbox.AbandonAfter)
	e.attention("failed", 10, at)
	e.clock.Advance(sandbox.AbandonAfter)
	e.attention("due", 10, time.Time{}, "a")
	e.gone("a", sandbox.ReasonCreateFailed)
	e.attention("gone", 10, time.Time{})
}

func testAttentionRetain(e *env) {
	e.register("n")
	r := e.failed("a", "n")
	if want := e.clock.Now().Add(time.Hour); !r.RetainUntil.Equal(want) {
		e.Errorf("retained until %s; want %s", r.RetainUntil, want)
	}
	e.attention("failed", 10, r.RetainUntil)
	e.clean("a")
	e.attention("cleaned", 10, r.RetainUntil)
	if r := e.get("a"); r.Ended() || !r.Visible() {
		e.Errorf("ended %v, visible %v", r.Ended(), r.Visible())
	}
	e.clock.Advance(time.Hour)
	e.attention("due", 10, time.Time{}, "a")
	if r := e.gone("a", sandbox.ReasonCreateFailed); !r.Ended() {
		e.Error("a record that holds nothing did not end")
	}
	e.attention("ended", 10, time.Time{})
}

func testAttentionOrder(e *env) {
	e.register("n")
	var at []time.Time
	for _, id := range []sandbox.ID{"c", "a", "b"} {
		r := e.failed(id, "n", unaccepted)
		at = append(at, r.AttentionAt())
		e.clock.Advance(time.Second)
	}
	e.clock.Advance(at[1].Sub(e.clock.Now()))
	e.attention("none asked for", 0, at[0])
	e.attention("one", 1, at[1], "c")
	e.attention("two are due", 10, at[2], "c", "a")
	e.clock.Advance(time.Hour)
	e.attention("all", 10, time.Time{}, "c", "a", "b")
}

func testPurge(e *env) {
	for _, id := range []sandbox.ID{"b", "a", "c"} {
		e.insert(id, withMetadata("k", "v"))
		e.gone(id, sandbox.ReasonDeleted)
		e.clock.Advance(time.Minute)
	}
	e.register("n")
	e.running("alive", "n")
	e.running("stopping", "n")
	e.gone("stopping", sandbox.ReasonDeleted)
	purge := func(age time.Duration, max, want int) {
		e.Helper()
		n, err := e.Purge(e.ctx(), age, max)
		e.ok(err)
		if n != want {
			e.Errorf("purged %d; want %d", n, want)
		}
	}
	purge(3*time.Minute, 10, 0)
	e.clock.Advance(time.Microsecond)
	purge(3*time.Minute, 10, 1)
	_, err := e.Get(e.ctx(), "b")
	e.notFound("purged", err)
	e.get("a")
	e.clock.Advance(time.Hour)
	purge(time.Minute, 0, 0)
	purge(time.Minute, 1, 1)
	_, err = e.Get(e.ctx(), "a")
	e.notFound("purged, the older one first", err)
	purge(time.Minute, 10, 1)
	purge(time.Minute, 10, 0)
	e.get("alive")
	e.get("stopping")
}
