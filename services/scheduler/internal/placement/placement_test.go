package placement_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/scheduler/internal/placement"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type rig struct {
	t     *testing.T
	now   time.Time
	store *memstore.Store
	place *placement.Placer
	told  *told
	watch *stub
}

// stub says what it is told to say of every record.
type stub struct{ before, going bool }

func (s *stub) Guard(ctx context.Context) context.Context  { return ctx }
func (s *stub) Waits(*sandbox.Record) (before, going bool) { return s.before, s.going }

func newRig(t *testing.T, cfg placement.Config) *rig {
	r := &rig{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), told: &told{outcomes: map[string]int{}}, watch: &stub{}}
	r.store = memstore.New(memstore.WithClock(func() time.Time { return r.now }))
	r.place = placement.New(cfg, r.deps(r.store))
	return r
}

func (r *rig) deps(s placement.Store) placement.Deps {
	return placement.Deps{
		Store: s, Random: rand.New(rand.NewPCG(1, 2)), Trace: r.told.begin, Metrics: r.told, Recovery: r.watch, Log: slog.New(slog.DiscardHandler),
	}
}

// told is what a placer has told of itself. It may be used concurrently.
type told struct {
	mu       sync.Mutex
	outcomes map[string]int
	depth    int
	oldest   time.Time
	// spans are the traces of those that were begun, ended is how many have ended.
	spans []string
	ended int
}

func (o *told) Repaired(kind string) { o.Placement(kind) }

func (o *told) Placement(outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.outcomes[outcome]++
}

func (o *told) Queue(depth int, oldest time.Time) { o.depth, o.oldest = depth, oldest }

func (o *told) begin(ctx context.Context, parent, name string) (context.Context, func(error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.spans = append(o.spans, name+" of "+parent+" for "+sandbox.OriginOf(ctx).Request)
	return ctx, func(error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.ended++
	}
}

func (r *rig) node(name string, change func(*node.Registration)) {
	r.t.Helper()
	reg := node.Registration{Name: name, EngineID: name, PortMin: 1000, PortMax: 2000}
	if change != nil {
		change(&reg)
	}
	if _, err := r.store.Register(r.t.Context(), reg); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) insert(id sandbox.ID, requests sandbox.Resources) {
	r.t.Helper()
	r.insertSpec(id, sandbox.Spec{Image: "i", Requests: requests})
}

func (r *rig) insertSpec(id sandbox.ID, spec sandbox.Spec) {
	r.t.Helper()
	spec.Entrypoint = []string{"e"}
	if _, err := r.store.Insert(sandbox.WithOrigin(r.t.Context(), sandbox.Origin{Trace: "trace-" + string(id), Request: "request-" + string(id)}), sandbox.New{ID: id, Spec: spec}); err != nil {
		r.t.Fatal(err)
	}
}

// images says what a node has.
func (r *rig) images(name string, refs ...string) {
	r.t.Helper()
	nodes, err := r.store.Nodes(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Name != name {
			continue
		}
		if err := r.store.SetImages(r.t.Context(), name, n.Session, refs); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) step() time.Time {
	r.t.Helper()
	wake, err := r.place.Step(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return wake
}

func (r *rig) get(id sandbox.ID) sandbox.Record {
	r.t.Helper()
	rec, err := r.store.Get(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return rec
}

func TestPlacesOnLiveNodes(t *testing.T) {
	t.Parallel()
	r := newRig(t, placement.Config{Ports: []int{44772, 8080}, DefaultRequest: sandbox.Resources{CPU: 100}})
	r.node("dead", nil)
	r.now = r.now.Add(2 * node.LeaseTime)
	r.node("live", nil)
	r.node("draining", nil)
	if err := r.store.SetDraining(t.Context(), "draining", true); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		r.insert(sandbox.ID(fmt.Sprint(i)), sandbox.Resources{})
	}
	if wake := r.step(); !wake.IsZero() {
		t.Errorf("wake at %v although all were placed", wake)
	}
	for i := range 10 {
		p := r.get(sandbox.ID(fmt.Sprint(i))).Placement
		if p.Node != "live" || p.Epoch != 1 || len(p.Ports) != 2 || p.Reserved.CPU != 100 {
			t.Errorf("placement %+v", p)
		}
	}
}

func TestSpreadsOverNodes(t *testing.T) {
	t.Parallel()
	r := newRig(t, placement.Config{})
	r.node("a", nil)
	r.node("b", nil)
	on := map[string]int{}
	for i := range 40 {
		id := sandbox.ID(fmt.Sprint(i))
		r.insert(id, sandbox.Resources{})
		r.step()
		on[r.get(id).Placement.Node]++
	}
	if on["a"] < 5 || on["b"] < 5 {
		t.Errorf("placed %v", on)
	}
}

func TestNoRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t, placement.Config{Wait: time.Second, RetainFailed: time.Hour})
	r.node("a", func(n *node.Registration) { n.Capacity.Memory = 100 })
	r.insert("fits", sandbox.Resources{Memory: 60})
	r.insert("late", sandbox.Resources{Memory: 60})
	if wake := r.step(); wake.IsZero() || wake.After(r.now.Add(time.Second)) {
		t.Errorf("wake at %v, want soon", wake)
	}
	if rec := r.get("late"); !rec.Unplaced() {
		t.Errorf("given up at once: %+v", rec.Observed)
	}
	r.now = r.now.Add(2 * time.Second)
	r.step()
	rec := r.get("late")
	if !rec.FailedCreate() || rec.Observed.Reason != sandbox.ReasonNoCapacity || rec.Observed.Message == "" {
		t.Errorf("observed %+v, want a failed create that says what was short", rec.Observed)
	}
}

func TestRoomThatBecomesFreeIsUsed(t *testing.T) {
	t.Parallel()
	r := newRig(t, placement.Config{Wait: time.Minute})
	r.node("a", func(n *node.Registration) { n.MaxSandboxes = 1 })
	r.insert("one", sandbox.Resources{})
	r.insert("two", sandbox.Resources{})
	r.step()
	nodes, err := r.store.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.SetGone(t.Context(), "one", sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	if err := r.store.Cleaned(t.Context(), sandbox.Cleaned{ID: "one", Node: "a", Epoch: 1, Session: nodes[0].Session}); err != nil {
		t.Fatal(err)
	}
	r.step()
	if rec := r.get("two"); rec.Placement.Node != "a" {
		t.Errorf("not placed: %+v", rec.Placement)
	}
}

func TestMetricsAndTraces(t *testing.T) {
	t.Parallel()
	r := newRig(t, placement.Config{Wait: time.Second})
	r.node("a", func(n *node.Registration) { n.MaxSandboxes = 1 })
	first := r.now
	for _, id := range []sandbox.ID{"placed", "waits", "fails"} {
		r.insert(id, sandbox.Resources{})
		r.now = r.now.Add(time.Millisecond)
	}
	r.step()
	if r.told.depth != 3 || !r.told.oldest.Equal(first) {
		t.Errorf("queue of %d since %v", r.told.depth, r.told.oldest)
	}
	r.step()
	r.step() // those that wait are not traced each time
	if _, err := r.store.SetGone(t.Context(), "waits", sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(2 * time.Second)
	r.step()
	r.step()
	if r.told.depth != 0 || !r.told.oldest.IsZero() {
		t.Errorf("an empty queue is told as %d since %v", r.told.depth, r.told.oldest)
	}
	name := func(id string) string { return "scheduler place of trace-" + id + " for request-" + id }
	if diff := cmp.Diff([]string{name("placed"), name("waits"), name("fails"), name("fails")}, r.told.spans); diff != "" || r.told.ended != len(r.told.spans) {
		t.Errorf("%d ended, spans (-want +got):\n%s", r.told.ended, diff)
	}
	want := map[string]int{placement.OutcomePlaced: 1, placement.OutcomeWaits: 6, placement.OutcomeFailed: 1}
	if diff := cmp.Diff(want, r.told.outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

func TestParallel(t *testing.T) {
	t.Parallel()
	r := newRig(t, placement.Config{Parallel: 8, Ports: []int{1, 2}})
	for i := range 10 {
		r.node(fmt.Sprint("n", i), func(n *node.Registration) { n.MaxSandboxes = 8 })
	}
	for i := range 90 {
		r.insert(sandbox.ID(fmt.Sprint(i)), sandbox.Resources{CPU: 10})
	}
	r.step()
	if diff := cmp.Diff(map[string]int{placement.OutcomePlaced: 80, placement.OutcomeFailed: 10}, r.told.outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}

// TestWaitersDoNotBlock has more sandboxes at the head of the queue that find no room than one batch takes.
func TestWaitersDoNotBlock(t *testing.T) {
	t.Parallel()
	r := newRig(t, placement.Config{Wait: time.Hour})
	r.node("a", func(n *node.Registration) { n.Capacity.CPU = 100 })
	for i := range 250 {
		r.insert(sandbox.ID(fmt.Sprint("big-", i)), sandbox.Resources{CPU: 1000})
	}
	r.now = r.now.Add(time.Second)
	r.insert("small", sandbox.Resources{CPU: 1})
	for i := range 4 {
		if wake := r.step(); wake.IsZero() {
			t.Fatal("those that wait are not tried again")
		}
		if i == 0 && r.told.depth != 251 {
			t.Errorf("%d are said to have no node, want all 251", r.told.depth)
		}
	}
	if rec := r.get("small"); rec.Placement.Node != "a" {
		t.Error("not placed behind those that wait")
	}
}

func TestErrorsOfTheStore(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err error
		// tried is how many of three sandboxes are tried.
		tried int
	}{
		"away":       {fault.New(fault.Unavailable, "away"), 1},
		"one record": {errors.New("this record is broken"), 3},
	} {
		r := newRig(t, placement.Config{})
		r.node("a", nil)
		for i := range 3 {
			r.insert(sandbox.ID(fmt.Sprint(i)), sandbox.Resources{})
		}
		p := placement.New(placement.Config{}, r.deps(failing{r.store, tc.err}))
		if _, err := p.Step(t.Context()); !errors.Is(err, tc.err) {
			t.Errorf("%s: %v", name, err)
		}
		if got := r.told.outcomes[placement.OutcomeError]; got != tc.tried {
			t.Errorf("%s: tried %d, want %d", name, got, tc.tried)
		}
	}
}

// failing is a store that cannot place.
type failing struct {
	*memstore.Store
	err error
}

func (f failing) Place(context.Context, sandbox.PlaceRequest) (sandbox.Record, error) {
	return sandbox.Record{}, f.err
}

func TestReplacedSandboxesWaitForRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t, placement.Config{})
	r.node("a", nil)
	r.insertSpec("s", sandbox.Spec{Image: "i", Replace: true})
	r.step()
	until := r.now.Add(node.LeaseTime)
	r.now = r.now.Add(10 * time.Minute)
	if _, err := r.store.Lose(t.Context(), sandbox.Loss{ID: "s", Node: "a", Epoch: 1, LeaseUntil: until}); err != nil {
		t.Fatal(err)
	}
	lost := r.now
	r.now = lost.Add(placement.ReplaceWait - time.Second)
	r.step()
	if rec := r.get("s"); !rec.Unplaced() {
		t.Fatalf("given up %v after its node was lost: %+v", r.now.Sub(lost), rec.Observed)
	}
	if !r.told.oldest.Equal(lost) {
		t.Errorf("it waits since %v, want %v", r.told.oldest, lost)
	}
	r.now = lost.Add(placement.ReplaceWait)
	r.step()
	if rec := r.get("s"); rec.Observed.State != sandbox.StateFailed || rec.Observed.Reason != sandbox.ReasonNoCapacity {
		t.Errorf("observed %+v", rec.Observed)
	}
}

func TestWhatWaitsSinceBeforeTheStoreWasRecovered(t *testing.T) {
	t.Parallel()
	r := newRig(t, placement.Config{Wait: time.Hour, RetainFailed: time.Hour})
	if _, err := r.store.Insert(t.Context(), sandbox.New{ID: "a", Accepted: true, Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"x"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.Register(t.Context(), node.Registration{Name: "n", EngineID: "e", PortMin: 1, PortMax: 9}); err != nil {
		t.Fatal(err)
	}
	r.watch.before, r.watch.going = true, true
	for _, want := range []sandbox.State{sandbox.StatePending, sandbox.StateFailed} {
		if _, err := r.place.Step(t.Context()); err != nil {
			t.Fatal(err)
		}
		got, err := r.store.Get(t.Context(), "a")
		if err != nil || sandbox.StateOf(&got) != want || got.Placement.Node != "" {
			t.Errorf("the record is %+v, %v; want %s", got, err, want)
		}
		r.watch.going = false
	}
	if r.told.outcomes[placement.KindStoreRecovered] != 1 {
		t.Errorf("told: %v", r.told.outcomes)
	}
}
