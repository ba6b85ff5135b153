package placement_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/scheduler/internal/placement"
)

type rig struct {
	t     *testing.T
	now   time.Time
	store *memstore.Store
	place *placement.Placer
}

func newRig(t *testing.T, cfg placement.Config) *rig {
	r := &rig{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	r.store = memstore.New(memstore.WithClock(func() time.Time { return r.now }))
	r.place = placement.New(r.store, cfg, rand.New(rand.NewPCG(1, 2)), slog.New(slog.DiscardHandler))
	return r
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
	if _, err := r.store.Insert(r.t.Context(), sandbox.New{ID: id, Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"e"}, Requests: requests}}); err != nil {
		r.t.Fatal(err)
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
