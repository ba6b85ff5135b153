package sandboxtest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

var queryTests = []test{
	{"GetReturnsCopies", testGetCopies},
	{"GetShowsEndedRecords", testGetEnded},
	{"NowAndIncarnation", testNow},
	{"CancelledContext", testCancelled},
}

var listTests = []test{
	{"NewestFirstInPages", testListPages},
	{"StatesAreAlternatives", testListStates},
	{"MetadataMustAllMatch", testListMetadata},
	{"TenantsAreIsolated", testListTenants},
	{"HidesEndedAndUnknownFailures", testListHidden},
	{"FollowsChanges", testListFollows},
	{"PageOutOfRange", testListRange},
}

func testGetCopies(e *env) {
	e.register("n")
	want := e.running("a", "n", withMetadata("x", "1"))
	r := e.get("a")
	r.Intent.Metadata["x"], r.Spec.Env["A"], r.Spec.Entrypoint[0], r.Placement.Ports[8080] = "2", "2", "2", 2
	e.unchanged(want)
	page, err := e.List(e.ctx(), sandbox.Query{Tenant: tenant, Limit: 1})
	e.ok(err)
	page.Items[0].Intent.Metadata["x"] = "2"
	on, err := e.OnNode(e.ctx(), "n")
	e.ok(err)
	on[0].Intent.Metadata["x"] = "2"
	e.unchanged(want)
}

func testGetEnded(e *env) {
	e.insert("a")
	ended := e.gone("a", sandbox.ReasonDeleted)
	e.unchanged(ended)
}

func testNow(e *env) {
	made, err := e.Incarnation(e.ctx())
	e.ok(err)
	if !made.Equal(e.clock.Now()) {
		e.Errorf("incarnation %s; made at %s", made, e.clock.Now())
	}
	e.clock.Advance(time.Hour)
	now, err := e.Now(e.ctx())
	e.ok(err)
	if !now.Equal(e.clock.Now()) {
		e.Errorf("now %s; want %s", now, e.clock.Now())
	}
	again, err := e.Incarnation(e.ctx())
	e.ok(err)
	if !again.Equal(made) {
		e.Errorf("incarnation moved from %s to %s", made, again)
	}
}

func testCancelled(e *env) {
	e.insert("a")
	ctx, cancel := context.WithCancel(e.ctx())
	cancel()
	for what, try := range map[string]func() error{
		"Insert":  func() error { _, err := e.Insert(ctx, sandbox.New{ID: "b", Spec: Spec(0)}); return err },
		"SetGone": func() error { _, err := e.SetGone(ctx, "a", sandbox.ReasonDeleted); return err },
		"List":    func() error { _, err := e.List(ctx, sandbox.Query{Tenant: tenant, Limit: 1}); return err },
		"Nodes":   func() error { _, err := e.Nodes(ctx); return err },
	} {
		if err := try(); !errors.Is(err, context.Canceled) {
			e.Errorf("%s: %v", what, err)
		}
	}
	if r := e.get("a"); r.Gone() {
		e.Error("a cancelled call had an effect")
	}
}

// list checks the ids and the total of a page.
func (e *env) list(what string, q sandbox.Query, total int, want ...sandbox.ID) {
	e.Helper()
	if q.Tenant == "" {
		q.Tenant = tenant
	}
	if q.Limit == 0 {
		q.Limit = 100
	}
	page, err := e.List(e.ctx(), q)
	e.ok(err)
	e.equal(what, ids(page.Items), want)
	if page.Total != total {
		e.Errorf("%s: total %d; want %d", what, page.Total, total)
	}
}

func testListPages(e *env) {
	var want []sandbox.ID
	for i, id := range []sandbox.ID{"b", "a", "c", "e", "d"} {
		e.insert(id, withMetadata("k", "v"))
		if i > 1 {
			e.clock.Advance(time.Second)
		}
	}
	want = []sandbox.ID{"d", "e", "c", "b", "a"}
	for _, m := range []map[string]string{nil, {"k": "v"}} {
		e.list("all", sandbox.Query{Metadata: m}, 5, want...)
		e.list("first page", sandbox.Query{Metadata: m, Limit: 2}, 5, want[:2]...)
		e.list("second page", sandbox.Query{Metadata: m, Limit: 2, Offset: 2}, 5, want[2:4]...)
		e.list("last page", sandbox.Query{Metadata: m, Limit: 2, Offset: 4}, 5, want[4:]...)
		e.list("beyond", sandbox.Query{Metadata: m, Limit: 2, Offset: 5}, 5)
	}
	page, err := e.List(e.ctx(), sandbox.Query{Tenant: tenant, Limit: 1})
	e.ok(err)
	e.equal("item", page.Items[0], e.get("d"))
}

func testListStates(e *env) {
	e.register("n")
	e.insert("pending")
	for _, id := range []sandbox.ID{"running", "pausing", "paused", "terminated", "stopping"} {
		e.running(id, "n")
	}
	for _, id := range []sandbox.ID{"pausing", "paused"} {
		_, err := e.SetDesired(e.ctx(), id, sandbox.DesiredPaused, 1)
		e.ok(err)
	}
	e.report("paused", sandbox.StatePaused)
	e.report("terminated", sandbox.StateTerminated)
	e.gone("stopping", sandbox.ReasonDeleted)
	e.failed("failed", "n")
	for st, want := range map[sandbox.State]sandbox.ID{
		sandbox.StatePending: "pending", sandbox.StateRunning: "running", sandbox.StatePausing: "pausing", sandbox.StatePaused: "paused",
		sandbox.StateTerminated: "terminated", sandbox.StateStopping: "stopping", sandbox.StateFailed: "failed",
	} {
		e.list(string(st), sandbox.Query{States: []sandbox.State{st}}, 1, want)
	}
	e.list("two states", sandbox.Query{States: []sandbox.State{sandbox.StatePaused, sandbox.StateRunning}}, 2, "running", "paused")
	e.list("none", sandbox.Query{States: []sandbox.State{sandbox.StateResuming}}, 0)
	e.list("a state that does not exist", sandbox.Query{States: []sandbox.State{"Weird"}}, 0)
	e.list("no filter", sandbox.Query{}, 7, "terminated", "stopping", "running", "pending", "pausing", "paused", "failed")
}

func testListMetadata(e *env) {
	e.register("n")
	e.insert("a", withMetadata("team", "x", "env", "prod"))
	e.insert("b", withMetadata("team", "x", "env", "test"))
	e.insert("c", withMetadata("team", "y", "env", "prod", "third", "1"))
	e.insert("d")
	e.place("b", "n")
	e.report("b", sandbox.StateRunning)
	e.list("one", sandbox.Query{Metadata: map[string]string{"team": "x"}}, 2, "b", "a")
	e.list("both", sandbox.Query{Metadata: map[string]string{"team": "x", "env": "prod"}}, 1, "a")
	e.list("three", sandbox.Query{Metadata: map[string]string{"team": "y", "env": "prod", "third": "1"}}, 1, "c")
	e.list("no such value", sandbox.Query{Metadata: map[string]string{"team": "z"}}, 0)
	e.list("a value is compared whole", sandbox.Query{Metadata: map[string]string{"env": "pro"}}, 0)
	e.list("a missing key is not empty", sandbox.Query{Metadata: map[string]string{"third": ""}}, 0)
	running := []sandbox.State{sandbox.StateRunning, sandbox.StatePaused}
	e.list("with a state", sandbox.Query{Metadata: map[string]string{"team": "x"}, States: running}, 1, "b")
	e.list("with a state that does not match", sandbox.Query{Metadata: map[string]string{"team": "y"}, States: running}, 0)
}

func testListTenants(e *env) {
	e.insert("a", withMetadata("k", "v"))
	e.insert("b", withMetadata("k", "v"), func(n *sandbox.New) { n.Tenant = "team-b" })
	e.insert("c", withMetadata("k", "v"), func(n *sandbox.New) { n.Tenant = "" })
	for _, m := range []map[string]string{nil, {"k": "v"}} {
		for name, want := range map[string]sandbox.ID{tenant: "a", "team-b": "b", "": "c"} {
			page, err := e.List(e.ctx(), sandbox.Query{Tenant: name, Metadata: m, Limit: 10})
			e.ok(err)
			e.equal(fmt.Sprintf("tenant %q", name), ids(page.Items), []sandbox.ID{want})
			if page.Total != 1 {
				e.Errorf("tenant %q: total %d", name, page.Total)
			}
		}
	}
	if r := e.get("b"); r.Tenant != "team-b" {
		e.Errorf("get by the system: tenant %q", r.Tenant)
	}
}

func testListHidden(e *env) {
	e.register("n")
	m := withMetadata("k", "v")
	e.insert("ended", m)
	e.gone("ended", sandbox.ReasonDeleted)
	e.failed("unknown failure", "n", unaccepted, m)
	e.failed("known failure", "n", m)
	e.running("unknown stopping", "n", unaccepted, m)
	e.gone("unknown stopping", sandbox.ReasonDeleted)
	e.insert("unknown pending", unaccepted, m)
	for _, filter := range []map[string]string{nil, {"k": "v"}} {
		e.list("visible", sandbox.Query{Metadata: filter}, 2, "unknown pending", "known failure")
	}
}

func testListFollows(e *env) {
	e.register("n")
	e.insert("a", withMetadata("k", "v"))
	q := func(st sandbox.State) sandbox.Query {
		return sandbox.Query{States: []sandbox.State{st}, Metadata: map[string]string{"k": "v"}}
	}
	e.list("pending", q(sandbox.StatePending), 1, "a")
	e.place("a", "n")
	e.report("a", sandbox.StateRunning)
	e.list("not pending", q(sandbox.StatePending), 0)
	e.list("running", q(sandbox.StateRunning), 1, "a")
	e.gone("a", sandbox.ReasonDeleted)
	e.list("stopping", q(sandbox.StateStopping), 1, "a")
	e.clean("a")
	e.list("ended", sandbox.Query{}, 0)
	e.list("ended, by metadata", sandbox.Query{Metadata: map[string]string{"k": "v"}}, 0)
}

func testListRange(e *env) {
	for _, q := range []sandbox.Query{{Limit: 0}, {Limit: -1}, {Limit: 1, Offset: -1}} {
		_, err := e.List(e.ctx(), q)
		e.refused(fmt.Sprintf("%+v", q), err, fault.Invalid, "")
	}
	e.insert("a")
	e.list("large limit", sandbox.Query{Limit: 1 << 30}, 1, "a")
}
