package nodeloss_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/scheduler/internal/nodeloss"
)

func TestANodeIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.put("n0", 450, nil) // more than one step takes
	r.put("n1", 1, nil)
	r.pass(time.Minute)
	r.die("n0")
	r.pass(node.LeaseTime + lostAfter - time.Second)
	r.on("before it is time", map[string]int{"n0": 450, "n1": 1})
	r.pass(4 * time.Second)
	r.on("afterwards", map[string]int{"n1": 1})
	if rec := r.get("n0-0"); sandbox.StateOf(&rec) != sandbox.StateFailed || rec.Observed.Reason != sandbox.ReasonNodeLost || rec.RetainUntil.IsZero() {
		t.Errorf("observed %+v", rec.Observed)
	}
	if r.repaired != 450 || r.held != 0 {
		t.Errorf("%d repairs counted, %d nodes held", r.repaired, r.held)
	}
}

func TestSandboxesAreReplaced(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.put("n0", 1, func(s *sandbox.Spec) { s.Replace = true })
	r.die("n0")
	r.pass(node.LeaseTime + lostAfter + time.Second)
	if rec := r.get("n0-0"); !rec.Unplaced() || rec.Placement.Epoch != 2 {
		t.Errorf("placement %+v, observed %+v", rec.Placement, rec.Observed)
	}
}

func TestTheOnlyNodeIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.put("n0", 1, nil)
	r.die("n0")
	r.pass(node.LeaseTime + lostAfter + time.Second)
	r.on("afterwards", nil)
}

func TestWakesWhenANodeIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.put("n0", 1, nil)
	for range 60 { // all is well
		r.now = r.now.Add(time.Second)
		r.renew()
		if wake, err := r.step.Step(t.Context(), r.now); err != nil || !wake.IsZero() {
			t.Fatalf("Step = %v, %v; want nothing to come", wake, err)
		}
	}
	lost := r.now.Add(node.LeaseTime + lostAfter)
	r.die("n0")
	r.pass(node.LeaseTime)
	if wake, err := r.step.Step(t.Context(), r.now); err != nil || !wake.Equal(lost) {
		t.Errorf("Step = %v, %v; want %v", wake, err, lost)
	}
	r.step = r.newStep() // a scheduler that has just started
	r.now = lost
	if wake, err := r.step.Step(t.Context(), r.now); err != nil || !wake.Equal(lost.Add(node.LeaseTime+nodeloss.Grace)) {
		t.Errorf("Step = %v, %v; want the end of the time in which it does not trust itself", wake, err)
	}
}

// TestGaps has a node that is over the limit; what differs is what keeps the scheduler from trusting what it sees.
func TestGaps(t *testing.T) {
	t.Parallel()
	for name, happens := range map[string]func(r *rig){
		"it has just started": func(r *rig) { r.step = r.newStep() },
		"the store was away for a moment": func(r *rig) {
			r.away = true
			r.pass(time.Second)
			r.away = false
		},
		"it was stopped": func(r *rig) {
			r.now = r.now.Add(nodeloss.MaxGap + time.Second)
			r.renew()
		},
		"the store's clock has jumped": func(r *rig) {
			r.now, r.ahead = r.now.Add(time.Hour), time.Hour
			r.renew()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 4)
			r.put("n0", 1, nil)
			r.pass(time.Minute)
			r.die("n0")
			r.pass(node.LeaseTime + lostAfter - time.Second)
			happens(r)
			r.pass(node.LeaseTime + nodeloss.Grace)
			r.on("while it does not trust itself", map[string]int{"n0": 1})
			r.pass(time.Second)
			r.on("afterwards", nil)
		})
	}
}

func TestTooManyAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5)
	for i := range 5 {
		r.put(fmt.Sprint("n", i), 1, nil)
	}
	r.pass(time.Minute)
	r.die("n0", "n1")
	r.pass(5 * time.Second)
	r.die("n2") // with its lease a bit later, as in a partition
	r.pass(node.LeaseTime + lostAfter + time.Minute)
	r.on("three of five", map[string]int{"n0": 1, "n1": 1, "n2": 1, "n3": 1, "n4": 1})
	if r.held != 3 || r.repaired != 0 {
		t.Errorf("%d held, %d repaired", r.held, r.repaired)
	}
	if err := r.store.Remove(t.Context(), "n0"); err != nil { // the operator knows better
		t.Fatal(err)
	}
	r.pass(2 * time.Second)
	r.on("one is removed, and two of four are not too many", map[string]int{"n3": 1, "n4": 1})
	if r.held != 0 {
		t.Errorf("%d are still held", r.held)
	}
}

func TestHalfIsNotTooMany(t *testing.T) {
	t.Parallel()
	r := newRig(t, 4)
	for i := range 4 {
		r.put(fmt.Sprint("n", i), 1, nil)
	}
	r.die("n0", "n1")
	r.pass(node.LeaseTime + lostAfter + time.Second)
	r.on("two of four", map[string]int{"n2": 1, "n3": 1})
	r.die("n2")
	r.pass(node.LeaseTime + lostAfter + time.Second)
	r.on("one more: those without sandboxes do not count", map[string]int{"n3": 1})
}

func TestNodesThatComeBackAreNotHeld(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	for i := range 3 {
		r.put(fmt.Sprint("n", i), 1, nil)
	}
	alive := r.sessions
	r.die("n0", "n1", "n2")
	r.pass(node.LeaseTime + lostAfter + time.Hour)
	if r.held != 3 {
		t.Errorf("%d held, want all", r.held)
	}
	r.sessions = alive
	r.pass(time.Minute)
	r.on("all came back", map[string]int{"n0": 1, "n1": 1, "n2": 1})
	if r.held != 0 {
		t.Errorf("%d held", r.held)
	}
}

func TestRemovedNodes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.put("n0", 250, nil)
	r.put("n1", 1, nil)
	for _, name := range []string{"n0", "n1"} { // all nodes, and the scheduler has just started: neither rule is for these
		if err := r.store.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		r.die(name)
	}
	wake, err := r.step.Step(t.Context(), r.now)
	if err != nil || !wake.Equal(r.now) {
		t.Fatalf("Step = %v, %v; want to go on at once", wake, err)
	}
	r.on("after one batch", map[string]int{"n0": 50, "n1": 1})
	for range 2 {
		if _, err := r.step.Step(t.Context(), r.now); err != nil {
			t.Fatal(err)
		}
	}
	r.on("afterwards", nil)
	nodes, err := r.store.Nodes(t.Context())
	if err != nil || len(nodes) != 0 {
		t.Errorf("nodes %v, %v; want them forgotten", nodes, err)
	}
}

func TestSwitchedOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1)
	r.step = nodeloss.New(nodeloss.Config{}, r.store, r, slog.New(slog.DiscardHandler))
	r.put("n0", 1, nil)
	r.die("n0")
	r.pass(2 * lostAfter)
	r.on("unreachable", map[string]int{"n0": 1})
}

// TestOneRecordIsBroken shows that a record that cannot be given up does not hold up the others.
func TestOneRecordIsBroken(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.put("n0", 3, nil)
	r.put("n1", 2, nil)
	r.put("n2", 1, nil)
	r.step = nodeloss.New(nodeloss.Config{LostAfter: lostAfter}, brokenRecord{r.store, "n0-0"}, r, slog.New(slog.DiscardHandler))
	if err := r.store.Remove(t.Context(), "n1"); err != nil {
		t.Fatal(err)
	}
	r.die("n0", "n1")
	told := 0
	for range 12 * 60 {
		r.now = r.now.Add(time.Second)
		r.renew()
		if _, err := r.step.Step(t.Context(), r.now); errors.Is(err, errBroken) {
			told++
		}
	}
	r.on("afterwards", map[string]int{"n0": 1, "n2": 1})
	if told == 0 {
		t.Error("nobody is told of it")
	}
}

var errBroken = errors.New("this record is broken")

// brokenRecord is a store that cannot change one record.
type brokenRecord struct {
	*memstore.Store
	id sandbox.ID
}

func (b brokenRecord) Lose(ctx context.Context, l sandbox.Loss) (sandbox.Record, error) {
	if l.ID == b.id {
		return sandbox.Record{}, errBroken
	}
	return b.Store.Lose(ctx, l)
}

// TestStoppedInTheMiddle has a scheduler that reads the nodes, is stopped for long, and goes on.
func TestStoppedInTheMiddle(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.put("n0", 1, nil)
	r.pass(time.Minute)
	r.die("n0")
	r.pass(node.LeaseTime + lostAfter - time.Second)
	s := &stopping{Store: r.store, r: r}
	r.step = nodeloss.New(nodeloss.Config{LostAfter: lostAfter}, s, r, slog.New(slog.DiscardHandler))
	for range 31 {
		r.now = r.now.Add(time.Second)
		r.renew()
		s.times = 0
		if _, err := r.step.Step(t.Context(), r.now); err != nil {
			t.Fatal(err)
		}
	}
	r.on("after the stop", map[string]int{"n0": 1})
	if s.times != 2 {
		t.Errorf("asked for the time %d times", s.times)
	}
}

// stopping is stopped for an hour whenever it is asked for the time a second time.
type stopping struct {
	*memstore.Store
	r     *rig
	times int
}

func (s *stopping) Now(ctx context.Context) (time.Time, error) {
	if s.times++; s.times == 2 {
		s.r.now = s.r.now.Add(time.Hour)
	}
	return s.Store.Now(ctx)
}
