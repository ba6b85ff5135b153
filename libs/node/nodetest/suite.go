// Package nodetest is the conformance suite of the port node.Registry. It is imported by tests of stores only.
package nodetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// TestRegistry runs the suite. open returns a new, empty registry that uses the clock; it registers its own cleaning up.
func TestRegistry(t *testing.T, open func(t *testing.T, clock func() time.Time) node.Registry) {
	for _, tc := range []struct {
		name string
		run  func(e *env)
	}{
		{"RegisterAndList", testRegister},
		{"SessionsOnlyRise", testSessions},
		{"NameIsTaken", testNameTaken},
		{"EngineIsTaken", testEngineTaken},
		{"EngineGoesOver", testEngineGoesOver},
		{"LeaseRunsOut", testLease},
		{"RenewGuards", testRenewGuards},
		{"Release", testRelease},
		{"Drain", testDrain},
		{"Images", testImages},
		{"Remove", testRemove},
		{"ConcurrentRegistrations", testConcurrent},
		{"CancelledContext", testCancelled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &env{T: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
			e.Registry = open(t, e.clock)
			tc.run(e)
		})
	}
}

type env struct {
	*testing.T
	node.Registry
	mu  sync.Mutex
	now time.Time
}

func (e *env) ctx() context.Context { return e.T.Context() }

func (e *env) clock() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.now
}

func (e *env) advance(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = e.now.Add(d)
}

func of(name, engine string) node.Registration {
	return node.Registration{
		Name: name, EngineID: engine, Capacity: sandbox.Resources{CPU: 4000, Memory: 8 << 30}, MaxSandboxes: 10,
		PortMin: 40000, PortMax: 40099, Host: "10.0.0.1", Address: "10.0.0.1:8090", Platform: "linux/amd64",
		Runtimes: []string{"runc", "runsc"}, Labels: map[string]string{"zone": "a"},
	}
}

func takeOver(r node.Registration) node.Registration {
	r.TakeOver = true
	return r
}

func (e *env) register(r node.Registration) node.Node {
	e.Helper()
	n, err := e.Register(e.ctx(), r)
	if err != nil {
		e.Fatalf("register %s: %v", r.Name, err)
	}
	return n
}

func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("unexpected error: %v", err)
	}
}

func (e *env) taken(what string, r node.Registration) {
	e.Helper()
	if n, err := e.Register(e.ctx(), r); !fault.Is(err, fault.Conflict) || fault.CodeOf(err) != node.CodeTaken {
		e.Errorf("%s: %+v, %v; want %s", what, n, err, node.CodeTaken)
	}
}

// node returns what the list says about one node.
func (e *env) node(name string) node.Node {
	e.Helper()
	nodes, err := e.Nodes(e.ctx())
	e.ok(err)
	for _, n := range nodes {
		if n.Name == name {
			return n
		}
	}
	e.Fatalf("node %q is not in %+v", name, nodes)
	return node.Node{}
}

func testRegister(e *env) {
	nodes, err := e.Nodes(e.ctx())
	e.ok(err)
	if len(nodes) != 0 {
		e.Errorf("an empty registry has %v", nodes)
	}
	got := e.register(of("b", "engine-b"))
	want := node.Node{
		Name: "b", EngineID: "engine-b", Session: got.Session, LeaseUntil: e.clock().Add(node.LeaseTime),
		Capacity: sandbox.Resources{CPU: 4000, Memory: 8 << 30}, MaxSandboxes: 10, PortMin: 40000, PortMax: 40099, Host: "10.0.0.1",
		Address: "10.0.0.1:8090", Platform: "linux/amd64", Runtimes: []string{"runc", "runsc"}, Labels: map[string]string{"zone": "a"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		e.Errorf("answer (-want +got):\n%s", diff)
	}
	if got.Session == 0 {
		e.Error("session 0")
	}
	a := e.register(of("a", "engine-a"))
	nodes, err = e.Nodes(e.ctx())
	e.ok(err)
	if diff := cmp.Diff([]node.Node{a, got}, nodes); diff != "" {
		e.Errorf("list (-want +got):\n%s", diff)
	}
}

func testSessions(e *env) {
	last := e.register(of("a", "engine")).Session
	for i := range 5 {
		if i%2 == 0 {
			e.advance(node.LeaseTime)
		} else {
			e.ok(e.Release(e.ctx(), "a", last))
		}
		r := of("a", "engine")
		r.MaxSandboxes = i
		n := e.register(r)
		if n.Session <= last {
			e.Errorf("session %d after %d", n.Session, last)
		}
		if got := e.node("a"); got.MaxSandboxes != i {
			e.Errorf("the registration did not replace the one before: %+v", got)
		}
		last = n.Session
	}
}

func testNameTaken(e *env) {
	first := e.register(of("a", "engine"))
	e.taken("same engine", of("a", "engine"))
	e.taken("other engine", of("a", "other"))
	if diff := cmp.Diff(first, e.node("a")); diff != "" {
		e.Errorf("a refused registration left something (-want +got):\n%s", diff)
	}
	second := e.register(takeOver(of("a", "engine")))
	if second.Session <= first.Session {
		e.Errorf("session %d after %d", second.Session, first.Session)
	}
	if err := e.RenewLease(e.ctx(), "a", first.Session); !sandbox.IsStale(err) {
		e.Errorf("renewal of the session before: %v", err)
	}
}

func testEngineTaken(e *env) {
	e.register(of("a", "engine"))
	e.taken("another name", of("b", "engine"))
	e.taken("another name, taking over", takeOver(of("b", "engine")))
	e.register(of("b", "other"))
	e.taken("taking over its name with the engine of another", takeOver(of("b", "engine")))
	if got := e.node("b"); got.EngineID != "other" {
		e.Errorf("node b: %+v", got)
	}
}

func testEngineGoesOver(e *env) {
	a := e.register(of("a", "engine"))
	e.advance(node.LeaseTime)
	e.register(of("b", "engine"))
	// The agent of a was only slow: it must not come back to an engine that b drives now.
	if err := e.RenewLease(e.ctx(), "a", a.Session); !sandbox.IsStale(err) {
		e.Errorf("renewal by the node that lost its engine: %v", err)
	}
	if n := e.node("a"); n.Live(e.clock()) {
		e.Errorf("two live nodes for one engine: %+v", n)
	}
	e.taken("the engine back while b lives", of("a", "engine"))
	e.advance(node.LeaseTime)
	if n := e.register(of("a", "engine")); n.Session <= a.Session {
		e.Errorf("session %d after %d", n.Session, a.Session)
	}
}

func testLease(e *env) {
	n := e.register(of("a", "engine"))
	live := func(want bool) {
		e.Helper()
		n := e.node("a")
		if n.Live(e.clock()) != want {
			e.Errorf("live %v; want %v", !want, want)
		}
	}
	live(true)
	e.advance(node.LeaseTime - time.Microsecond)
	live(true)
	e.ok(e.RenewLease(e.ctx(), "a", n.Session))
	e.advance(node.LeaseTime - time.Microsecond)
	live(true)
	e.advance(time.Microsecond)
	live(false)
	// An agent that was cut off and comes back has the same session, and nothing has happened.
	e.ok(e.RenewLease(e.ctx(), "a", n.Session))
	live(true)
	if got := e.node("a"); got.Session != n.Session {
		e.Errorf("session %d; want %d", got.Session, n.Session)
	}
}

func testRenewGuards(e *env) {
	n := e.register(of("a", "engine"))
	e.advance(time.Second)
	for _, s := range []uint64{0, n.Session - 1, n.Session + 1} {
		if err := e.RenewLease(e.ctx(), "a", s); !sandbox.IsStale(err) {
			e.Errorf("session %d: %v", s, err)
		}
	}
	if got := e.node("a"); !got.LeaseUntil.Equal(n.LeaseUntil) {
		e.Errorf("a refused renewal moved the lease to %s", got.LeaseUntil)
	}
	if err := e.RenewLease(e.ctx(), "x", 1); !fault.Is(err, fault.NotFound) {
		e.Errorf("unknown node: %v", err)
	}
}

func testRelease(e *env) {
	n := e.register(of("a", "engine"))
	e.ok(e.Release(e.ctx(), "a", n.Session+1))
	if got := e.node("a"); !got.Live(e.clock()) {
		e.Error("another session released the lease")
	}
	e.ok(e.Release(e.ctx(), "a", n.Session))
	if got := e.node("a"); got.Live(e.clock()) {
		e.Error("live after the release")
	}
	e.ok(e.Release(e.ctx(), "a", n.Session))
	e.ok(e.Release(e.ctx(), "x", 1))
	e.register(of("b", "engine"))
}

func testDrain(e *env) {
	n := e.register(of("a", "engine"))
	e.ok(e.SetDraining(e.ctx(), "a", true))
	if !e.node("a").Draining {
		e.Error("not draining")
	}
	e.ok(e.SetDraining(e.ctx(), "a", true))
	e.ok(e.RenewLease(e.ctx(), "a", n.Session))
	if again := e.register(takeOver(of("a", "engine"))); !again.Draining || !e.node("a").Draining {
		e.Error("a restart of the agent ended the draining")
	}
	e.ok(e.SetDraining(e.ctx(), "a", false))
	if e.node("a").Draining {
		e.Error("still draining")
	}
	if err := e.SetDraining(e.ctx(), "x", true); !fault.Is(err, fault.NotFound) {
		e.Errorf("unknown node: %v", err)
	}
}

func testImages(e *env) {
	n := e.register(of("a", "engine"))
	e.ok(e.SetImages(e.ctx(), "a", n.Session, []string{"b:1", "a:1", "b:1"}))
	if diff := cmp.Diff([]string{"a:1", "b:1"}, e.node("a").Images); diff != "" {
		e.Errorf("images (-want +got):\n%s", diff)
	}
	for _, s := range []uint64{n.Session - 1, n.Session + 1} {
		if err := e.SetImages(e.ctx(), "a", s, []string{"c"}); !sandbox.IsStale(err) {
			e.Errorf("session %d: %v", s, err)
		}
	}
	if err := e.SetImages(e.ctx(), "x", 1, nil); !sandbox.IsStale(err) {
		e.Errorf("unknown node: %v", err)
	}
	e.ok(e.RenewLease(e.ctx(), "a", n.Session))
	if got := e.node("a"); len(got.Images) != 2 {
		e.Errorf("after a renewal: %v", got.Images)
	}
	many := make([]string, 2*node.MaxImages)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	e.ok(e.SetImages(e.ctx(), "a", n.Session, many))
	if got := e.node("a"); len(got.Images) != node.MaxImages {
		e.Errorf("%d images are kept", len(got.Images))
	}
}

func testRemove(e *env) {
	n := e.register(of("a", "engine"))
	for what, try := range map[string]func() error{
		"remove": func() error { return e.Remove(e.ctx(), "x") },
		"forget": func() error { return e.Forget(e.ctx(), "x") },
	} {
		if err := try(); !fault.Is(err, fault.NotFound) {
			e.Errorf("%s an unknown node: %v", what, err)
		}
	}
	if err := e.Forget(e.ctx(), "a"); !sandbox.IsStale(err) {
		e.Errorf("forget a node that is not removed: %v", err)
	}
	e.ok(e.Remove(e.ctx(), "a"))
	e.ok(e.Remove(e.ctx(), "a"))
	got := e.node("a")
	if !got.Removed || got.Live(e.clock()) || !got.Lost(e.clock()) {
		e.Errorf("removed: %+v", got)
	}
	if err := e.RenewLease(e.ctx(), "a", n.Session); !sandbox.IsStale(err) {
		e.Errorf("renewal by the removed node's agent: %v", err)
	}
	e.register(of("b", "engine"))
	e.ok(e.Forget(e.ctx(), "a"))
	nodes, err := e.Nodes(e.ctx())
	e.ok(err)
	if len(nodes) != 1 || nodes[0].Name != "b" {
		e.Errorf("nodes %+v", nodes)
	}
	if again := e.register(of("a", "other")); again.Removed || again.Session <= n.Session {
		e.Errorf("registered again: %+v after session %d", again, n.Session)
	}
}

func testConcurrent(e *env) {
	const n = 8
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { _, errs[i] = e.Register(e.ctx(), of(fmt.Sprint(i), "engine")) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if fault.CodeOf(err) != node.CodeTaken {
			e.Errorf("unexpected error: %v", err)
		}
	}
	if won != 1 {
		e.Errorf("%d agents got one engine", won)
	}
	sessions := make([]uint64, n)
	for i := range n {
		wg.Go(func() {
			got, err := e.Register(e.ctx(), takeOver(of("shared", "engine-shared")))
			if err != nil {
				e.Errorf("take over: %v", err)
			}
			sessions[i] = got.Session
		})
	}
	wg.Wait()
	seen := map[uint64]bool{}
	for _, s := range sessions {
		if seen[s] {
			e.Errorf("session %d was given twice", s)
		}
		seen[s] = true
	}
}

func testCancelled(e *env) {
	ctx, cancel := context.WithCancel(e.ctx())
	cancel()
	if _, err := e.Register(ctx, of("a", "engine")); !errors.Is(err, context.Canceled) {
		e.Errorf("register: %v", err)
	}
	if _, err := e.Nodes(ctx); !errors.Is(err, context.Canceled) {
		e.Errorf("nodes: %v", err)
	}
}
