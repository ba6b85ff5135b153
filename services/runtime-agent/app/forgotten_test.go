package app_test

import (
	"crypto/rand"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// renew moves the deadline of a sandbox to three hours from now.
func (w *world) renew(id sandbox.ID) time.Time {
	w.t.Helper()
	at := time.Now().Add(3 * time.Hour).UTC().Truncate(time.Microsecond)
	if _, err := w.store.Renew(w.t.Context(), id, "team", at); err != nil {
		w.t.Fatal(err)
	}
	return at
}

// overtake takes the store back, after which others write before the agent looks.
func (w *world) overtake(old any) {
	w.t.Helper()
	w.store.Restore(old)
	for range 100 {
		if _, err := w.store.Store.Insert(w.t.Context(), sandbox.New{ID: sandbox.ID(rand.Text()), Spec: sandbox.Spec{Image: "image", Entrypoint: []string{"run"}}}); err != nil {
			w.t.Error(err)
		}
	}
}

// A renewal leads to no step: the mirror is all that has read it when the store goes back.
func TestARenewalThatTheStoreForgot(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.insert("a")
		w.pass(2 * time.Second)
		old := w.store.Snapshot()
		at := w.renew("a")
		w.pass(4 * time.Second)
		w.overtake(old)
		w.pass(2 * time.Minute) // comparisons
		if r := w.get("a"); !r.Intent.ExpiresAt.Equal(at) || w.running() != 1 {
			t.Errorf("the record is %+v, and there are %v", r, w.engine.Instances())
		}
		w.settle()
		w.end()
	})
}

// The store forgets that a sandbox was deleted, while its node removes it: it is not made again.
func TestAnEndThatTheStoreForgot(t *testing.T) {
	for name, changes := range map[string]int{"as it was": 0, "changed since": 9} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, dir)
			w.insert("a", "slow", "1000000")
			w.pass(time.Second)
			old := w.store.Snapshot()
			w.store.atCleaned = func() {
				w.overtake(old)
				for i := range changes {
					v := strconv.Itoa(i)
					if _, err := w.store.PatchMetadata(t.Context(), "a", "team", map[string]*string{"k": &v}); err != nil {
						t.Error(err)
					}
				}
			}
			if _, err := w.store.SetGone(t.Context(), "a", sandbox.ReasonDeleted); err != nil {
				t.Fatal(err)
			}
			w.pass(2 * time.Second)
			if r, err := w.store.Recovery(t.Context()); err != nil || !r.Going() {
				t.Errorf("%s: no recovery has begun: %+v, %v", name, r, err)
			}
			w.pass(sandbox.RecoverFor)
			w.settle()
			w.pass(2 * time.Second)
			w.want("a", sandbox.StateFailed, sandbox.ReasonStoreRecovered)
			starts := 0
			for _, e := range w.engine.History() {
				if e.What == fakeexec.WasStarted {
					starts++
				}
			}
			if starts != 1 || len(w.engine.Instances()) != 0 {
				t.Errorf("%s: started %d times, and there are %v", name, starts, w.engine.Instances())
			}
			w.end()
		})
	}
}

func TestAStoreThatWentBackAndOvertookTheCounter(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.insert("a")
		w.pass(2 * time.Second)
		old := w.store.Snapshot()
		at := w.renew("a")
		w.insert("lost")
		w.pass(4 * time.Second)
		w.want("lost", sandbox.StateRunning, sandbox.ReasonRunning)
		w.overtake(old)
		w.pass(2 * time.Minute) // comparisons
		w.want("lost", sandbox.StateRunning, sandbox.ReasonRunning)
		if r := w.get("a"); !r.Intent.ExpiresAt.Equal(at) || w.running() != 2 {
			t.Errorf("the record is %+v, and there are %v", r, w.engine.Instances())
		}
		w.settle()
		w.end()
	})
}

// Another node gets a sandbox under an epoch that this one has had: the store has forgotten that, and its counter does not show it.
func TestAPlacementThatTheStoreForgot(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		n, err := w.store.Store.Register(t.Context(), node.Registration{Name: "m", EngineID: "m", PortMin: 40000, PortMax: 40050})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.Store.Insert(t.Context(), sandbox.New{ID: "a", Tenant: "team", Spec: sandbox.Spec{Image: "image", Entrypoint: []string{"run"}, Timeout: time.Hour}}); err != nil {
			t.Fatal(err)
		}
		old := w.store.Snapshot()
		place := func(at string) {
			_, err := w.store.Place(t.Context(), sandbox.PlaceRequest{ID: "a", Ports: []int{44772}, Candidates: []sandbox.Candidate{{Node: at, PortMin: 40000, PortMax: 40050}}})
			if err != nil {
				t.Fatal(err)
			}
		}
		place("n")
		w.pass(2 * time.Second)
		w.want("a", sandbox.StateRunning, sandbox.ReasonRunning)
		w.store.Restore(old)
		if err := w.store.Store.RenewLease(t.Context(), "m", n.Session); err != nil {
			t.Fatal(err)
		}
		place("m")
		for i := range 10 {
			if _, err := w.store.Store.Report(t.Context(), sandbox.Report{ID: "a", Node: "m", Epoch: 1, Session: n.Session, State: sandbox.StatePending, Message: strconv.Itoa(i)}); err != nil {
				t.Fatal(err)
			}
		}
		w.pass(70 * time.Second) // a comparison
		if r, err := w.store.Recovery(t.Context()); err != nil || !r.Going() {
			t.Errorf("no recovery has begun: %+v, %v", r, err)
		}
		w.end()
	})
}
