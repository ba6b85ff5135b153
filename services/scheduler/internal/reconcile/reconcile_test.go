package reconcile_test

import (
	"log/slog"
	"testing"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/scheduler/internal/reconcile"
)

type rig struct {
	t       *testing.T
	now     time.Time
	store   *memstore.Store
	session uint64
}

// newRig has one sandbox, "s", on one node.
func newRig(t *testing.T, accepted bool) *rig {
	t.Helper()
	r := &rig{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	r.store = memstore.New(memstore.WithClock(func() time.Time { return r.now }))
	n, err := r.store.Register(t.Context(), node.Registration{Name: "n", EngineID: "e", PortMin: 1, PortMax: 9})
	if err == nil {
		_, err = r.store.Insert(t.Context(), sandbox.New{ID: "s", Accepted: accepted, Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"e"}}})
	}
	if err == nil {
		_, err = r.store.Place(t.Context(), sandbox.PlaceRequest{ID: "s", Candidates: []sandbox.Candidate{{Node: "n", PortMin: 1, PortMax: 9}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	r.session = n.Session
	return r
}

func (r *rig) report(state sandbox.State) {
	r.t.Helper()
	_, err := r.store.Report(r.t.Context(), sandbox.Report{ID: "s", Node: "n", Epoch: 1, Session: r.session, Generation: r.get().Intent.Generation, State: state, RetainFor: time.Hour})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) get() sandbox.Record {
	r.t.Helper()
	rec, err := r.store.Get(r.t.Context(), "s")
	if err != nil {
		r.t.Fatal(err)
	}
	return rec
}

func (r *rig) after(d time.Duration) sandbox.Record {
	r.t.Helper()
	r.now = r.now.Add(d)
	if _, err := reconcile.New(r.store, slog.New(slog.DiscardHandler)).Step(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return r.get()
}

func TestAFailedPauseIsWithdrawn(t *testing.T) {
	t.Parallel()
	r := newRig(t, true)
	r.report(sandbox.StateRunning)
	if _, err := r.store.SetDesired(t.Context(), "s", sandbox.DesiredPaused, 1); err != nil {
		t.Fatal(err)
	}
	r.report(sandbox.StateRunning) // finished, and not paused
	if rec := r.after(sandbox.WithdrawAfter - time.Second); rec.Intent.Desired != sandbox.DesiredPaused {
		t.Error("withdrawn while the api may still do it")
	}
	if rec := r.after(2 * time.Second); rec.Intent.Desired != sandbox.DesiredRunning {
		t.Errorf("desired %s, want running", rec.Intent.Desired)
	}
}

func TestFailedCreatesAreForgotten(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		accepted bool
		after    time.Duration
	}{"nobody knows of it": {false, sandbox.AbandonAfter}, "somebody has its id": {true, time.Hour}} {
		r := newRig(t, c.accepted)
		r.report(sandbox.StateFailed)
		if rec := r.after(c.after - time.Second); rec.Gone() {
			t.Errorf("%s: gone too early", name)
		}
		if rec := r.after(2 * time.Second); !rec.Gone() || rec.Intent.Reason != sandbox.ReasonCreateFailed {
			t.Errorf("%s: %+v", name, rec.Intent)
		}
	}
}

func TestEndedRecordsAreForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, true)
	if _, err := r.store.SetGone(t.Context(), "s", sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	if err := r.store.Cleaned(t.Context(), sandbox.Cleaned{ID: "s", Node: "n", Epoch: 1, Session: r.session}); err != nil {
		t.Fatal(err)
	}
	if rec := r.after(reconcile.KeepEnded - time.Second); !rec.Ended() {
		t.Error("not ended")
	}
	r.now = r.now.Add(2 * time.Second)
	if _, err := reconcile.New(r.store, slog.New(slog.DiscardHandler)).Step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.Get(t.Context(), "s"); !fault.Is(err, fault.NotFound) {
		t.Errorf("still there after %v: %v", reconcile.KeepEnded, err)
	}
}
