package sandboxtest

import (
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

var lossTests = []test{
	{"LostSandboxesFail", testLose},
	{"LossFreesTheNode", testLossFrees},
	{"LostAndReplaced", testLossReplaced},
	{"LostAfterTheEnd", testLossAfterEnd},
	{"LostWhileGone", testLossGone},
	{"LostBeforeRunning", testLossBeforeRunning},
	{"LossGuards", testLossGuards},
	{"LossOfARemovedNode", testLossRemoved},
	{"TheNodeComesBack", testLossComesBack},
}

func (e *env) lossOf(r sandbox.Record) sandbox.Loss {
	return sandbox.Loss{ID: r.ID, Node: r.Placement.Node, Epoch: r.Placement.Epoch, LeaseUntil: e.leaseOf(r.Placement.Node), RetainFor: time.Minute}
}

// leaseOf returns the end of a node's lease.
func (e *env) leaseOf(name string) time.Time {
	e.Helper()
	nodes, err := e.Nodes(e.ctx())
	e.ok(err)
	for _, n := range nodes {
		if n.Name == name {
			return n.LeaseUntil
		}
	}
	e.Fatalf("no node %q", name)
	return time.Time{}
}

// lose lets all leases run out and gives up the present placement.
func (e *env) lose(id sandbox.ID) sandbox.Record {
	e.Helper()
	e.clock.Advance(node.LeaseTime)
	r, err := e.Lose(e.ctx(), e.lossOf(e.get(id)))
	e.ok(err)
	e.unchanged(r)
	return r
}

func replaced(n *sandbox.New) { n.Spec.Replace = true }

func testLose(e *env) {
	e.register("n")
	e.running("a", "n")
	r := e.lose("a")
	want := sandbox.Observed{
		State: sandbox.StateFailed, Reason: sandbox.ReasonNodeLost, Message: r.Observed.Message,
		Generation: 1, Epoch: 2, Started: true, At: e.clock.Now(),
	}
	e.equal("observed", r.Observed, want)
	e.equal("placement", r.Placement, sandbox.Placement{Epoch: 2})
	if r.Unplaced() || r.NeedsWork() || !r.Visible() || r.FailedCreate() {
		e.Errorf("unplaced %v, needs work %v, visible %v, failed create %v", r.Unplaced(), r.NeedsWork(), r.Visible(), r.FailedCreate())
	}
	e.equal("unplaced", e.unplacedIDs(), []sandbox.ID{})
	on, err := e.OnNode(e.ctx(), "n")
	e.ok(err)
	e.equal("on the node", ids(on), []sandbox.ID{})
	e.work("work", "n", 10)
	page, err := e.List(e.ctx(), sandbox.Query{Tenant: tenant, States: []sandbox.State{sandbox.StateFailed}, Limit: 10})
	e.ok(err)
	e.equal("listed as Failed", ids(page.Items), []sandbox.ID{"a"})
	if r := e.gone("a", sandbox.ReasonDeleted); !r.Ended() {
		e.Error("it holds nothing and did not end with its delete")
	}
}

func testLossFrees(e *env) {
	e.register("n")
	one := sandbox.PlaceRequest{Ports: []int{8080}, Reserve: sandbox.Resources{CPU: 1000},
		Candidates: []sandbox.Candidate{{Node: "n", MaxSandboxes: 1, Capacity: sandbox.Resources{CPU: 1000}, PortMin: portMin, PortMax: portMin}}}
	e.insert("a")
	one.ID = "a"
	_, err := e.Place(e.ctx(), one)
	e.ok(err)
	e.lose("a")
	e.register("n")
	e.insert("b")
	one.ID = "b"
	_, err = e.Place(e.ctx(), one)
	e.ok(err)
}

func testLossReplaced(e *env) {
	e.register("n")
	e.register("m")
	e.running("a", "n", replaced)
	_, err := e.SetDesired(e.ctx(), "a", sandbox.DesiredPaused, 1)
	e.ok(err)
	e.report("a", sandbox.StatePaused)
	r := e.lose("a")
	if !r.Unplaced() || r.Intent.Desired != sandbox.DesiredRunning || r.Intent.Generation != 3 || sandbox.StateOf(&r) != sandbox.StatePending {
		e.Errorf("unplaced %v, intent %+v, state %s", r.Unplaced(), r.Intent, sandbox.StateOf(&r))
	}
	e.equal("unplaced", e.unplacedIDs(), []sandbox.ID{"a"})
	e.register("m")
	r = e.place("a", "m")
	if r.Placement.Epoch != 3 || !r.NeedsWork() {
		e.Errorf("placement %+v, needs work %v", r.Placement, r.NeedsWork())
	}
	if r = e.report("a", sandbox.StateRunning); sandbox.StateOf(&r) != sandbox.StateRunning {
		e.Errorf("state %s", sandbox.StateOf(&r))
	}
}

func testLossAfterEnd(e *env) {
	e.register("n")
	e.running("a", "n", replaced)
	e.report("a", sandbox.StateTerminated)
	if r := e.lose("a"); sandbox.StateOf(&r) != sandbox.StateTerminated || r.Unplaced() || r.Placed() {
		e.Errorf("state %s, unplaced %v, placed %v", sandbox.StateOf(&r), r.Unplaced(), r.Placed())
	}
}

func testLossGone(e *env) {
	e.register("n")
	e.running("a", "n", replaced)
	e.gone("a", sandbox.ReasonDeleted)
	if r := e.lose("a"); !r.Ended() || !r.EndedAt.Equal(e.clock.Now()) {
		e.Errorf("ended %s", r.EndedAt)
	}
}

func testLossBeforeRunning(e *env) {
	e.register("n")
	e.insert("a")
	e.place("a", "n")
	r := e.lose("a")
	if !r.FailedCreate() || !r.RetainUntil.Equal(e.clock.Now().Add(time.Minute)) {
		e.Errorf("failed create %v, shown until %s", r.FailedCreate(), r.RetainUntil)
	}
}

func testLossGuards(e *env) {
	e.register("n")
	r := e.running("a", "n")
	_, err := e.Lose(e.ctx(), e.lossOf(r))
	e.stale("the lease is running", err)
	e.clock.Advance(node.LeaseTime)
	for what, change := range map[string]func(l *sandbox.Loss){
		"another node":  func(l *sandbox.Loss) { l.Node = "m" },
		"another epoch": func(l *sandbox.Loss) { l.Epoch++ },
		"another lease": func(l *sandbox.Loss) { l.LeaseUntil = l.LeaseUntil.Add(-time.Second) },
		"no lease":      func(l *sandbox.Loss) { l.LeaseUntil = time.Time{} },
	} {
		l := e.lossOf(r)
		change(&l)
		_, err := e.Lose(e.ctx(), l)
		e.stale(what, err)
	}
	judged := e.lossOf(r)
	e.ok(e.RenewLease(e.ctx(), "n", e.session("n")))
	_, err = e.Lose(e.ctx(), e.lossOf(r))
	e.stale("the node came back in time", err)
	e.clock.Advance(node.LeaseTime)
	_, err = e.Lose(e.ctx(), judged)
	e.stale("the node came back in time, and its new lease is over, too", err)
	e.unchanged(r)
	_, err = e.Lose(e.ctx(), sandbox.Loss{ID: "x", Node: "n", Epoch: 1})
	e.notFound("unknown id", err)
}

func testLossRemoved(e *env) {
	n := e.register("n")
	r := e.running("a", "n")
	if err := e.Forget(e.ctx(), "n"); !sandbox.IsStale(err) {
		e.Errorf("forget a node in use: %v", err)
	}
	e.ok(e.Remove(e.ctx(), "n"))
	if err := e.Forget(e.ctx(), "n"); !sandbox.IsStale(err) {
		e.Errorf("forget a removed node that has sandboxes: %v", err)
	}
	rep := e.reportOf(r, sandbox.StatePaused)
	rep.Session = n.Session
	_, err := e.Report(e.ctx(), rep)
	e.stale("a report of the removed node", err)
	l := e.lossOf(r)
	l.LeaseUntil = time.Time{} // nobody has judged it
	_, err = e.Lose(e.ctx(), l)
	e.ok(err)
	e.ok(e.Forget(e.ctx(), "n"))
	nodes, err := e.Nodes(e.ctx())
	e.ok(err)
	e.equal("nodes", len(nodes), 0)
	if again := e.register("n"); again.Session <= n.Session+1 || again.Removed {
		e.Errorf("registered again: %+v after session %d", again, n.Session)
	}
}

func testLossComesBack(e *env) {
	n := e.register("n")
	r := e.running("a", "n")
	e.lose("a")
	e.ok(e.RenewLease(e.ctx(), "n", n.Session))
	late := e.reportOf(r, sandbox.StateRunning)
	_, err := e.Report(e.ctx(), late)
	e.stale("a report of the lost epoch", err)
	before := e.get("a")
	e.ok(e.Cleaned(e.ctx(), sandbox.Cleaned{ID: "a", Node: "n", Epoch: r.Placement.Epoch, Session: n.Session}))
	e.unchanged(before)
}
