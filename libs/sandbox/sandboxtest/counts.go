package sandboxtest

import (
	"context"
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// nodeState is what a Counter counts by.
type nodeState = struct {
	Node  string
	State sandbox.State
}

// Counter is an optional part of a store: one that counts without reading records. What hides it, as a decorator does, passes this part
// of the suite with nothing tested.
type Counter interface {
	// Counts returns how many visible records there are of each node and state; what is missing is 0. Records that hold nothing on a
	// node have none.
	Counts(ctx context.Context) (map[nodeState]int, error)
}

var countTests = []test{
	{"FollowEveryChange", testCounts},
	{"OfALostNode", testCountsLost},
	{"OfWhatIsNotVisible", testCountsHidden},
}

// counts checks all numbers that are not 0.
func (e *env) counts(what string, want map[nodeState]int) {
	e.Helper()
	c, ok := e.Store.(Counter)
	if !ok {
		return
	}
	got, err := c.Counts(e.ctx())
	e.ok(err)
	for k, n := range got {
		if n == 0 {
			delete(got, k)
		}
	}
	e.equal(what, got, want)
}

func testCounts(e *env) {
	e.register("n")
	e.counts("empty", nil)
	e.insert("a")
	e.insert("b", func(n *sandbox.New) { n.Tenant = "team-b" })
	e.counts("pending", map[nodeState]int{{"", sandbox.StatePending}: 2})
	e.place("a", "n")
	e.counts("placed", map[nodeState]int{{"", sandbox.StatePending}: 1, {"n", sandbox.StatePending}: 1})
	e.report("a", sandbox.StateRunning)
	_, err := e.Renew(e.ctx(), "a", tenant, e.clock.Now().Add(time.Minute))
	e.ok(err)
	e.counts("running", map[nodeState]int{{"", sandbox.StatePending}: 1, {"n", sandbox.StateRunning}: 1})
	_, err = e.SetDesired(e.ctx(), "a", sandbox.DesiredPaused, 1)
	e.ok(err)
	e.counts("pausing", map[nodeState]int{{"", sandbox.StatePending}: 1, {"n", sandbox.StatePausing}: 1})
	e.clock.Advance(time.Minute)
	_, err = e.ExpireDue(e.ctx(), e.clock.Now(), 10)
	e.ok(err)
	e.counts("stopping", map[nodeState]int{{"", sandbox.StatePending}: 1, {"n", sandbox.StateStopping}: 1})
	e.clean("a")
	e.gone("b", sandbox.ReasonDeleted)
	e.counts("ended", nil)
}

func testCountsLost(e *env) {
	e.register("n")
	e.running("a", "n")
	e.running("b", "n", replaced)
	e.clock.Advance(node.LeaseTime)
	for _, id := range []sandbox.ID{"a", "b"} {
		_, err := e.Lose(e.ctx(), e.lossOf(e.get(id)))
		e.ok(err)
	}
	e.counts("lost", map[nodeState]int{{"", sandbox.StateFailed}: 1, {"", sandbox.StatePending}: 1})
}

func testCountsHidden(e *env) {
	e.register("n")
	e.failed("shown", "n")
	e.failed("unknown", "n", unaccepted)
	e.counts("failed", map[nodeState]int{{"n", sandbox.StateFailed}: 1})
	e.clean("shown")
	e.counts("cleaned", map[nodeState]int{{"", sandbox.StateFailed}: 1})
	e.insert("pending", unaccepted)
	e.counts("a create that nobody waits for is one", map[nodeState]int{{"", sandbox.StateFailed}: 1, {"", sandbox.StatePending}: 1})
	_, err := e.Accept(e.ctx(), "pending")
	e.ok(err)
	e.counts("accepted", map[nodeState]int{{"", sandbox.StateFailed}: 1, {"", sandbox.StatePending}: 1})
}
