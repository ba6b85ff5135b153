// Package sandboxtest is the conformance suite of the ports of package sandbox: what every store has to do, sentence by sentence
// of the comments on the ports. It is imported by tests of stores only.
package sandboxtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Store is what the suite tests: records and nodes in one store, because placement and reports depend on both.
type Store interface {
	sandbox.Store
	node.Registry
}

// Clock is a clock that stands still until it is told to move. It may be used concurrently.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that shows a fixed time.
func NewClock() *Clock {
	return &Clock{now: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)}
}

// Now returns what the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// test is one named part of the suite.
type test struct {
	name string
	run  func(e *env)
}

// TestStore runs the suite. open returns a new, empty store that uses the clock; it registers its own cleaning up.
func TestStore(t *testing.T, open func(t *testing.T, clock func() time.Time) Store) {
	groups := []struct {
		name  string
		tests []test
	}{
		{"Intents", intentTests}, {"Renew", renewTests}, {"Metadata", metadataTests}, {"Placement", placementTests}, {"Ports", portTests},
		{"Capacity", capacityTests}, {"Deadlines", deadlineTests}, {"Attention", attentionTests}, {"Purge", purgeTests},
		{"Work", workTests}, {"Reports", reportTests}, {"Cleaned", cleanedTests}, {"Mirror", mirrorTests}, {"Queries", queryTests},
		{"List", listTests}, {"Hints", hintTests}, {"Concurrency", concurrencyTests}, {"Keys", keyTests}, {"Losses", lossTests},
		{"Origin", originTests}, {"Usage", usageTests}, {"Counts", countTests}, {"Secrets", secretTests},
		{"Recovery", recoveryTests}, {"Sightings", sightingTests},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, tc := range g.tests {
				t.Run(tc.name, func(t *testing.T) {
					clock := NewClock()
					tc.run(&env{T: t, Store: open(t, clock.Now), clock: clock})
				})
			}
		})
	}
}

// env is one test with its store. Its helpers stop the test when a step that is not under test fails.
type env struct {
	*testing.T
	Store
	clock *Clock
}

// ctx is the context of the test.
func (e *env) ctx() context.Context { return e.T.Context() }

const (
	tenant  = "team-a"
	portMin = 40000
	portMax = 40063
	wait    = 10 * time.Second
)

// insert adds a record with a life time of an hour.
func (e *env) insert(id sandbox.ID, change ...func(n *sandbox.New)) sandbox.Record {
	e.Helper()
	n := sandbox.New{ID: id, Tenant: tenant, Accepted: true, Spec: Spec(time.Hour)}
	for _, f := range change {
		f(&n)
	}
	r, err := e.Insert(e.ctx(), n)
	e.ok(err)
	return r
}

// Spec returns a specification with all fields set.
func Spec(timeout time.Duration) sandbox.Spec {
	return sandbox.Spec{
		Image: "python:3.12", Entrypoint: []string{"sleep", "infinity"}, Env: map[string]string{"A": "1"},
		Limits: sandbox.Resources{CPU: 500, Memory: 512 << 20}, Requests: sandbox.Resources{CPU: 250, Memory: 256 << 20},
		Extensions: map[string]string{"k": "v"}, Timeout: timeout,
	}
}

func unaccepted(n *sandbox.New) { n.Accepted = false }

func noTimeout(n *sandbox.New) { n.Spec.Timeout = 0 }

func withTimeout(d time.Duration) func(n *sandbox.New) {
	return func(n *sandbox.New) { n.Spec.Timeout = d }
}

func withMetadata(kv ...string) func(n *sandbox.New) {
	return func(n *sandbox.New) {
		n.Metadata = map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			n.Metadata[kv[i]] = kv[i+1]
		}
	}
}

// register makes a node with its own engine.
func (e *env) register(name string) node.Node {
	e.Helper()
	n, err := e.Register(e.ctx(), node.Registration{Name: name, EngineID: "engine-" + name, PortMin: portMin, PortMax: portMax})
	e.ok(err)
	return n
}

// candidate is a node without bounds.
func candidate(name string) sandbox.Candidate {
	return sandbox.Candidate{Node: name, PortMin: portMin, PortMax: portMax}
}

// place puts a record on a node with two ports.
func (e *env) place(id sandbox.ID, name string) sandbox.Record {
	e.Helper()
	r, err := e.Place(e.ctx(), sandbox.PlaceRequest{
		ID: id, Candidates: []sandbox.Candidate{candidate(name)}, Ports: []int{44772, 8080},
		Reserve: sandbox.Resources{CPU: 250, Memory: 256 << 20},
	})
	e.ok(err)
	return r
}

// reportOf is a report about the present placement and generation.
func (e *env) reportOf(r sandbox.Record, st sandbox.State) sandbox.Report {
	e.Helper()
	return sandbox.Report{
		ID: r.ID, Node: r.Placement.Node, Epoch: r.Placement.Epoch, Session: e.session(r.Placement.Node),
		Generation: r.Intent.Generation, State: st, RetainFor: time.Hour,
	}
}

func (e *env) session(name string) uint64 {
	e.Helper()
	nodes, err := e.Nodes(e.ctx())
	e.ok(err)
	for _, n := range nodes {
		if n.Name == name {
			return n.Session
		}
	}
	e.Fatalf("no node %q", name)
	return 0
}

// report reports a state for the present placement and generation.
func (e *env) report(id sandbox.ID, st sandbox.State) sandbox.Record {
	e.Helper()
	r, err := e.Report(e.ctx(), e.reportOf(e.get(id), st))
	e.ok(err)
	return r
}

// running inserts a record, places it on a node that exists and reports it Running.
func (e *env) running(id sandbox.ID, name string, change ...func(n *sandbox.New)) sandbox.Record {
	e.Helper()
	e.insert(id, change...)
	e.place(id, name)
	return e.report(id, sandbox.StateRunning)
}

// failed inserts a record, places it on a node that exists and reports that the create failed.
func (e *env) failed(id sandbox.ID, name string, change ...func(n *sandbox.New)) sandbox.Record {
	e.Helper()
	e.insert(id, change...)
	e.place(id, name)
	return e.report(id, sandbox.StateFailed)
}

// cleanedOf says that nothing is left of the present placement.
func (e *env) cleanedOf(r sandbox.Record) sandbox.Cleaned {
	e.Helper()
	return sandbox.Cleaned{ID: r.ID, Node: r.Placement.Node, Epoch: r.Placement.Epoch, Session: e.session(r.Placement.Node)}
}

func (e *env) clean(id sandbox.ID) {
	e.Helper()
	e.ok(e.Cleaned(e.ctx(), e.cleanedOf(e.get(id))))
}

func (e *env) gone(id sandbox.ID, reason string) sandbox.Record {
	e.Helper()
	r, err := e.SetGone(e.ctx(), id, reason)
	e.ok(err)
	return r
}

func (e *env) get(id sandbox.ID) sandbox.Record {
	e.Helper()
	r, err := e.Get(e.ctx(), id)
	e.ok(err)
	return r
}

func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatalf("unexpected error: %v", err)
	}
}

// equal compares; empty and nil maps and slices count as equal.
func (e *env) equal(what string, got, want any) {
	e.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		e.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// unchanged checks that a record is exactly as it was.
func (e *env) unchanged(want sandbox.Record) {
	e.Helper()
	e.equal("record "+string(want.ID), e.get(want.ID), want)
}

// refused checks kind and code of an error; an empty code is not compared.
func (e *env) refused(what string, err error, kind fault.Kind, code string) {
	e.Helper()
	if !fault.Is(err, kind) || (code != "" && fault.CodeOf(err) != code) {
		e.Errorf("%s: got error %v (%s, code %q); want %s, code %q", what, err, fault.KindOf(err), fault.CodeOf(err), kind, code)
	}
}

func (e *env) stale(what string, err error) {
	e.Helper()
	e.refused(what, err, fault.Conflict, sandbox.CodeStale)
}

func (e *env) stopping(what string, err error) {
	e.Helper()
	e.refused(what, err, fault.Conflict, sandbox.CodeStopping)
}

func (e *env) notFound(what string, err error) {
	e.Helper()
	e.refused(what, err, fault.NotFound, sandbox.CodeNotFound)
}

// ids returns the ids of records, in their order.
func ids(records []sandbox.Record) []sandbox.ID {
	out := make([]sandbox.ID, 0, len(records))
	for _, r := range records {
		out = append(out, r.ID)
	}
	return out
}

// ptr returns a pointer to v, for patches.
func ptr[T any](v T) *T { return &v }
