package recovery_test

import (
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/recovery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// blank is a disk that has nothing and keeps nothing.
type blank struct{}

func (blank) Known() (sandbox.Mark, error)                 { return sandbox.Mark{}, nil }
func (blank) Keep(sandbox.Mark) error                      { return nil }
func (blank) Notes() (map[sandbox.ID]recovery.Note, error) { return nil, nil }

// rig is a Guard of node n, with a sandbox s that is placed there.
type rig struct {
	*testing.T
	store *memstore.Store
	guard *recovery.Guard
}

func newRig(t *testing.T) *rig {
	t.Parallel()
	r := &rig{T: t, store: memstore.New()}
	n, err := r.store.Register(t.Context(), node.Registration{Name: "n", EngineID: "e"})
	r.ok(err)
	_, err = r.store.Insert(t.Context(), sandbox.New{ID: "s", Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"run"}, Timeout: time.Hour}})
	r.ok(err)
	_, err = r.store.Place(t.Context(), sandbox.PlaceRequest{ID: "s", Candidates: []sandbox.Candidate{{Node: "n"}}})
	r.ok(err)
	r.guard = recovery.New(recovery.Config{Node: "n", Clock: time.Now, Log: slog.New(slog.DiscardHandler)}, r.store, fakeexec.New("e", time.Now), blank{})
	_, err = r.guard.Look(t.Context())
	r.ok(err)
	r.guard.Registered(n.Session)
	return r
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) get() sandbox.Record {
	r.Helper()
	s, err := r.store.Get(r.Context(), "s")
	r.ok(err)
	return s
}

// saw tells the Guard of a record, and checks what it says and whether a recovery goes on then.
func (r *rig) saw(what string, s sandbox.Record, back, going bool) {
	r.Helper()
	got, err := r.guard.Saw(r.Context(), &s)
	r.ok(err)
	now, err := r.store.Recovery(r.Context())
	r.ok(err)
	if got != back || now.Going() != going {
		r.Errorf("%s: gone back %v, recovery %v; want %v, %v", what, got, now.Going(), back, going)
	}
}

func (r *rig) renew() {
	r.Helper()
	_, err := r.store.Renew(r.Context(), "s", "", time.Now().Add(2*time.Hour))
	r.ok(err)
}

func TestAnAnswerThatComesLateBeginsNothing(t *testing.T) {
	r := newRig(t)
	old, before := r.store.Snapshot(), r.get()
	r.renew()
	r.saw("a later state", r.get(), false, false)
	r.saw("an answer from before", before, true, false)
	r.saw("the later state again", r.get(), false, false)
	r.store.Restore(old)
	r.saw("a store that went back", r.get(), true, true)
}

func TestAnEndHoldsUntilNothingIsLeft(t *testing.T) {
	for name, cleaned := range map[string]bool{"something is left": false, "nothing is left": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			old := r.store.Snapshot()
			gone, err := r.store.SetGone(t.Context(), "s", sandbox.ReasonDeleted)
			r.ok(err)
			r.saw("the end", gone, false, false)
			if cleaned {
				r.guard.Cleaned("s")
			}
			r.store.Restore(old)
			for range 3 { // so that no version shows it
				r.renew()
			}
			r.saw("no end", r.get(), !cleaned, !cleaned)
		})
	}
}

func TestARecordThatHasEndedIsNotMissed(t *testing.T) {
	r := newRig(t)
	gone, err := r.store.SetGone(t.Context(), "s", sandbox.ReasonDeleted)
	r.ok(err)
	r.saw("the end", gone, false, false)
	if back, err := r.guard.Missed(t.Context(), "s"); back || err != nil {
		t.Errorf("Missed = %v, %v", back, err)
	}
}
