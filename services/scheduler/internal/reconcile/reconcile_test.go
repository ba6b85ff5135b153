package reconcile_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/scheduler/internal/reconcile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type rig struct {
	t       *testing.T
	now     time.Time
	store   *memstore.Store
	session uint64
	repairs repairs
}

// repairs counts by kind.
type repairs map[string]int

func (r repairs) Repaired(kind string) { r[kind]++ }

func (r *rig) step() {
	r.t.Helper()
	if _, err := reconcile.New(r.store, r.repairs, slog.New(slog.DiscardHandler)).Step(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// repaired checks what was counted.
func (r *rig) repaired(want repairs) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.repairs); diff != "" {
		r.t.Errorf("repairs (-want +got):\n%s", diff)
	}
}

// newRig has one sandbox, "s", on one node.
func newRig(t *testing.T, accepted bool) *rig {
	t.Helper()
	r := &rig{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), repairs: repairs{}}
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
	r.step()
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
	r.repaired(repairs{reconcile.KindWithdrawn: 1})
}

func TestFailedCreatesAreForgotten(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		accepted bool
		after    time.Duration
		repairs  repairs
	}{
		"nobody knows of it":  {false, sandbox.AbandonAfter, repairs{reconcile.KindAbandoned: 1}},
		"somebody has its id": {true, time.Hour, repairs{}},
	} {
		r := newRig(t, c.accepted)
		r.report(sandbox.StateFailed)
		if rec := r.after(c.after - time.Second); rec.Gone() {
			t.Errorf("%s: gone too early", name)
		}
		if rec := r.after(2 * time.Second); !rec.Gone() || rec.Intent.Reason != sandbox.ReasonCreateFailed {
			t.Errorf("%s: %+v", name, rec.Intent)
		}
		r.repaired(c.repairs)
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
	r.step()
	if _, err := r.store.Get(t.Context(), "s"); !fault.Is(err, fault.NotFound) {
		t.Errorf("still there after %v: %v", reconcile.KeepEnded, err)
	}
}
