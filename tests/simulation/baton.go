// Package simulation drives the whole control plane on a store and engines in memory, one goroutine at a time, by a seed: who runs next,
// what crashes where, which hints are lost, how time passes. The same seed gives the same run, so whatever a run shows can be looked at
// again.
package simulation

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// world is one simulated run.
type world struct {
	seed  uint64
	rng   *rand.Rand
	start time.Time
	// now is the true time. The store's clock may be off by storeSkew.
	now        time.Time
	storeSkew  time.Duration
	clockSteps bool
	// taken are ports that somebody else has bound.
	taken map[int]bool

	threads []*thread
	// current is the thread that holds the baton.
	current *thread
	trace   []string
	digest  uint64
	steps   int
	crashes int
	failure error
	// lossy is the share of hints that are lost.
	lossy float64
}

// process is what crashes and stops as a whole: threads that share memory.
type process struct {
	name    string
	crashed bool
	// stoppedUntil keeps the threads from running, as SIGSTOP does.
	stoppedUntil time.Time
	// restart starts the process again after a crash; nil for those that do not come back.
	restart func()
}

// thread is one line of execution. It runs only while it holds the baton.
type thread struct {
	w    *world
	proc *process
	name string
	// wakeAt and hint are what the thread waits for; a zero wakeAt means that it can run.
	wakeAt time.Time
	hint   <-chan struct{}

	run  chan struct{}
	back chan struct{}
	over bool
}

// crashed is the panic that ends the threads of a process that crashes.
type crashed struct{}

func newWorld(seed uint64) *world {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &world{seed: seed, taken: map[int]bool{}, rng: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)), start: start, now: start, lossy: 0.1}
}

// storeNow is the store's clock.
func (w *world) storeNow() time.Time { return w.now.Add(w.storeSkew) }

// say adds a line to the trace.
func (w *world) say(who, format string, args ...any) {
	line := fmt.Sprintf("%9.3f %-12s %s", w.now.Sub(w.start).Seconds(), who, fmt.Sprintf(format, args...))
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%d%s", w.digest, line) // a hash does not fail
	w.digest = h.Sum64()
	w.trace = append(w.trace, line)
}

// fail notes the first broken promise.
func (w *world) fail(format string, args ...any) {
	if w.failure == nil {
		w.failure = fmt.Errorf(format, args...)
		w.say("CHECK", "%v", w.failure)
	}
}

// spawn adds a thread to a process. It runs when it is first chosen.
func (w *world) spawn(p *process, name string, body func(*thread)) {
	t := &thread{w: w, proc: p, name: name, run: make(chan struct{}), back: make(chan struct{})}
	w.threads = append(w.threads, t)
	go func() {
		<-t.run
		defer func() {
			t.over = true
			if x := recover(); x != nil {
				if _, expected := x.(crashed); !expected {
					w.fail("%s/%s panicked: %v", p.name, name, x)
				}
			}
			t.back <- struct{}{}
		}()
		t.mayCrash()
		body(t)
	}()
}

// yield gives the baton away and comes back when the thread is chosen again.
func (t *thread) yield() {
	t.back <- struct{}{}
	<-t.run
	t.mayCrash()
}

func (t *thread) mayCrash() {
	if t.proc.crashed {
		panic(crashed{})
	}
}

// sleep waits for a time, or for a hint if one is given.
func (t *thread) sleep(d time.Duration, hint <-chan struct{}) {
	t.wakeAt, t.hint = t.w.now.Add(max(d, time.Microsecond)), hint
	t.yield()
}

// step lets one thread run to its next yield. It returns false when no thread is left.
func (w *world) step() bool {
	var ready []*thread
	var soonest time.Time
	alive := w.threads[:0]
	for _, t := range w.threads {
		if t.over {
			continue
		}
		alive = append(alive, t)
		if w.canRun(t) {
			ready = append(ready, t)
			continue
		}
		at := t.wakeAt
		if t.proc.stoppedUntil.After(at) {
			at = t.proc.stoppedUntil
		}
		if soonest.IsZero() || at.Before(soonest) {
			soonest = at
		}
	}
	w.threads = alive
	if len(alive) == 0 {
		return false
	}
	if len(ready) == 0 {
		w.now = soonest
		return true
	}
	t := ready[w.rng.IntN(len(ready))]
	t.wakeAt, t.hint = time.Time{}, nil
	w.now = w.now.Add(time.Duration(w.rng.IntN(2000)) * time.Microsecond)
	w.steps++
	w.current = t
	t.run <- struct{}{}
	<-t.back
	return true
}

func (w *world) canRun(t *thread) bool {
	if t.proc.crashed {
		return true // to unwind
	}
	if w.now.Before(t.proc.stoppedUntil) {
		return false
	}
	if !w.now.Before(t.wakeAt) {
		return true
	}
	select {
	case <-t.hint:
		if w.rng.Float64() < w.lossy {
			return false
		}
		return true
	default:
		return false
	}
}

// crash ends a process now and starts it again after a while.
func (w *world) crash(p *process, comeBack time.Duration) {
	if p.crashed {
		return
	}
	w.say("chaos", "kill -9 %s", p.name)
	p.crashed = true
	w.crashes++
	w.later(comeBack, func() {
		if p.restart != nil {
			p.restart()
		}
	})
}

// later runs do after d in a process of its own.
func (w *world) later(d time.Duration, do func()) {
	w.spawn(&process{name: "later"}, "later", func(t *thread) {
		t.sleep(d, nil)
		do()
	})
}

// drain ends all threads, so that a finished run leaves no goroutine.
func (w *world) drain() {
	for _, t := range w.threads {
		t.proc.crashed = true
		t.proc.restart = nil
	}
	for range 100_000 {
		if !w.step() {
			return
		}
	}
}

// pick returns a random element.
func pick[T any](w *world, from []T) T { return from[w.rng.IntN(len(from))] }

// between returns a random duration.
func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rng.Int64N(int64(high-low)+1))
}

var errUnclassified = errors.New("something went wrong in the engine")

// background is the context of all simulated calls: cancellation is a crash here.
func background() context.Context { return context.Background() }
