package sandboxtest

import (
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

var reportTests = []test{
	{"TakesInWhatWasSeen", testReport},
	{"Guards", testReportGuards},
	{"OtherSessionIsStale", testReportSession},
	{"FailedCreateIsAbsorbing", testReportFailedAbsorbing},
	{"ExitIsFinal", testReportExitFinal},
	{"RunningIsNeverPendingAgain", testReportPendingAgain},
	{"AFailedCreateIsNoneOnceItRan", testReportOfCreate},
	{"ProgressAndRenewalDoNotCollide", testReportBesideRenewal},
	{"ExitBeforeAnyoneSawItRunning", testReportStarted},
}

var cleanedTests = []test{
	{"EndsGoneRecords", testCleaned},
	{"IsIdempotent", testCleanedTwice},
	{"OlderEpochsAndUnknownIDs", testCleanedOlder},
	{"Guards", testCleanedGuards},
}

func testReport(e *env) {
	e.register("n")
	e.insert("a")
	before := e.place("a", "n")
	rep := e.reportOf(before, sandbox.StatePending)
	rep.Generation, rep.Reason, rep.Message = 0, sandbox.ReasonPulling, "40%"
	got, err := e.Report(e.ctx(), rep)
	e.ok(err)
	want := before
	want.Version++
	want.Observed = sandbox.Observed{
		State: sandbox.StatePending, Reason: sandbox.ReasonPulling, Message: "40%", Epoch: 1, Session: rep.Session, At: e.clock.Now(),
	}
	e.equal("progress", got, want)
	e.unchanged(want)

	e.clock.Advance(time.Second)
	rep.Message = "80%"
	_, err = e.Report(e.ctx(), rep)
	e.ok(err)
	if got := e.get("a").Observed; !got.At.Equal(want.Observed.At) || got.Message != "80%" {
		e.Errorf("more progress: %+v", got)
	}

	rep = e.reportOf(before, sandbox.StateRunning)
	rep.Addresses = sandbox.Addresses{ContainerIP: "172.17.0.2", Ports: map[int]int{8080: 40001}}
	got, err = e.Report(e.ctx(), rep)
	e.ok(err)
	rep.Addresses.Ports[8080] = 1
	e.unchanged(got)
	if o := got.Observed; !o.Started || o.Generation != 1 || !o.At.Equal(e.clock.Now()) || o.Addresses.Ports[8080] != 40001 {
		e.Errorf("running: %+v", o)
	}
	code := 3
	rep = e.reportOf(before, sandbox.StateFailed)
	rep.ExitCode, rep.Reason = &code, sandbox.ReasonExitedError
	got, err = e.Report(e.ctx(), rep)
	e.ok(err)
	code = 4
	e.unchanged(got)
	if o := got.Observed; o.ExitCode == nil || *o.ExitCode != 3 || o.Addresses.ContainerIP != "172.17.0.2" || !got.RetainUntil.IsZero() {
		e.Errorf("exited: %+v, retained until %s", o, got.RetainUntil)
	}
}

func testReportGuards(e *env) {
	e.register("n")
	e.register("m")
	e.insert("unplaced")
	_, err := e.Report(e.ctx(), sandbox.Report{ID: "unplaced", Node: "n", Session: e.session("n"), State: sandbox.StateRunning})
	e.stale("unplaced", err)
	e.running("a", "n")
	_, err = e.SetDesired(e.ctx(), "a", sandbox.DesiredPaused, 1)
	e.ok(err)
	r := e.report("a", sandbox.StatePaused)
	for what, change := range map[string]func(rep *sandbox.Report){
		"other epoch":       func(rep *sandbox.Report) { rep.Epoch++ },
		"epoch 0":           func(rep *sandbox.Report) { rep.Epoch = 0 },
		"other node":        func(rep *sandbox.Report) { rep.Node, rep.Session = "m", e.session("m") },
		"unknown node":      func(rep *sandbox.Report) { rep.Node = "x" },
		"older generation":  func(rep *sandbox.Report) { rep.Generation = 1 },
		"future generation": func(rep *sandbox.Report) { rep.Generation = 3 },
	} {
		rep := e.reportOf(r, sandbox.StateRunning)
		change(&rep)
		_, err := e.Report(e.ctx(), rep)
		e.stale(what, err)
	}
	e.unchanged(r)
	e.gone("a", sandbox.ReasonDeleted)
	e.clean("a")
	ended := e.get("a")
	_, err = e.Report(e.ctx(), e.reportOf(ended, sandbox.StateTerminated))
	e.stale("ended", err)
	e.unchanged(ended)
}

func testReportSession(e *env) {
	old := e.register("n")
	r := e.running("a", "n")
	e.insert("b")
	placed := e.place("b", "n")
	fresh, err := e.Register(e.ctx(), node.Registration{Name: "n", EngineID: "engine-n", PortMin: portMin, PortMax: portMax, TakeOver: true})
	e.ok(err)
	if fresh.Session <= old.Session {
		e.Fatalf("session %d after %d", fresh.Session, old.Session)
	}
	rep := e.reportOf(r, sandbox.StateTerminated)
	rep.Session = old.Session
	_, err = e.Report(e.ctx(), rep)
	e.stale("report of the old session", err)
	swap := e.swapOf(placed)
	swap.Session = old.Session
	_, err = e.SwapPort(e.ctx(), swap)
	e.stale("swap of the old session", err)
	gone := e.gone("a", sandbox.ReasonDeleted)
	c := e.cleanedOf(gone)
	c.Session = old.Session
	e.stale("cleaned of the old session", e.Cleaned(e.ctx(), c))
	e.unchanged(gone)
	e.unchanged(placed)
	e.report("b", sandbox.StateRunning)
	e.clean("a")
}

func testReportFailedAbsorbing(e *env) {
	e.register("n")
	e.insert("a")
	e.place("a", "n")
	rep := e.reportOf(e.get("a"), sandbox.StateFailed)
	rep.Generation, rep.Reason, rep.Message = 0, sandbox.ReasonEntrypointFailed, "exit 127"
	r, err := e.Report(e.ctx(), rep)
	e.ok(err)
	if !r.FailedCreate() || !r.Finished() || !r.RetainUntil.Equal(e.clock.Now().Add(time.Hour)) {
		e.Errorf("failed create %v, finished %v, retained until %s", r.FailedCreate(), r.Finished(), r.RetainUntil)
	}
	for _, st := range []sandbox.State{sandbox.StateRunning, sandbox.StatePending, sandbox.StateTerminated} {
		_, err := e.Report(e.ctx(), e.reportOf(r, st))
		e.stale(string(st), err)
	}
	e.unchanged(r)
}

func testReportExitFinal(e *env) {
	e.register("n")
	e.running("a", "n")
	r := e.report("a", sandbox.StateTerminated)
	for _, st := range []sandbox.State{sandbox.StateRunning, sandbox.StatePaused, sandbox.StateFailed} {
		_, err := e.Report(e.ctx(), e.reportOf(r, st))
		e.stale(string(st), err)
	}
	e.unchanged(r)
}

func testReportPendingAgain(e *env) {
	e.register("n")
	r := e.running("a", "n")
	_, err := e.Report(e.ctx(), e.reportOf(r, sandbox.StatePending))
	e.stale("pending", err)
	e.unchanged(r)
}

func testReportOfCreate(e *env) {
	e.register("n")
	r := e.running("a", "n")
	ofCreate := e.reportOf(r, sandbox.StateFailed)
	ofCreate.OfCreate, ofCreate.Reason = true, sandbox.ReasonCreateError
	_, err := e.Report(e.ctx(), ofCreate)
	e.stale("a create that failed", err)
	e.unchanged(r)

	e.insert("b")
	ofCreate = e.reportOf(e.place("b", "n"), sandbox.StateFailed)
	ofCreate.OfCreate = true
	if r, err = e.Report(e.ctx(), ofCreate); err != nil || !r.FailedCreate() {
		e.Errorf("a create that never ran: %+v, %v", r.Observed, err)
	}
}

func testReportBesideRenewal(e *env) {
	e.register("n")
	r := e.running("a", "n")
	_, err := e.Renew(e.ctx(), "a", tenant, e.clock.Now().Add(9*time.Hour))
	e.ok(err)
	_, err = e.PatchMetadata(e.ctx(), "a", tenant, map[string]*string{"x": ptr("1")})
	e.ok(err)
	// The agent decided upon the record before.
	_, err = e.Report(e.ctx(), e.reportOf(r, sandbox.StateTerminated))
	e.ok(err)
	got := e.get("a")
	if got.Observed.State != sandbox.StateTerminated || got.Intent.Metadata["x"] != "1" || !got.Intent.ExpiresAt.Equal(e.clock.Now().Add(9*time.Hour)) {
		e.Errorf("a write was lost: %+v %+v", got.Intent, got.Observed)
	}
}

func testReportStarted(e *env) {
	e.register("n")
	e.insert("a")
	rep := e.reportOf(e.place("a", "n"), sandbox.StateFailed)
	rep.Started = true
	r, err := e.Report(e.ctx(), rep)
	e.ok(err)
	if r.FailedCreate() || !r.RetainUntil.IsZero() {
		e.Errorf("failed create %v, retained until %s", r.FailedCreate(), r.RetainUntil)
	}
}

func testCleaned(e *env) {
	e.register("n")
	e.running("a", "n")
	gone := e.gone("a", sandbox.ReasonDeleted)
	e.clock.Advance(time.Second)
	e.clean("a")
	r := e.get("a")
	if !r.Ended() || !r.EndedAt.Equal(e.clock.Now()) || !r.Placement.Released || len(r.Placement.Ports) != 0 || r.Visible() {
		e.Errorf("ended at %s, placement %+v", r.EndedAt, r.Placement)
	}
	if r.Version != gone.Version+1 {
		e.Errorf("version %d", r.Version)
	}
	e.failed("b", "n")
	e.clean("b")
	if r := e.get("b"); r.Ended() || !r.Placement.Released {
		e.Errorf("a failed create after cleaning: %+v", r)
	}
}

func testCleanedTwice(e *env) {
	e.register("n")
	one := candidate("n")
	one.PortMax, one.MaxSandboxes = one.PortMin, 1
	e.insert("a")
	e.ok(e.placeOn("a", one, sandbox.Resources{}))
	c := e.cleanedOf(e.gone("a", sandbox.ReasonDeleted))
	e.ok(e.Cleaned(e.ctx(), c))
	ended := e.get("a")
	e.insert("b")
	e.ok(e.placeOn("b", one, sandbox.Resources{}))
	e.clock.Advance(time.Minute)
	e.ok(e.Cleaned(e.ctx(), c))
	e.unchanged(ended)
	// The repetition must not have freed what the next one holds.
	e.insert("c")
	if err := e.placeOn("c", one, sandbox.Resources{}); err == nil {
		e.Error("the node has room for one, and took two")
	}
}

func testCleanedOlder(e *env) {
	e.register("n")
	r := e.running("a", "n")
	c := e.cleanedOf(r)
	c.Epoch = 0
	e.ok(e.Cleaned(e.ctx(), c))
	e.gone("a", sandbox.ReasonDeleted)
	gone := e.get("a")
	e.ok(e.Cleaned(e.ctx(), c))
	e.unchanged(gone)
	c.ID = "never-seen"
	e.ok(e.Cleaned(e.ctx(), c))
}

func testCleanedGuards(e *env) {
	e.register("n")
	r := e.running("a", "n")
	e.stale("it runs and shall run", e.Cleaned(e.ctx(), e.cleanedOf(r)))
	e.unchanged(r)
	gone := e.gone("a", sandbox.ReasonDeleted)
	c := e.cleanedOf(gone)
	c.Session++
	e.stale("other session", e.Cleaned(e.ctx(), c))
	c.Node = "x"
	e.stale("unknown node", e.Cleaned(e.ctx(), c))
	e.register("m")
	c.Node, c.Session = "m", e.session("m")
	e.ok(e.Cleaned(e.ctx(), c))
	e.unchanged(gone)
}
