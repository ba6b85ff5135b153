package sandboxtest

import (
	"opensandbox/libs/sandbox"
)

var workTests = []test{
	{"OldestChangeFirst", testWorkOrder},
	{"ClearedOnlyWhenFinished", testWorkFinished},
	{"FailedCreateKeepsWorkUntilCleaned", testWorkFailed},
	{"GoneKeepsWorkUntilCleaned", testWorkGone},
	{"OnNode", testOnNode},
}

var mirrorTests = []test{
	{"ChangesAreUnmirrored", testMirror},
	{"ChangeBetweenReadAndMirrored", testMirrorRace},
	{"ReleasedRecordsAreNotMirrored", testMirrorReleased},
}

func (e *env) work(what, name string, max int, want ...sandbox.ID) {
	e.Helper()
	got, err := e.Work(e.ctx(), name, max)
	e.ok(err)
	var order []sandbox.ID
	last := uint64(0)
	for _, t := range got {
		if t.Since <= last {
			e.Errorf("%s: %s is since %d, after one since %d", what, t.ID, t.Since, last)
		}
		order, last = append(order, t.ID), t.Since
	}
	e.equal(what, order, want)
}

func testWorkOrder(e *env) {
	e.register("n")
	e.register("m")
	for _, id := range []sandbox.ID{"c", "a", "b", "other"} {
		e.insert(id)
	}
	e.work("unplaced", "n", 10)
	for _, id := range []sandbox.ID{"b", "c", "a"} {
		e.place(id, "n")
	}
	e.place("other", "m")
	e.work("all", "n", 10, "b", "c", "a")
	e.work("two", "n", 2, "b", "c")
	e.work("none", "n", 0)
	e.work("other node", "m", 10, "other")
	e.work("unknown node", "x", 10)
	// A new wish goes to the end; news about an old one keeps its place.
	e.gone("b", sandbox.ReasonDeleted)
	rep := e.reportOf(e.get("c"), sandbox.StatePending)
	rep.Generation, rep.Reason = 0, sandbox.ReasonPulling
	_, err := e.Report(e.ctx(), rep)
	e.ok(err)
	e.work("after Gone", "n", 10, "c", "a", "b")
}

func testWorkFinished(e *env) {
	e.register("n")
	e.insert("a")
	e.place("a", "n")
	rep := e.reportOf(e.get("a"), sandbox.StatePending)
	rep.Generation = 0
	_, err := e.Report(e.ctx(), rep)
	e.ok(err)
	e.work("progress", "n", 10, "a")
	old := e.reportOf(e.get("a"), sandbox.StateRunning)
	_, err = e.Report(e.ctx(), old)
	e.ok(err)
	e.work("finished", "n", 10)
	_, err = e.SetDesired(e.ctx(), "a", sandbox.DesiredPaused, 1)
	e.ok(err)
	e.work("pause", "n", 10, "a")
	// An agent that did not know of the pause yet finishes the generation before.
	_, err = e.Report(e.ctx(), old)
	e.ok(err)
	e.work("an older generation is finished", "n", 10, "a")
	e.report("a", sandbox.StatePaused)
	e.work("paused", "n", 10)
	_, err = e.SetDesired(e.ctx(), "a", sandbox.DesiredRunning, 2)
	e.ok(err)
	// Badly finished is finished.
	e.report("a", sandbox.StatePaused)
	e.work("failed resume", "n", 10)
}

func testWorkFailed(e *env) {
	e.register("n")
	e.failed("a", "n")
	e.work("failed create", "n", 10, "a")
	e.clean("a")
	e.work("cleaned", "n", 10)
	on, err := e.OnNode(e.ctx(), "n")
	e.ok(err)
	e.equal("on the node", ids(on), []sandbox.ID{})
}

func testWorkGone(e *env) {
	e.register("n")
	e.running("a", "n")
	e.gone("a", sandbox.ReasonDeleted)
	e.work("gone", "n", 10, "a")
	e.report("a", sandbox.StateTerminated)
	e.work("reported", "n", 10, "a")
	e.clean("a")
	e.work("cleaned", "n", 10)
}

func testOnNode(e *env) {
	e.register("n")
	for _, id := range []sandbox.ID{"b", "a", "gone", "failed", "exited"} {
		e.running(id, "n")
	}
	e.insert("unplaced")
	e.gone("gone", sandbox.ReasonDeleted)
	e.report("exited", sandbox.StateTerminated)
	e.running("ended", "n")
	e.gone("ended", sandbox.ReasonDeleted)
	e.clean("ended")
	on, err := e.OnNode(e.ctx(), "n")
	e.ok(err)
	e.equal("on the node", ids(on), []sandbox.ID{"a", "b", "exited", "failed", "gone"})
	e.equal("record", on[0], e.get("a"))
	on, err = e.OnNode(e.ctx(), "x")
	e.ok(err)
	e.equal("unknown node", ids(on), []sandbox.ID{})
}

func (e *env) unmirrored(what string, max int, want ...sandbox.ID) []sandbox.Record {
	e.Helper()
	got, err := e.Unmirrored(e.ctx(), "n", max)
	e.ok(err)
	e.equal(what, ids(got), want)
	return got
}

func testMirror(e *env) {
	e.register("n")
	e.insert("a")
	e.insert("b")
	e.unmirrored("unplaced", 10)
	a := e.place("a", "n")
	b := e.place("b", "n")
	got := e.unmirrored("placed", 10, "a", "b")
	e.equal("record", got[0], a)
	e.unmirrored("one", 1, "a")
	e.ok(e.Mirrored(e.ctx(), "n", map[sandbox.ID]uint64{"a": a.Version, "unknown": 7}))
	e.unmirrored("one left", 10, "b")
	e.ok(e.Mirrored(e.ctx(), "other", map[sandbox.ID]uint64{"b": b.Version}))
	e.unmirrored("another node has no say", 10, "b")
	e.ok(e.Mirrored(e.ctx(), "n", map[sandbox.ID]uint64{"b": b.Version}))
	e.unmirrored("none left", 10)
	if r := e.get("a"); r.Version != a.Version {
		e.Errorf("mirroring raised the version to %d", r.Version)
	}
	_, err := e.PatchMetadata(e.ctx(), "a", tenant, map[string]*string{"x": ptr("1")})
	e.ok(err)
	_, err = e.Renew(e.ctx(), "b", tenant, e.clock.Now().Add(1e12))
	e.ok(err)
	e.unmirrored("renewal and patch", 10, "a", "b")
	e.ok(e.Mirrored(e.ctx(), "n", map[sandbox.ID]uint64{"a": a.Version, "b": 0}))
	e.unmirrored("older versions", 10, "a", "b")
}

func testMirrorRace(e *env) {
	e.register("n")
	e.insert("a")
	read := e.place("a", "n")
	gone := e.gone("a", sandbox.ReasonDeleted)
	e.ok(e.Mirrored(e.ctx(), "n", map[sandbox.ID]uint64{"a": read.Version}))
	e.unmirrored("changed in between", 10, "a")
	e.ok(e.Mirrored(e.ctx(), "n", map[sandbox.ID]uint64{"a": gone.Version}))
	e.ok(e.Mirrored(e.ctx(), "n", map[sandbox.ID]uint64{"a": read.Version}))
	e.unmirrored("a late answer changes nothing", 10)
}

func testMirrorReleased(e *env) {
	e.register("n")
	e.running("a", "n")
	e.gone("a", sandbox.ReasonDeleted)
	e.unmirrored("gone", 10, "a")
	e.clean("a")
	e.unmirrored("ended", 10)
}
