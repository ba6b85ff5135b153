package sandboxtest

import (
	"math"

	"opensandbox/libs/sandbox"
)

var usageTests = []test{
	{"FollowsPlacements", testUsage},
	{"FollowsTheEnd", testUsageEnd},
	{"OfALostNode", testUsageLost},
	{"HugeAmountsDoNotWrap", testUsageHuge},
}

// usage checks what is held; nodes that hold nothing may be told of or not.
func (e *env) usage(what string, want map[string]sandbox.Usage) {
	e.Helper()
	got, err := e.Usage(e.ctx())
	e.ok(err)
	for name, u := range got {
		if u == (sandbox.Usage{}) {
			delete(got, name)
		}
	}
	e.equal("usage "+what, got, want)
}

func testUsage(e *env) {
	e.usage("of an empty store", nil)
	e.register("n")
	e.register("m")
	e.usage("of empty nodes", nil)
	for _, id := range []sandbox.ID{"a", "b", "c", "unplaced"} {
		e.insert(id)
	}
	e.place("a", "n")
	e.place("b", "n")
	e.ok(e.placeOn("c", candidate("m"), sandbox.Resources{}))
	e.usage("of two nodes", map[string]sandbox.Usage{
		"n": {Count: 2, Reserved: sandbox.Resources{CPU: 500, Memory: 512 << 20}}, "m": {Count: 1},
	})
}

func testUsageEnd(e *env) {
	e.register("n")
	e.running("a", "n")
	e.report("a", sandbox.StateTerminated)
	e.usage("after the exit", map[string]sandbox.Usage{"n": {Count: 1}})
	e.gone("a", sandbox.ReasonDeleted)
	e.usage("while it is removed", map[string]sandbox.Usage{"n": {Count: 1}})
	e.clean("a")
	e.usage("at the end", nil)
}

func testUsageLost(e *env) {
	e.register("n")
	e.running("a", "n")
	e.lose("a")
	e.usage("after the loss", nil)
}

func testUsageHuge(e *env) {
	e.register("n")
	for _, id := range []sandbox.ID{"a", "b", "c"} {
		e.insert(id)
		e.ok(e.placeOn(id, candidate("n"), sandbox.Resources{CPU: 1 << 62, Memory: math.MaxInt64}))
	}
	got, err := e.Usage(e.ctx())
	e.ok(err)
	if u := got["n"]; u.Count != 3 || u.Reserved.CPU <= 0 || u.Reserved.Memory <= 0 {
		e.Errorf("usage %+v", u)
	}
}
