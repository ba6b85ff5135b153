package sandboxtest

import (
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

var intentTests = []test{
	{"InsertStartsPending", testInsert},
	{"InsertTwiceConflicts", testInsertTwice},
	{"AcceptAndVisibility", testAccept},
	{"AcceptAfterFailedCreateOrGone", testAcceptStopping},
	{"SetDesiredCountsGenerations", testSetDesired},
	{"SetDesiredGuards", testSetDesiredGuards},
	{"GoneIsAbsorbingAndFirstReasonWins", testGoneAbsorbing},
	{"GoneEndsWhatHoldsNothing", testGoneEnds},
	{"UnknownIDs", testUnknownIDs},
	{"VersionCountsRealChanges", testVersion},
}

func testInsert(e *env) {
	n := sandbox.New{ID: "a", Tenant: tenant, Spec: Spec(time.Hour), Metadata: map[string]string{"x": "1"}}
	got, err := e.Insert(e.ctx(), n)
	e.ok(err)
	now := e.clock.Now()
	want := sandbox.Record{
		ID: "a", Tenant: tenant, CreatedAt: now, Spec: Spec(time.Hour), Version: 1,
		Intent: sandbox.Intent{
			Desired: sandbox.DesiredRunning, Generation: 1, ExpiresAt: now.Add(time.Hour), Metadata: map[string]string{"x": "1"},
		},
	}
	e.equal("answer", got, want)
	n.Metadata["x"], n.Spec.Env["A"], n.Spec.Entrypoint[0] = "changed", "changed", "changed"
	e.unchanged(want)
	got.Intent.Metadata["x"], got.Spec.Env["A"], got.Spec.Entrypoint[0] = "changed", "changed", "changed"
	e.unchanged(want)
	if got := sandbox.StateOf(&want); got != sandbox.StatePending {
		e.Errorf("state %s", got)
	}
	if r := e.insert("b", noTimeout); !r.Intent.ExpiresAt.IsZero() {
		e.Errorf("without a timeout there is a deadline: %s", r.Intent.ExpiresAt)
	}
}

func testInsertTwice(e *env) {
	first := e.insert("a")
	_, err := e.Insert(e.ctx(), sandbox.New{ID: "a", Tenant: "other", Spec: Spec(0)})
	e.refused("same id", err, fault.Conflict, "")
	e.unchanged(first)
	ended := e.gone("a", sandbox.ReasonDeleted)
	_, err = e.Insert(e.ctx(), sandbox.New{ID: "a", Tenant: tenant, Spec: Spec(0)})
	e.refused("id of an ended record", err, fault.Conflict, "")
	e.unchanged(ended)
}

func testAccept(e *env) {
	e.register("n")
	e.insert("a", unaccepted)
	if r := e.get("a"); r.Intent.Accepted || !r.Visible() {
		e.Errorf("before: accepted %v, visible %v", r.Intent.Accepted, r.Visible())
	}
	r, err := e.Accept(e.ctx(), "a")
	e.ok(err)
	if !r.Intent.Accepted || r.Intent.Generation != 1 || r.Version != 2 {
		e.Errorf("after: %+v, version %d", r.Intent, r.Version)
	}
	again, err := e.Accept(e.ctx(), "a")
	e.ok(err)
	e.equal("accepting twice", again, r)

	e.failed("b", "n", unaccepted)
	e.failed("c", "n")
	page, err := e.List(e.ctx(), sandbox.Query{Tenant: tenant, States: []sandbox.State{sandbox.StateFailed}, Limit: 10})
	e.ok(err)
	e.equal("visible failures", ids(page.Items), []sandbox.ID{"c"})
}

func testAcceptStopping(e *env) {
	e.register("n")
	for id, r := range map[sandbox.ID]func() sandbox.Record{
		"failed": func() sandbox.Record { return e.failed("failed", "n", unaccepted) },
		"gone": func() sandbox.Record {
			e.running("gone", "n", unaccepted)
			return e.gone("gone", sandbox.ReasonDeleted)
		},
		"ended": func() sandbox.Record { e.insert("ended", unaccepted); return e.gone("ended", sandbox.ReasonDeleted) },
	} {
		want := r()
		_, err := e.Accept(e.ctx(), id)
		e.stopping(string(id), err)
		if got := fault.SubjectOf(err); got != string(id) {
			e.Errorf("the error is about %q", got)
		}
		e.unchanged(want)
	}
	// An entry point that ended after it ran is no failed create: the client gets its id.
	e.running("over", "n", unaccepted)
	e.report("over", sandbox.StateTerminated)
	_, err := e.Accept(e.ctx(), "over")
	e.ok(err)
}

func testSetDesired(e *env) {
	e.register("n")
	e.running("a", "n")
	steps := []struct {
		desired    sandbox.Desired
		ifGen      uint64
		generation uint64
		state      sandbox.State
	}{
		{sandbox.DesiredPaused, 1, 2, sandbox.StatePausing},
		{sandbox.DesiredPaused, 2, 2, sandbox.StatePausing},
		{sandbox.DesiredRunning, 2, 3, sandbox.StateRunning},
		{sandbox.DesiredPaused, 3, 4, sandbox.StatePausing},
	}
	for i, s := range steps {
		r, err := e.SetDesired(e.ctx(), "a", s.desired, s.ifGen)
		e.ok(err)
		if r.Intent.Generation != s.generation || sandbox.StateOf(&r) != s.state {
			e.Errorf("step %d: generation %d, state %s; want %+v", i, r.Intent.Generation, sandbox.StateOf(&r), s)
		}
		e.unchanged(r)
	}
	if r := e.report("a", sandbox.StatePaused); sandbox.StateOf(&r) != sandbox.StatePaused {
		e.Errorf("after the report: %s", sandbox.StateOf(&r))
	}
	r, err := e.SetDesired(e.ctx(), "a", sandbox.DesiredRunning, 4)
	e.ok(err)
	if sandbox.StateOf(&r) != sandbox.StateResuming {
		e.Errorf("resume: %s", sandbox.StateOf(&r))
	}
}

func testSetDesiredGuards(e *env) {
	e.register("n")
	r := e.running("a", "n")
	for _, g := range []uint64{0, 2} {
		_, err := e.SetDesired(e.ctx(), "a", sandbox.DesiredPaused, g)
		e.stale("other generation", err)
	}
	e.unchanged(r)
	e.failed("failed", "n")
	e.running("exited", "n")
	e.report("exited", sandbox.StateTerminated)
	e.running("gone", "n")
	e.gone("gone", sandbox.ReasonDeleted)
	for _, id := range []sandbox.ID{"failed", "exited", "gone"} {
		before := e.get(id)
		_, err := e.SetDesired(e.ctx(), id, sandbox.DesiredPaused, before.Intent.Generation)
		e.stopping(string(id), err)
		e.unchanged(before)
	}
}

func testGoneAbsorbing(e *env) {
	e.register("n")
	e.running("a", "n")
	r := e.gone("a", sandbox.ReasonExpired)
	if !r.Gone() || r.Ended() || r.Intent.Reason != sandbox.ReasonExpired || r.Intent.Generation != 2 {
		e.Errorf("intent %+v, ended %s", r.Intent, r.EndedAt)
	}
	e.equal("second reason", e.gone("a", sandbox.ReasonDeleted), r)
	for what, try := range map[string]func() error{
		"SetDesired": func() error { _, err := e.SetDesired(e.ctx(), "a", sandbox.DesiredRunning, 2); return err },
		"Renew":      func() error { _, err := e.Renew(e.ctx(), "a", tenant, e.clock.Now().Add(time.Hour)); return err },
		"PatchMetadata": func() error {
			_, err := e.PatchMetadata(e.ctx(), "a", tenant, map[string]*string{"x": ptr("1")})
			return err
		},
		"Accept": func() error { _, err := e.Accept(e.ctx(), "a"); return err },
	} {
		e.stopping(what, try())
	}
	e.unchanged(r)
	e.clean("a")
	if r := e.get("a"); r.Intent.Reason != sandbox.ReasonExpired || !r.Ended() {
		e.Errorf("at the end: reason %q, ended %v", r.Intent.Reason, r.Ended())
	}
}

func testGoneEnds(e *env) {
	e.register("n")
	e.insert("unplaced")
	e.insert("unplaceable")
	_, err := e.FailUnplaced(e.ctx(), "unplaceable", sandbox.Failure{Reason: sandbox.ReasonNoCapacity, RetainFor: time.Hour})
	e.ok(err)
	e.failed("cleaned", "n")
	e.clean("cleaned")
	for _, id := range []sandbox.ID{"unplaced", "unplaceable", "cleaned"} {
		e.clock.Advance(time.Second)
		if r := e.get(id); r.Ended() {
			e.Fatalf("%s ended before it was Gone", id)
		}
		r := e.gone(id, sandbox.ReasonDeleted)
		if !r.EndedAt.Equal(e.clock.Now()) || r.Visible() {
			e.Errorf("%s: ended at %s, visible %v", id, r.EndedAt, r.Visible())
		}
		e.clock.Advance(time.Second)
		e.equal("again", e.gone(id, sandbox.ReasonExpired), r)
	}
	e.failed("holding", "n")
	if r := e.gone("holding", sandbox.ReasonDeleted); r.Ended() {
		e.Error("a record ended that still holds ports")
	}
}

func testUnknownIDs(e *env) {
	e.register("n")
	for what, try := range map[string]func() error{
		"Accept":        func() error { _, err := e.Accept(e.ctx(), "x"); return err },
		"SetDesired":    func() error { _, err := e.SetDesired(e.ctx(), "x", sandbox.DesiredPaused, 1); return err },
		"SetGone":       func() error { _, err := e.SetGone(e.ctx(), "x", sandbox.ReasonDeleted); return err },
		"Renew":         func() error { _, err := e.Renew(e.ctx(), "x", tenant, e.clock.Now().Add(time.Hour)); return err },
		"PatchMetadata": func() error { _, err := e.PatchMetadata(e.ctx(), "x", tenant, nil); return err },
		"Get":           func() error { _, err := e.Get(e.ctx(), "x"); return err },
		"FailUnplaced":  func() error { _, err := e.FailUnplaced(e.ctx(), "x", sandbox.Failure{}); return err },
		"Place": func() error {
			_, err := e.Place(e.ctx(), sandbox.PlaceRequest{ID: "x", Candidates: []sandbox.Candidate{candidate("n")}})
			return err
		},
		"Report": func() error {
			_, err := e.Report(e.ctx(), sandbox.Report{ID: "x", Node: "n", Epoch: 1, Session: e.session("n"), State: sandbox.StateRunning})
			return err
		},
		"SwapPort": func() error {
			_, err := e.SwapPort(e.ctx(), sandbox.PortSwap{ID: "x", Node: "n", Epoch: 1, Session: e.session("n"), PortMin: portMin, PortMax: portMax})
			return err
		},
	} {
		e.notFound(what, try())
	}
}

func testVersion(e *env) {
	e.register("n")
	version := e.insert("a", unaccepted).Version
	if version != 1 {
		e.Errorf("version %d after insert", version)
	}
	bump := func(what string, by uint64, change func() error) {
		e.Helper()
		e.ok(change())
		got := e.get("a").Version
		if got != version+by {
			e.Errorf("%s: version %d after %d; want +%d", what, got, version, by)
		}
		version = got
	}
	at := e.clock.Now().Add(2 * time.Hour)
	accept := func() error { _, err := e.Accept(e.ctx(), "a"); return err }
	renew := func() error { _, err := e.Renew(e.ctx(), "a", tenant, at); return err }
	patch := func() error {
		_, err := e.PatchMetadata(e.ctx(), "a", tenant, map[string]*string{"x": ptr("1")})
		return err
	}
	empty := func() error {
		_, err := e.PatchMetadata(e.ctx(), "a", tenant, map[string]*string{"none": nil})
		return err
	}
	running := func() error { _, err := e.Report(e.ctx(), e.reportOf(e.get("a"), sandbox.StateRunning)); return err }
	pause := func() error {
		_, err := e.SetDesired(e.ctx(), "a", sandbox.DesiredPaused, 1)
		if sandbox.IsStale(err) {
			_, err = e.SetDesired(e.ctx(), "a", sandbox.DesiredPaused, 2)
		}
		return err
	}
	gone := func() error { _, err := e.SetGone(e.ctx(), "a", sandbox.ReasonDeleted); return err }
	bump("empty patch", 0, empty)
	bump("accept", 1, accept)
	bump("accept again", 0, accept)
	bump("renew", 1, renew)
	bump("renew to the same", 0, renew)
	bump("patch", 1, patch)
	bump("patch again", 0, patch)
	bump("place", 1, func() error { e.place("a", "n"); return nil })
	bump("report", 1, running)
	bump("report again", 0, running)
	bump("pause", 1, pause)
	bump("pause again", 0, pause)
	bump("gone", 1, gone)
	bump("gone again", 0, gone)
	bump("cleaned", 1, func() error { e.clean("a"); return nil })
	bump("cleaned again", 0, func() error { e.clean("a"); return nil })
}
