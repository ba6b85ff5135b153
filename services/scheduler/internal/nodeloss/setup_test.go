package nodeloss_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/scheduler/internal/nodeloss"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const lostAfter = 10 * time.Minute

// rig is a store with a scheduler's step and the agents of some nodes.
type rig struct {
	t     *testing.T
	now   time.Time
	store *memstore.Store
	// sessions are those of the agents that live, by node.
	sessions map[string]uint64
	step     *nodeloss.GiverUp
	away     bool
	// ahead is how much the store's clock, which is now, is ahead of the scheduler's.
	ahead    time.Duration
	repaired int
	held     int
}

func newRig(t *testing.T, nodes int) *rig {
	r := &rig{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), sessions: map[string]uint64{}}
	r.store = memstore.New(memstore.WithClock(func() time.Time { return r.now }))
	r.step = r.newStep()
	for i := range nodes {
		name := fmt.Sprint("n", i)
		n, err := r.store.Register(t.Context(), node.Registration{Name: name, EngineID: name, PortMin: 1, PortMax: 9999})
		if err != nil {
			t.Fatal(err)
		}
		r.sessions[name] = n.Session
	}
	return r
}

func (r *rig) newStep() *nodeloss.GiverUp {
	return nodeloss.New(nodeloss.Config{LostAfter: lostAfter, RetainFailed: time.Hour}, flaky{r.store, r}, r, slog.New(slog.DiscardHandler))
}

func (r *rig) Repaired(string) { r.repaired++ }

func (r *rig) Held(nodes int) { r.held = nodes }

// die ends the agents of nodes.
func (r *rig) die(names ...string) {
	r.sessions = maps.Clone(r.sessions)
	for _, name := range names {
		delete(r.sessions, name)
	}
}

// flaky is a store that can be away for the scheduler.
type flaky struct {
	*memstore.Store
	r *rig
}

var errAway = errors.New("away")

func (f flaky) Nodes(ctx context.Context) ([]node.Node, error) {
	if f.r.away {
		return nil, errAway
	}
	return f.Store.Nodes(ctx)
}

// put places sandboxes on a node, with ids that begin with its name.
func (r *rig) put(name string, count int, change func(*sandbox.Spec)) {
	r.t.Helper()
	for i := range count {
		spec := sandbox.Spec{Image: "i", Entrypoint: []string{"e"}}
		if change != nil {
			change(&spec)
		}
		id := sandbox.ID(fmt.Sprint(name, "-", i))
		_, err := r.store.Insert(r.t.Context(), sandbox.New{ID: id, Accepted: true, Spec: spec})
		if err == nil {
			_, err = r.store.Place(r.t.Context(), sandbox.PlaceRequest{ID: id, Candidates: []sandbox.Candidate{{Node: name, PortMin: 1, PortMax: 9999}}})
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
}

// pass lets time pass in seconds: agents renew, and the scheduler steps.
func (r *rig) pass(d time.Duration) {
	r.t.Helper()
	for end := r.now.Add(d); r.now.Before(end); {
		r.now = r.now.Add(time.Second)
		r.renew()
		if _, err := r.step.Step(r.t.Context(), r.now.Add(-r.ahead)); err != nil && !errors.Is(err, errAway) {
			r.t.Fatal(err)
		}
	}
}

func (r *rig) renew() {
	r.t.Helper()
	for name, session := range r.sessions {
		if err := r.store.RenewLease(r.t.Context(), name, session); err != nil {
			r.t.Fatal(err)
		}
	}
}

// on checks how many sandboxes each node has.
func (r *rig) on(when string, want map[string]int) {
	r.t.Helper()
	got := map[string]int{}
	for i := range 10 {
		name := fmt.Sprint("n", i)
		records, err := r.store.OnNode(r.t.Context(), name)
		if err != nil {
			r.t.Fatal(err)
		}
		if len(records) > 0 {
			got[name] = len(records)
		}
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		r.t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func (r *rig) get(id sandbox.ID) sandbox.Record {
	r.t.Helper()
	rec, err := r.store.Get(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return rec
}
