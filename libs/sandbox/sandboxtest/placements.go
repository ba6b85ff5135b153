package sandboxtest

import (
	"strings"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

var placementTests = []test{
	{"UnplacedOldestFirst", testUnplaced},
	{"PlaceGivesNodeEpochPortsAmounts", testPlace},
	{"PlaceOnlyUnplaced", testPlaceStale},
	{"CandidatesThatDoNotFit", testPlaceCandidates},
	{"NoCandidates", testPlaceNone},
	{"FailUnplaced", testFailUnplaced},
}

var capacityTests = []test{
	{"AmountsAreChecked", testCapacity},
	{"CountIsChecked", testCount},
	{"ExitFreesAmountsNotPorts", testExitFrees},
	{"FailedCreateFreesAmounts", testFailedFrees},
	{"HugeAmountsDoNotWrap", testHugeAmounts},
	{"FailedPlaceTakesNothing", testFailedPlace},
}

func testUnplaced(e *env) {
	e.register("n")
	for _, id := range []sandbox.ID{"c", "a", "d", "b", "gone", "failed", "placed"} {
		e.insert(id)
		e.clock.Advance(time.Millisecond)
	}
	e.gone("gone", sandbox.ReasonDeleted)
	_, err := e.FailUnplaced(e.ctx(), "failed", sandbox.Failure{Reason: "X"})
	e.ok(err)
	e.place("placed", "n")
	for max, want := range map[int][]sandbox.ID{0: {}, 2: {"c", "a"}, 100: {"c", "a", "d", "b"}} {
		got, err := e.Unplaced(e.ctx(), max)
		e.ok(err)
		e.equal("unplaced", ids(got), want)
	}
	n, err := e.CountUnplaced(e.ctx())
	e.ok(err)
	e.equal("number of the unplaced", n, 4)
}

func testPlace(e *env) {
	e.register("n")
	before := e.insert("a")
	got := e.place("a", "n")
	if got.Placement.Node != "n" || got.Placement.Epoch != 1 || got.Placement.Released {
		e.Errorf("placement %+v", got.Placement)
	}
	e.equal("reserved", got.Placement.Reserved, sandbox.Resources{CPU: 250, Memory: 256 << 20})
	p := got.Placement.Ports
	if len(p) != 2 || p[44772] == p[8080] {
		e.Errorf("ports %v", p)
	}
	for inside, port := range p {
		if port < portMin || port > portMax {
			e.Errorf("port %d of %d is out of range", port, inside)
		}
	}
	e.unchanged(got)
	want := before
	want.Placement, want.Version = got.Placement, 2
	e.equal("the rest", got, want)
	on, err := e.OnNode(e.ctx(), "n")
	e.ok(err)
	e.equal("on the node", on, []sandbox.Record{got})
}

func testPlaceStale(e *env) {
	e.register("n")
	e.insert("placed")
	e.place("placed", "n")
	e.insert("gone")
	e.gone("gone", sandbox.ReasonDeleted)
	e.insert("failed")
	_, err := e.FailUnplaced(e.ctx(), "failed", sandbox.Failure{Reason: "X"})
	e.ok(err)
	for _, id := range []sandbox.ID{"placed", "gone", "failed"} {
		before := e.get(id)
		_, err := e.Place(e.ctx(), sandbox.PlaceRequest{ID: id, Candidates: []sandbox.Candidate{candidate("n")}})
		e.stale(string(id), err)
		e.unchanged(before)
	}
}

func testPlaceCandidates(e *env) {
	e.register("dead")
	e.clock.Advance(node.LeaseTime)
	e.register("drained")
	e.ok(e.SetDraining(e.ctx(), "drained", true))
	e.register("good")
	e.register("better")
	r := e.insert("a")
	p := sandbox.PlaceRequest{ID: "a", Candidates: []sandbox.Candidate{candidate("unknown"), candidate("drained"), candidate("dead")}}
	_, err := e.Place(e.ctx(), p)
	e.refused("nothing fits", err, fault.Unavailable, sandbox.ReasonNoCapacity)
	for _, name := range []string{"node unknown: ", "node drained: ", "node dead: "} {
		if !strings.Contains(fault.TextOf(err), name) {
			e.Errorf("text %q does not contain %q", fault.TextOf(err), name)
		}
	}
	e.unchanged(r)
	p.Candidates = append(p.Candidates, candidate("good"), candidate("better"))
	r, err = e.Place(e.ctx(), p)
	e.ok(err)
	if r.Placement.Node != "good" {
		e.Errorf("placed on %q; the first that fits is good", r.Placement.Node)
	}
}

func testPlaceNone(e *env) {
	e.insert("a")
	_, err := e.Place(e.ctx(), sandbox.PlaceRequest{ID: "a"})
	e.refused("no candidates", err, fault.Unavailable, sandbox.ReasonNoCapacity)
}

func testFailUnplaced(e *env) {
	e.register("n")
	e.insert("a")
	r, err := e.FailUnplaced(e.ctx(), "a", sandbox.Failure{Reason: sandbox.ReasonNoCapacity, Message: "full", RetainFor: time.Minute})
	e.ok(err)
	if !r.FailedCreate() || r.Observed.Reason != sandbox.ReasonNoCapacity || r.Observed.Message != "full" || r.Unplaced() {
		e.Errorf("observed %+v", r.Observed)
	}
	if !r.RetainUntil.Equal(e.clock.Now().Add(time.Minute)) {
		e.Errorf("retained until %s", r.RetainUntil)
	}
	e.unchanged(r)
	_, err = e.FailUnplaced(e.ctx(), "a", sandbox.Failure{Reason: "OTHER"})
	e.stale("twice", err)
	e.insert("b")
	placed := e.place("b", "n")
	_, err = e.FailUnplaced(e.ctx(), "b", sandbox.Failure{Reason: "OTHER"})
	e.stale("placed", err)
	e.unchanged(placed)
}

// bounded is a candidate with room for two processors, 2 GiB and four ports.
func bounded(name string) sandbox.Candidate {
	return sandbox.Candidate{Node: name, Capacity: sandbox.Resources{CPU: 2000, Memory: 2 << 30}, PortMin: portMin, PortMax: portMin + 3}
}

// placeOn tries to reserve on one candidate, with one port.
func (e *env) placeOn(id sandbox.ID, c sandbox.Candidate, r sandbox.Resources) error {
	e.Helper()
	_, err := e.Place(e.ctx(), sandbox.PlaceRequest{ID: id, Candidates: []sandbox.Candidate{c}, Ports: []int{8080}, Reserve: r})
	return err
}

func testCapacity(e *env) {
	e.register("n")
	c := bounded("n")
	for _, id := range []sandbox.ID{"a", "b", "c"} {
		e.insert(id)
	}
	e.ok(e.placeOn("a", c, sandbox.Resources{CPU: 500, Memory: 1 << 30}))
	err := e.placeOn("b", c, sandbox.Resources{CPU: 500, Memory: 2 << 30})
	e.refused("too much memory", err, fault.Unavailable, sandbox.ReasonNoCapacity)
	if want := "node n: memory: 2 GiB wanted, 1 GiB free"; !strings.Contains(fault.TextOf(err), want) {
		e.Errorf("text %q does not contain %q", fault.TextOf(err), want)
	}
	err = e.placeOn("b", c, sandbox.Resources{CPU: 1501, Memory: 1 << 30})
	e.refused("too much cpu", err, fault.Unavailable, sandbox.ReasonNoCapacity)
	if want := "node n: cpu: 1.501 wanted, 1.5 free"; !strings.Contains(fault.TextOf(err), want) {
		e.Errorf("text %q does not contain %q", fault.TextOf(err), want)
	}
	e.ok(e.placeOn("b", c, sandbox.Resources{CPU: 1500, Memory: 1 << 30}))
	e.refused("full", e.placeOn("c", c, sandbox.Resources{CPU: 1}), fault.Unavailable, sandbox.ReasonNoCapacity)
	unbounded := c
	unbounded.Capacity = sandbox.Resources{}
	e.ok(e.placeOn("c", unbounded, sandbox.Resources{CPU: 99000, Memory: 1 << 40}))
}

func testCount(e *env) {
	e.register("n")
	c := bounded("n")
	c.MaxSandboxes = 2
	for _, id := range []sandbox.ID{"a", "b", "c"} {
		e.insert(id)
	}
	e.ok(e.placeOn("a", c, sandbox.Resources{}))
	e.ok(e.placeOn("b", c, sandbox.Resources{}))
	full := func(what string) {
		e.Helper()
		e.refused(what, e.placeOn("c", c, sandbox.Resources{}), fault.Unavailable, sandbox.ReasonNoCapacity)
	}
	full("two of two")
	e.report("a", sandbox.StateRunning)
	e.report("a", sandbox.StateTerminated)
	full("one has exited, and its container is still there")
	e.gone("a", sandbox.ReasonDeleted)
	full("one is Gone")
	e.clean("a")
	e.ok(e.placeOn("c", c, sandbox.Resources{}))
}

func testExitFrees(e *env) {
	e.register("n")
	c := bounded("n")
	c.PortMax = c.PortMin + 1
	for _, id := range []sandbox.ID{"a", "b", "c"} {
		e.insert(id)
	}
	all := sandbox.Resources{CPU: 2000, Memory: 2 << 30}
	e.ok(e.placeOn("a", c, all))
	e.report("a", sandbox.StateRunning)
	e.refused("all taken", e.placeOn("b", c, all), fault.Unavailable, sandbox.ReasonNoCapacity)
	port := e.get("a").Placement.Ports[8080]
	r := e.report("a", sandbox.StateFailed)
	if r.FailedCreate() || r.HoldsReservation() || r.Placement.Ports[8080] != port {
		e.Errorf("after the exit: %+v", r.Placement)
	}
	e.report("a", sandbox.StateFailed)
	e.ok(e.placeOn("b", c, all))
	err := e.placeOn("c", c, sandbox.Resources{})
	e.refused("no port is left", err, fault.Unavailable, sandbox.ReasonNoCapacity)
	if !strings.Contains(fault.TextOf(err), "port") {
		e.Errorf("text %q", fault.TextOf(err))
	}
	e.gone("a", sandbox.ReasonDeleted)
	e.clean("a")
	e.ok(e.placeOn("c", c, sandbox.Resources{}))
}

func testFailedFrees(e *env) {
	e.register("n")
	e.insert("a")
	e.insert("b")
	all := sandbox.Resources{CPU: 2000, Memory: 2 << 30}
	e.ok(e.placeOn("a", bounded("n"), all))
	if r := e.report("a", sandbox.StateFailed); r.HoldsReservation() {
		e.Error("a failed create holds a reservation")
	}
	e.ok(e.placeOn("b", bounded("n"), all))
}

func testHugeAmounts(e *env) {
	e.register("n")
	unbounded := candidate("n")
	huge := sandbox.Resources{CPU: 1 << 62, Memory: 1<<63 - 1}
	for _, id := range []sandbox.ID{"a", "b", "c"} {
		e.insert(id)
		e.ok(e.placeOn(id, unbounded, huge))
	}
	e.insert("d")
	e.refused("after a sum beyond the range", e.placeOn("d", bounded("n"), sandbox.Resources{CPU: 1, Memory: 1}), fault.Unavailable, sandbox.ReasonNoCapacity)
}

func testFailedPlace(e *env) {
	e.register("n")
	c := bounded("n")
	e.insert("a")
	for range 10 {
		_, err := e.Place(e.ctx(), sandbox.PlaceRequest{
			ID: "a", Candidates: []sandbox.Candidate{c}, Ports: []int{1, 2, 3, 4, 5}, Reserve: sandbox.Resources{CPU: 1500},
		})
		e.refused("five of four ports", err, fault.Unavailable, sandbox.ReasonNoCapacity)
	}
	_, err := e.Place(e.ctx(), sandbox.PlaceRequest{
		ID: "a", Candidates: []sandbox.Candidate{c}, Ports: []int{1, 2, 3, 4}, Reserve: sandbox.Resources{CPU: 2000},
	})
	e.ok(err)
}
