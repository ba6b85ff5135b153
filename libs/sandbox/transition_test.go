package sandbox_test

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"opensandbox/libs/sandbox"
)

// walk applies transitions to one record as a store does, and checks after each that no invariant broke.
type walk struct {
	t   *testing.T
	r   sandbox.Record
	now time.Time
}

// moves are the transitions; x chooses among their arguments.
var moves = []struct {
	name string
	do   func(w *walk, r *sandbox.Record, x byte) error
}{
	{"accept", func(_ *walk, r *sandbox.Record, _ byte) error { return r.Accept() }},
	{"set desired", func(_ *walk, r *sandbox.Record, x byte) error {
		d := []sandbox.Desired{sandbox.DesiredRunning, sandbox.DesiredPaused}[x%2]
		return r.SetDesired(d, r.Intent.Generation-uint64(x/2%2), sandbox.Origin{})
	}},
	{"set gone", func(w *walk, r *sandbox.Record, x byte) error {
		r.SetGone([]string{sandbox.ReasonDeleted, sandbox.ReasonCreateFailed}[x%2], w.now, sandbox.Origin{})
		return nil
	}},
	{"renew", func(w *walk, r *sandbox.Record, x byte) error {
		return r.Renew(w.now.Add(time.Duration(int(x)-10)*time.Second), w.now)
	}},
	{"patch metadata", func(_ *walk, r *sandbox.Record, x byte) error {
		v := string('a' + rune(x%3))
		patch := map[string]*string{"k": &v}
		if x%4 == 0 {
			patch["k"] = nil
		}
		return r.PatchMetadata(patch)
	}},
	{"expire", func(w *walk, r *sandbox.Record, _ byte) error {
		due := r.Due(w.now)
		if did := r.Expire(w.now); did != due {
			w.t.Errorf("due %v, expired %v", due, did)
		}
		return nil
	}},
	{"place", func(_ *walk, r *sandbox.Record, x byte) error {
		return r.Place(string('m'+rune(x%2)), map[int]int{8080: 40000}, sandbox.Resources{CPU: 1, Memory: 1})
	}},
	{"fail unplaced", func(w *walk, r *sandbox.Record, _ byte) error {
		return r.FailUnplaced(sandbox.Failure{Reason: sandbox.ReasonNoCapacity, RetainFor: time.Minute}, w.now)
	}},
	{"observe", func(w *walk, r *sandbox.Record, x byte) error {
		states := []sandbox.State{sandbox.StatePending, sandbox.StateRunning, sandbox.StatePaused, sandbox.StateTerminated, sandbox.StateFailed}
		rep := sandbox.Report{
			Node: r.Placement.Node, Epoch: r.Placement.Epoch, Generation: r.Intent.Generation, Session: uint64(x % 2),
			State: states[int(x)%len(states)], Started: x%7 == 0, OfCreate: x%3 == 0, RetainFor: time.Minute,
		}
		switch x / 32 {
		case 0:
			rep.Generation = r.Observed.Generation
		case 1:
			rep.Generation--
		case 2:
			rep.Epoch++
		case 3:
			rep.Node += "x"
		}
		return r.Observe(rep, w.now)
	}},
	{"swap port", func(_ *walk, r *sandbox.Record, x byte) error {
		p := sandbox.PortSwap{Node: r.Placement.Node, Epoch: r.Placement.Epoch, ContainerPort: 8080, Taken: r.Placement.Ports[8080]}
		return r.SwapPort(p, 40000+int(x))
	}},
	{"lose", func(w *walk, r *sandbox.Record, x byte) error {
		held := r.Placed()
		err := r.Lose(sandbox.Loss{Node: r.Placement.Node, Epoch: r.Placement.Epoch - uint64(x%2), RetainFor: time.Minute}, time.Time{}, w.now)
		if err == nil && (!held || r.Placed() || r.HoldsReservation()) {
			w.t.Errorf("a lost sandbox holds something: %+v", r.Placement)
		}
		return err
	}},
	{"clean", func(w *walk, r *sandbox.Record, x byte) error {
		before := r.Clone()
		changed := r.Clean(r.Placement.Node, r.Placement.Epoch-uint64(x%2), w.now)
		if changed == reflect.DeepEqual(before, *r) {
			w.t.Errorf("clean said changed=%v", changed)
		}
		return nil
	}},
}

// step applies one move. A refused one must leave the record as it was.
func (w *walk) step(choice, x byte) {
	m := moves[int(choice)%len(moves)]
	w.now = w.now.Add(time.Duration(x) * 100 * time.Millisecond)
	before, next := w.r.Clone(), w.r.Clone()
	err := m.do(w, &next, x)
	if err != nil {
		if !reflect.DeepEqual(before, next) {
			w.t.Errorf("%s was refused (%v) and changed the record:\nbefore %+v\nafter  %+v", m.name, err, before, next)
		}
		return
	}
	if !reflect.DeepEqual(before, next) {
		next.Version++
	}
	w.check(m.name, &before, &next)
	w.r = next
}

func (w *walk) check(move string, before, after *sandbox.Record) {
	for what, broken := range map[string]bool{
		"Gone is absorbing":                      before.Gone() && !after.Gone(),
		"the first reason wins":                  before.Gone() && before.Intent.Reason != after.Intent.Reason,
		"Gone has a reason":                      after.Gone() && after.Intent.Reason == "",
		"the end is final":                       before.Ended() && !reflect.DeepEqual(before, after),
		"only Gone records end":                  after.Ended() && !after.Gone(),
		"an ended record holds nothing":          after.Ended() && (after.Placed() || after.HoldsReservation() || len(after.Placement.Ports) > 0 || after.NeedsWork()),
		"Gone and holding nothing is ended":      after.Gone() && !after.Placed() && !after.Ended(),
		"a failed create is absorbing":           before.FailedCreate() && !after.FailedCreate(),
		"a failed create is retained":            after.FailedCreate() && after.RetainUntil.IsZero(),
		"generations only rise":                  after.Intent.Generation < before.Intent.Generation,
		"a generation is a change of desired":    (after.Intent.Generation == before.Intent.Generation) != (after.Intent.Desired == before.Intent.Desired),
		"no generation is finished in advance":   after.Observed.Generation > after.Intent.Generation,
		"finished generations only rise":         after.Observed.Epoch == before.Observed.Epoch && after.Observed.Generation < before.Observed.Generation,
		"epochs only rise":                       after.Placement.Epoch < before.Placement.Epoch,
		"nothing is observed ahead of its epoch": after.Observed.Epoch > after.Placement.Epoch,
		"versions only rise":                     after.Version < before.Version,
		"states follow the table":                !sandbox.CanFollow(sandbox.StateOf(before), sandbox.StateOf(after)),
		"accepted stays":                         before.Intent.Accepted && !after.Intent.Accepted,
		"who is placed is not unplaced":          after.Placed() && after.Unplaced(),
		"an ended record is not visible":         after.Ended() && after.Visible(),
		"work needs a node":                      after.NeedsWork() && after.Placement.Node == "",
		"ended and Gone records need no look":    (after.Ended() || after.Gone()) && !after.AttentionAt().IsZero(),
		"the fixed part is fixed": before.ID != after.ID || before.Tenant != after.Tenant || !before.CreatedAt.Equal(after.CreatedAt) ||
			!reflect.DeepEqual(before.Spec, after.Spec),
	} {
		if broken {
			w.t.Errorf("%s broke an invariant: %s\nbefore %+v\nafter  %+v", move, what, *before, *after)
		}
	}
}

func newWalk(t *testing.T, accepted, replace bool) *walk {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	n := sandbox.New{ID: "a", Accepted: accepted, Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"x"}, Timeout: time.Minute, Replace: replace}}
	return &walk{t: t, r: sandbox.NewRecord(n, now, sandbox.Origin{}), now: now}
}

func TestRandomTransitionsKeepTheInvariants(t *testing.T) {
	t.Parallel()
	const seeds, steps = 1000, 60
	ended, paused, failed := 0, 0, 0
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := newWalk(t, seed%2 == 0, seed%3 == 0)
		for range steps {
			// Gone and the end of it are drawn less often, so that there is a life before them.
			choice, x := byte(rng.IntN(len(moves))), byte(rng.IntN(256))
			if name := moves[choice].name; (name == "set gone" || name == "expire" || name == "fail unplaced") && rng.IntN(8) > 0 {
				continue
			}
			w.step(choice, x)
			if sandbox.StateOf(&w.r) == sandbox.StatePaused {
				paused++
			}
		}
		if w.r.Ended() {
			ended++
		}
		if w.r.FailedCreate() {
			failed++
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if ended == 0 || paused == 0 || failed == 0 {
		t.Errorf("the walks saw %d ends, %d pauses and %d failed creates; want some of each", ended, paused, failed)
	}
}

func FuzzTransitions(f *testing.F) {
	f.Add([]byte{6, 0, 8, 161, 1, 1, 8, 162, 2, 0, 10, 0}, true)
	f.Add([]byte{7, 0, 0, 0, 2, 0}, false)
	f.Fuzz(func(t *testing.T, choices []byte, accepted bool) {
		w := newWalk(t, accepted, len(choices)%2 == 0)
		for i := 0; i+1 < len(choices) && i < 400; i += 2 {
			w.step(choices[i], choices[i+1])
		}
	})
}

func TestRenewBeyondTheYear9999(t *testing.T) {
	t.Parallel()
	w := newWalk(t, true, false)
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	if err := w.r.Renew(last, w.now); err != nil {
		t.Errorf("the last second: %v", err)
	}
	if err := w.r.Renew(last.In(time.FixedZone("", -3600)).Add(time.Second), w.now); err == nil {
		t.Error("a year of five digits was accepted")
	}
}
