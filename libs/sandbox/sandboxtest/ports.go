package sandboxtest

import (
	"fmt"
	"sync"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

var portTests = []test{
	{"LeasesAreUniqueUnderConcurrentPlacement", testUniquePorts},
	{"SameNumbersOnOtherNodes", testPortsPerNode},
	{"SwapReplacesTheLease", testSwap},
	{"SwapGuards", testSwapGuards},
	{"SwapWithoutAFreePort", testSwapNoneFree},
	{"QuarantineEnds", testQuarantine},
}

func testUniquePorts(e *env) {
	e.register("n")
	const n = 24
	for i := range n {
		e.insert(sandbox.ID(fmt.Sprintf("s%02d", i)))
	}
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() {
			_, errs[i] = e.Place(e.ctx(), sandbox.PlaceRequest{
				ID: sandbox.ID(fmt.Sprintf("s%02d", i)), Candidates: []sandbox.Candidate{candidate("n")}, Ports: []int{1, 2},
			})
		})
	}
	wg.Wait()
	seen := map[int]sandbox.ID{}
	for i := range n {
		e.ok(errs[i])
		r := e.get(sandbox.ID(fmt.Sprintf("s%02d", i)))
		for _, port := range r.Placement.Ports {
			if other, taken := seen[port]; taken {
				e.Errorf("port %d is leased to %s and %s", port, other, r.ID)
			}
			seen[port] = r.ID
		}
	}
	if len(seen) != 2*n {
		e.Errorf("%d ports are leased; want %d", len(seen), 2*n)
	}
}

func testPortsPerNode(e *env) {
	for _, name := range []string{"n", "m"} {
		e.register(name)
		c := candidate(name)
		c.PortMax = c.PortMin
		id := sandbox.ID("on-" + name)
		e.insert(id)
		e.ok(e.placeOn(id, c, sandbox.Resources{}))
		if got := e.get(id).Placement.Ports[8080]; got != portMin {
			e.Errorf("port %d", got)
		}
	}
}

// swapOf asks for another port in place of the lease of container port 8080.
func (e *env) swapOf(r sandbox.Record) sandbox.PortSwap {
	e.Helper()
	return sandbox.PortSwap{
		ID: r.ID, Node: r.Placement.Node, Epoch: r.Placement.Epoch, Session: e.session(r.Placement.Node),
		ContainerPort: 8080, Taken: r.Placement.Ports[8080], PortMin: portMin, PortMax: portMax,
	}
}

func testSwap(e *env) {
	e.register("n")
	e.insert("a")
	before := e.place("a", "n")
	got, err := e.SwapPort(e.ctx(), e.swapOf(before))
	e.ok(err)
	p := got.Placement.Ports
	if p[8080] == before.Placement.Ports[8080] || p[8080] == p[44772] || p[44772] != before.Placement.Ports[44772] {
		e.Errorf("ports %v after %v", p, before.Placement.Ports)
	}
	if p[8080] < portMin || p[8080] > portMax {
		e.Errorf("port %d is out of range", p[8080])
	}
	if got.Version != before.Version+1 || got.Placement.Epoch != before.Placement.Epoch {
		e.Errorf("version %d, epoch %d", got.Version, got.Placement.Epoch)
	}
	e.unchanged(got)
}

func testSwapGuards(e *env) {
	e.register("n")
	e.register("m")
	e.insert("a")
	r := e.place("a", "n")
	for what, change := range map[string]func(p *sandbox.PortSwap){
		"other session":        func(p *sandbox.PortSwap) { p.Session++ },
		"other epoch":          func(p *sandbox.PortSwap) { p.Epoch++ },
		"other node":           func(p *sandbox.PortSwap) { p.Node, p.Session = "m", e.session("m") },
		"unknown node":         func(p *sandbox.PortSwap) { p.Node = "x" },
		"other lease":          func(p *sandbox.PortSwap) { p.Taken++ },
		"other container port": func(p *sandbox.PortSwap) { p.ContainerPort++ },
	} {
		p := e.swapOf(r)
		change(&p)
		_, err := e.SwapPort(e.ctx(), p)
		e.stale(what, err)
	}
	e.unchanged(r)
	r = e.report("a", sandbox.StateRunning)
	_, err := e.SwapPort(e.ctx(), e.swapOf(r))
	e.stale("after the start", err)
	e.unchanged(r)
}

func testSwapNoneFree(e *env) {
	e.register("n")
	e.insert("a")
	r := e.place("a", "n")
	p := e.swapOf(r)
	p.PortMin, p.PortMax = p.Taken, p.Taken
	_, err := e.SwapPort(e.ctx(), p)
	e.refused("none free", err, fault.Unavailable, sandbox.ReasonNoCapacity)
	e.unchanged(r)
}

func testQuarantine(e *env) {
	e.register("n")
	two := candidate("n")
	two.PortMax = two.PortMin + 1
	e.insert("a")
	e.ok(e.placeOn("a", two, sandbox.Resources{}))
	p := e.swapOf(e.get("a"))
	p.PortMax = p.PortMin + 1
	_, err := e.SwapPort(e.ctx(), p)
	e.ok(err)
	e.gone("a", sandbox.ReasonDeleted)
	e.clean("a")

	// One port of two is free now, the other is in quarantine.
	e.insert("b")
	e.insert("c")
	e.ok(e.placeOn("b", two, sandbox.Resources{}))
	if got := e.get("b").Placement.Ports[8080]; got == p.Taken {
		e.Errorf("port %d was leased in its quarantine", got)
	}
	refused := func() {
		e.Helper()
		// The lease of the node would run out meanwhile.
		e.ok(e.RenewLease(e.ctx(), "n", e.session("n")))
		e.refused("in quarantine", e.placeOn("c", two, sandbox.Resources{}), fault.Unavailable, sandbox.ReasonNoCapacity)
	}
	refused()
	e.clock.Advance(sandbox.PortQuarantine - time.Microsecond)
	refused()
	e.clock.Advance(time.Microsecond)
	e.ok(e.placeOn("c", two, sandbox.Resources{}))
	if got := e.get("c").Placement.Ports[8080]; got != p.Taken {
		e.Errorf("port %d; want %d", got, p.Taken)
	}
}
