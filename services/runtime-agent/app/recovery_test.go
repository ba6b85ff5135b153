package app_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// insert adds a sandbox with a deadline and metadata, and places it.
func (w *world) insert(id sandbox.ID, entrypoint ...string) {
	w.t.Helper()
	if len(entrypoint) == 0 {
		entrypoint = []string{"run"}
	}
	_, err := w.store.Store.Insert(w.t.Context(), sandbox.New{ID: id, Tenant: "team", Accepted: true, Metadata: map[string]string{"k": string(id)},
		Spec: sandbox.Spec{Image: "image", Entrypoint: entrypoint, Timeout: time.Hour}})
	if err == nil {
		_, err = w.store.Place(w.t.Context(), sandbox.PlaceRequest{ID: id, Ports: []int{44772}, Candidates: []sandbox.Candidate{{Node: "n", PortMin: 40000, PortMax: 40050}}})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) get(id sandbox.ID) sandbox.Record {
	w.t.Helper()
	r, err := w.store.Store.Get(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) end() {
	w.t.Helper()
	w.stop()
	if err := <-w.ended; err != nil {
		w.t.Errorf("Run = %v", err)
	}
	w.agent.Close()
}

// logs fails unless one line of the log has all texts.
func (w *world) logs(texts ...string) {
	w.t.Helper()
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for _, line := range w.log.all {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			return
		}
	}
	w.t.Errorf("no line of the log has %q:\n%s", texts, strings.Join(w.log.all, ""))
}

// settle ends the recovery as a scheduler does.
func (w *world) settle() {
	w.t.Helper()
	r, err := w.store.Settle(w.t.Context())
	if err != nil || r.Going() || len(r.Unreported) > 0 {
		w.t.Errorf("after the recovery: %+v, %v", r, err)
	}
}

func TestAStoreThatWasDeletedIsMadeAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		for _, id := range []sandbox.ID{"running", "paused", "ended", "removed"} {
			w.insert(id)
		}
		w.pass(2 * time.Second)
		if _, err := w.store.SetDesired(t.Context(), "paused", sandbox.DesiredPaused, 1); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(3 * time.Hour).UTC().Truncate(time.Microsecond)
		if _, err := w.store.Renew(t.Context(), "running", "team", at); err != nil {
			t.Fatal(err)
		}
		w.pass(5 * time.Second)
		w.want("paused", sandbox.StatePaused, sandbox.ReasonPaused)
		before := w.get("running")
		w.end()
		w.engine.Exit("ended", 3)
		w.engine.RemoveByHand("removed")

		next := &world{t: t, store: &flaky{Store: memstore.New()}, engine: w.engine, log: &lines{}, ended: make(chan error, 1)}
		next.begin(dir)
		next.pass(time.Second)
		next.logs("the store has been told what this node has", "containers=3 made=3")
		next.logs("sandboxes are noted and have no container any more", "count=1 sandboxes=[removed]")
		next.want("running", sandbox.StateRunning, sandbox.ReasonRunning)
		next.want("paused", sandbox.StatePaused, sandbox.ReasonPaused)
		next.want("ended", sandbox.StateFailed, sandbox.ReasonExitedError)
		after := next.get("running")
		if !after.Intent.ExpiresAt.Equal(at) || after.Intent.Metadata["k"] != "running" || after.Tenant != "team" || !after.CreatedAt.Equal(before.CreatedAt) ||
			after.Spec.Image != "image" || !maps.Equal(after.Placement.Ports, before.Placement.Ports) || !after.Intent.Accepted {
			t.Errorf("the record is %+v; want %+v", after, before)
		}
		if n, err := next.store.Nodes(t.Context()); err != nil || n[0].Session <= before.Observed.Session {
			t.Errorf("the session is not new: %v, %v", n, err)
		}
		next.pass(sandbox.RecoverFor)
		next.settle()
		next.pass(2 * time.Minute) // comparisons
		if next.running() != 1 || len(next.engine.Instances()) != 3 {
			t.Errorf("containers: %v", next.engine.Instances())
		}
		if _, err := next.store.SetGone(t.Context(), "running", sandbox.ReasonDeleted); err != nil {
			t.Fatal(err)
		}
		next.pass(2 * time.Second)
		if r := next.get("running"); !r.Ended() || len(next.engine.Instances()) != 2 {
			t.Errorf("after the delete: %+v, %v", r, next.engine.Instances())
		}
		next.end()
	})
}

func TestAStoreThatGoesBackUnderARunningAgent(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.insert("known")
		w.insert("deleted")
		w.pass(2 * time.Second)
		unplaced := sandbox.New{ID: "placed", Tenant: "team", Accepted: true, Spec: sandbox.Spec{Image: "image", Entrypoint: []string{"run"}, Timeout: time.Hour}}
		if _, err := w.store.Insert(t.Context(), unplaced); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
		old := w.store.Snapshot()
		place := sandbox.PlaceRequest{ID: "placed", Ports: []int{44772}, Candidates: []sandbox.Candidate{{Node: "n", PortMin: 40000, PortMax: 40050}}}
		if _, err := w.store.Place(t.Context(), place); err != nil {
			t.Fatal(err)
		}
		w.insert("new")
		at := time.Now().Add(3 * time.Hour).UTC().Truncate(time.Microsecond)
		if _, err := w.store.Renew(t.Context(), "known", "team", at); err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.SetGone(t.Context(), "deleted", sandbox.ReasonDeleted); err != nil {
			t.Fatal(err)
		}
		w.pass(6 * time.Second)
		if w.running() != 3 {
			t.Fatalf("containers: %v", w.engine.Instances())
		}
		w.store.Restore(old)
		w.pass(2 * time.Second)
		for _, id := range []sandbox.ID{"known", "placed", "new"} {
			w.want(id, sandbox.StateRunning, sandbox.ReasonRunning)
		}
		if r := w.get("known"); !r.Intent.ExpiresAt.Equal(at) {
			t.Errorf("the renewal was lost: %v, want %v", r.Intent.ExpiresAt, at)
		}
		w.pass(sandbox.RecoverFor)
		w.settle()
		w.pass(2 * time.Minute)
		w.want("deleted", sandbox.StateFailed, sandbox.ReasonContainerLost)
		if w.running() != 3 || len(w.engine.Instances()) != 3 {
			t.Errorf("containers: %v", w.engine.Instances())
		}
		w.end()
	})
}

func TestAContainerThatTheStoreNeverHeardOf(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		// Made before the store was, by an agent that kept no notes.
		plan := executor.Plan{Ref: executor.Ref{ID: "old", Epoch: 2}, Tenant: "team", CreatedAt: time.Now().Add(-time.Hour), Deadline: time.Now().Add(time.Hour),
			Image: "image", Entrypoint: []string{"run"}, Ports: map[int]int{44772: 40001}}
		made := plan
		made.Ref, made.CreatedAt = executor.Ref{ID: "half", Epoch: 1}, plan.CreatedAt.Add(time.Second)
		for _, err := range []error{w.engine.Create(t.Context(), plan), w.engine.Start(t.Context(), plan), w.engine.Create(t.Context(), made)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		w.pass(2 * time.Minute)
		w.want("old", sandbox.StateRunning, sandbox.ReasonRunning)
		w.logs("containers without a note were taken up with what their labels say", "sandboxes=\"[half old]\"")
		if r := w.get("old"); r.Tenant != "team" || r.Placement.Epoch != 2 || !r.Intent.ExpiresAt.Equal(plan.Deadline.UTC().Truncate(time.Microsecond)) {
			t.Errorf("the record is %+v", r)
		}
		// A container that never started is a create that failed; it is removed, and shown as failed.
		w.want("half", sandbox.StateFailed, sandbox.ReasonStoreRecovered)
		if len(w.engine.Instances()) != 1 {
			t.Errorf("containers: %v", w.engine.Instances())
		}
		w.end()
	})
}

func TestNothingIsMadeForWhatWaitedBefore(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.pass(6 * time.Second)
		w.end()
		n, err := w.store.Nodes(t.Context())
		if err == nil {
			err = w.store.RenewLease(t.Context(), "n", n[0].Session) // given back by the stop
		}
		if err != nil {
			t.Fatal(err)
		}
		w.insert("before")
		known, err := w.store.Recovery(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		known.Mark.Changes += 1000
		time.Sleep(time.Second)
		if _, err := w.store.Recover(t.Context(), sandbox.Claim{Known: known.Mark}); err != nil {
			t.Fatal(err)
		}
		next := &world{t: t, store: w.store, engine: w.engine, log: &lines{}, ended: make(chan error, 1)}
		next.begin(dir)
		next.insert("after")
		next.pass(2 * time.Second)
		next.want("after", sandbox.StateRunning, sandbox.ReasonRunning)
		if r := next.get("before"); r.FailedCreate() || next.running() != 1 {
			t.Errorf("during the recovery: %+v", r)
		}
		next.pass(sandbox.RecoverFor)
		next.settle()
		next.pass(3 * time.Second)
		next.want("before", sandbox.StateFailed, sandbox.ReasonStoreRecovered)
		next.end()
	})
}

func TestANodeThatTheStoreForgotKeepsItsSandboxes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.insert("a")
		w.pass(6 * time.Second)
		w.store.Restore(memstore.New().Snapshot())
		w.pass(node.LeaseTime)
		if err := <-w.ended; err == nil {
			t.Error("the agent goes on without a registration")
		}
		if w.running() != 1 {
			t.Errorf("containers: %v", w.engine.Instances())
		}
		w.agent.Close()
		next := &world{t: t, store: w.store, engine: w.engine, log: &lines{}, ended: make(chan error, 1)}
		next.begin(dir)
		next.pass(time.Second)
		next.want("a", sandbox.StateRunning, sandbox.ReasonRunning)
		next.end()
		w.stop()
	})
}

// A create that is on its way when the store goes back is not taken for one that was Running: when it fails, nothing of it is left.
func TestACreateThatFailsThroughARecovery(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.pass(6 * time.Second)
		empty := w.store.Snapshot()
		w.insert("lost", "slow", "1000000")
		old := w.store.Snapshot()
		w.pass(6 * time.Second) // the mark is noted on the disk
		w.store.Restore(empty)
		w.pass(4 * time.Second)
		if r := w.get("lost"); sandbox.StateOf(&r) != sandbox.StatePending || w.running() != 1 {
			t.Errorf("made again by a sighting: %+v", r)
		}
		w.store.Restore(old) // and once more
		w.pass(4 * time.Second)
		if r := w.get("lost"); sandbox.StateOf(&r) != sandbox.StatePending || w.running() != 1 {
			t.Errorf("seen by a sighting: %+v", r)
		}
		w.pass(time.Minute)
		w.want("lost", sandbox.StateFailed, sandbox.ReasonExecdNotAnswering)
		if r := w.get("lost"); !r.FailedCreate() || len(w.engine.Instances()) != 0 {
			t.Errorf("left of a create that has failed: %v of %+v", w.engine.Instances(), r)
		}
		w.end()
	})
}

func TestTheAgentAnswersTheRollCall(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		w.pass(6 * time.Second)
		lease := func() time.Time {
			t.Helper()
			all, err := w.store.Nodes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return all[0].LeaseUntil
		}
		before, old := lease(), w.store.Snapshot()
		w.pass(time.Second)
		if err := w.store.CallRoll(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if at := lease(); !at.After(before) {
			t.Errorf("the lease was %v, and is %v", before, at)
		}
		w.pass(1100 * time.Millisecond) // the agent has looked since
		w.store.Restore(old)
		if err := w.store.CallRoll(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if r, err := w.store.Recovery(t.Context()); err != nil || !r.Going() {
			t.Errorf("a store that went back has renewed the lease as if nothing had been: %+v, %v", r, err)
		}
		w.end()
	})
}
