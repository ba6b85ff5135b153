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
	_, pause, err := w.MayEnd(r.t.Context())
	if err != nil || (pause == 0) != want {
		r.t.Errorf("%s: MayEnd = %v, %v; want %v", what, pause, err, want)
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

func TestANewSchedulerHearsANodeFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mayEnd(newWatch(r, false), "without nodes", true)
	n := r.register("n")
	r.register("away")
	called, cancel := r.store.Subscribe(sandbox.TopicRollCall)
	defer cancel()
	w := newWatch(r, false)
	r.mayEnd(w, "at first", false)
	select {
	case <-called:
	default:
		t.Error("nobody has called the roll")
	}
	r.now = r.now.Add(time.Millisecond)
	r.mayEnd(w, "nobody has answered", false)
	if len(called) > 0 {
		t.Error("the roll was called twice within a second")
	}
	r.ok(r.store.RenewLease(t.Context(), "n", n.Session))
	r.mayEnd(w, "one has answered", true)
	r.mayEnd(newWatch(r, true), "the only process", true)
}

func TestANewSchedulerWaitsForNodesThatStartAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	n := r.register("n")
	r.register("m")
	w := newWatch(r, false)
	r.mayEnd(w, "at first", false)
	r.now = r.now.Add(time.Second)
	r.ok(r.store.Release(t.Context(), "n", n.Session))
	r.mayEnd(w, "one has given its lease back", false)
	r.register("n")
	r.register("o")
	r.mayEnd(w, "one has started anew, and what it remembers may be old", false)
	r.register("m")
	r.mayEnd(w, "all have started anew", true)

	w = newWatch(r, false)
	r.mayEnd(w, "another one, at first", false)
	for _, name := range []string{"m", "n", "o"} {
		r.ok(r.store.Remove(t.Context(), name))
	}
	r.mayEnd(w, "all nodes were removed", true)
}

func TestANewSchedulerWaitsNoLongerThanHearing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.register("n")
	w := newWatch(r, false)
	r.mayEnd(w, "at first", false)
	r.now = r.now.Add(recovery.Hearing - time.Millisecond)
	r.mayEnd(w, "a moment before", false)
	r.now = r.now.Add(time.Millisecond)
	r.mayEnd(w, "the node has had its time", true)
}
