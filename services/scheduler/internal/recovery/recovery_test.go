package recovery_test

import (
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/scheduler/internal/recovery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type rig struct {
	t     *testing.T
	now   time.Time
	store *memstore.Store
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	r.store = memstore.New(memstore.WithClock(func() time.Time { return r.now }))
	return r
}

func (r *rig) ok(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) mayEnd(w *recovery.Watch, what string, want bool) {
	r.t.Helper()
	_, ok, err := w.MayEnd(r.t.Context())
	if err != nil || ok != want {
		r.t.Errorf("%s: MayEnd = %v, %v; want %v", what, ok, err, want)
	}
}

func (r *rig) register(name string) node.Node {
	r.t.Helper()
	n, err := r.store.Register(r.t.Context(), node.Registration{Name: name, EngineID: name, PortMin: 1, PortMax: 9, TakeOver: true})
	r.ok(err)
	return n
}

func newWatch(r *rig, alone bool) *recovery.Watch {
	return recovery.New(r.store, alone, slog.New(slog.DiscardHandler))
}

func TestAStoreThatGoesBackIsRecovered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n := r.register("n")
	w := newWatch(r, true)
	r.mayEnd(w, "at first", true)
	old := r.store.Snapshot()
	for range 3 {
		r.ok(r.store.RenewLease(t.Context(), "n", n.Session))
	}
	r.mayEnd(w, "before", true)
	guarded := w.Guard(t.Context())
	r.store.Restore(old)
	if _, err := r.store.ExpireDue(guarded, r.now, 9); fault.CodeOf(err) != sandbox.CodeWentBack {
		t.Errorf("ExpireDue before anybody has looked: %v", err)
	}
	r.now = r.now.Add(time.Second)
	r.mayEnd(w, "after it went back", false)
	if state, err := r.store.Recovery(t.Context()); err != nil || !state.Going() || !state.Awaits("n") {
		t.Errorf("the recovery is %+v, %v", state, err)
	}
	if before, going := w.Waits(&sandbox.Record{CreatedAt: r.now.Add(-time.Second)}); !before || !going {
		t.Errorf("Waits = %v, %v", before, going)
	}
	r.now = r.now.Add(sandbox.RecoverFor)
	r.ok(r.store.RenewLease(t.Context(), "n", n.Session))
	r.mayEnd(w, "the node has not reported", false)
	_, err := r.store.Reported(t.Context(), "n", n.Session)
	r.ok(err)
	r.mayEnd(w, "the node has reported", true)
	if before, going := w.Waits(&sandbox.Record{CreatedAt: r.now}); before || going {
		t.Errorf("Waits = %v, %v for a new record", before, going)
	}
	if _, err := r.store.ExpireDue(w.Guard(t.Context()), r.now, 9); err != nil {
		t.Errorf("ExpireDue afterwards: %v", err)
	}
}

func TestANewSchedulerHearsTheNodesFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mayEnd(newWatch(r, false), "without nodes", true)
	n := r.register("n")
	r.register("away")
	w := newWatch(r, false)
	r.mayEnd(w, "at first", false)
	r.now = r.now.Add(5 * time.Second)
	r.ok(r.store.RenewLease(t.Context(), "n", n.Session))
	r.mayEnd(w, "one has been heard", false)
	r.now = r.now.Add(recovery.Hearing)
	r.mayEnd(w, "the other has had its time", true)
	r.mayEnd(newWatch(r, true), "the only process", true)
}
