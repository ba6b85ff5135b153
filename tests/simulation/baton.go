// Package simulation drives the whole control plane on a store and engines in memory, one line of execution at a time, by a seed: who
// runs next, what crashes or is cut off where, which hints are lost, how time passes. The same seed gives the same run, so whatever a run
// shows can be looked at again.
package simulation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"time"
)

// world is one simulated run.
type world struct {
	seed  uint64
	rng   *rand.Rand
	start time.Time
	// now is the true time. The store's clock may be off by storeSkew.
	now time.Time
	// elapsed is now since start. Threads wait by it, since each step looks at all of them.
	elapsed    time.Duration
	storeSkew  time.Duration
	clockSteps bool
	// stepped is when the store's clock was last set, counted like elapsed.
	stepped time.Duration
	// store is the way of everybody to the store; each process has one of its own besides.
	network link

	threads []*thread
	// ready is kept between steps to spare its allocation.
	ready []*thread
	// current is the thread that holds the baton.
	current *thread
	// trace is what was said last, or all of it.
	trace     []string
	keepTrace bool
	digest    uint64
	steps     int
	crashes   int
	failure   error
	// lossy is the share of hints that are lost.
	lossy float64
}

// link is a way to the store that can be cut.
type link struct {
	down bool
	// since is when it was last cut or mended.
	since time.Time
}

// process is what crashes and stops as a whole: threads that share memory.
type process struct {
	name    string
	crashed bool
	// began is when it was started.
	began time.Time
	// stoppedUntil, since the start of the world, keeps the threads from running, as SIGSTOP does.
	stoppedUntil time.Duration
	// restart starts the process again after a crash; nil for those that do not come back.
	restart func()
	// link belongs to the machine and outlives the process; nil for those that do not use the store.
	link *link
	// renewed is when the last renewal of a lease was sent that this process knows to have succeeded.
	renewed time.Time
	// stopping is until when it may still be stopping its sandboxes after it was cut off.
	stopping time.Time
	// trap happens when the process next starts or pauses something on an engine, before it can tell anybody.
	trap func()
}

// thread is one line of execution. It runs only while it holds the baton.
type thread struct {
	w    *world
	proc *process
	name string
	// wakeAt, since the start of the world, and hint are what the thread waits for.
	wakeAt time.Duration
	hint   <-chan struct{}
	// local says that the hint comes from within the machine, where none is lost.
	local bool

	// resume hands the baton over and returns when it comes back, false when the thread has ended. pass gives it back.
	resume func() (struct{}, bool)
	pass   func(struct{}) bool
	over   bool
}

// crashed is the panic that ends the threads of a process that crashes.
type crashed struct{}

func newWorld(seed uint64) *world {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &world{seed: seed, rng: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15)), start: start, now: start, lossy: 0.1, network: link{since: start}}
}

// storeNow is the store's clock.
func (w *world) storeNow() time.Time { return w.now.Add(w.storeSkew) }

// reaches reports whether a process reaches the store.
func (w *world) reaches(p *process) bool { return !w.network.down && (p.link == nil || !p.link.down) }

// reachedSince returns from when on a process that reaches the store has done so without a gap.
func (w *world) reachedSince(p *process) time.Time {
	since := w.network.since
	if p.link != nil && p.link.since.After(since) {
		since = p.link.since
	}
	if p.began.After(since) {
		since = p.began
	}
	return since
}

// stoppedUntil returns until when a process is or was stopped; the start of the world if it never was.
func (w *world) stoppedUntil(p *process) time.Time { return w.start.Add(p.stoppedUntil) }

// set cuts or mends a link.
func (w *world) set(l *link, down bool) {
	if l.down != down {
		l.down, l.since = down, w.now
	}
}

// say adds a line to the trace.
func (w *world) say(who, format string, args ...any) {
	line := fmt.Sprintf("%9.3f %-12s %s", w.now.Sub(w.start).Seconds(), who, fmt.Sprintf(format, args...))
	for i := range len(line) { // FNV-1a (Fowler, Noll, Vo)
		w.digest = (w.digest ^ uint64(line[i])) * 0x100000001b3
	}
	if len(w.trace) == 2*traceLines && !w.keepTrace {
		w.trace = append(w.trace[:0], w.trace[traceLines:]...)
	}
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
	if p.began.IsZero() {
		p.began = w.now
	}
	t := &thread{w: w, proc: p, name: name}
	// A coroutine costs far less than a goroutine that waits on channels. It is run to its end by drain, so nothing has to stop it.
	t.resume, _ = iter.Pull(func(pass func(struct{}) bool) {
		t.pass = pass
		defer func() {
			if x := recover(); x != nil {
				if _, expected := x.(crashed); !expected {
					w.fail("%s/%s panicked: %v", p.name, name, x)
				}
			}
		}()
		t.mayCrash()
		body(t)
	})
	w.threads = append(w.threads, t)
}

// yield gives the baton away and comes back when the thread is chosen again.
func (t *thread) yield() {
	t.pass(struct{}{})
	t.mayCrash()
}

func (t *thread) mayCrash() {
	if t.proc.crashed {
		panic(crashed{})
	}
}

// sleep waits for a time, or for a hint of the store if one is given.
func (t *thread) sleep(d time.Duration, hint <-chan struct{}) {
	t.wakeAt, t.hint, t.local = t.w.elapsed+max(d, time.Microsecond), hint, false
	t.yield()
}

// rest waits for a time or for a hint from within the machine.
func (t *thread) rest(d time.Duration, hint <-chan struct{}) {
	t.wakeAt, t.hint, t.local = t.w.elapsed+max(d, time.Microsecond), hint, true
	t.yield()
}

// step lets one thread run to its next yield. It returns false when no thread is left.
func (w *world) step() bool {
	ready := w.ready[:0]
	soonest := time.Duration(math.MaxInt64)
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
		soonest = min(soonest, max(t.wakeAt, t.proc.stoppedUntil))
	}
	w.threads, w.ready = alive, ready
	if len(alive) == 0 {
		return false
	}
	if len(ready) == 0 {
		w.pass(soonest - w.elapsed)
		return true
	}
	t := ready[w.rng.IntN(len(ready))]
	t.wakeAt, t.hint = 0, nil
	w.pass(time.Duration(w.rng.IntN(2000)) * time.Microsecond)
	w.steps++
	w.current = t
	_, more := t.resume()
	t.over = !more
	return true
}

func (w *world) canRun(t *thread) bool {
	if t.proc.crashed {
		return true // to unwind
	}
	if w.elapsed < t.proc.stoppedUntil {
		return false
	}
	if w.elapsed >= t.wakeAt {
		return true
	}
	if len(t.hint) == 0 {
		return false
	}
	<-t.hint
	// A process that is cut off does not hear the store.
	return t.local || w.rng.Float64() >= w.lossy && w.reaches(t.proc)
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	w.elapsed += d
	w.now = w.start.Add(w.elapsed)
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

// drain ends all threads, so that a finished run leaves nothing behind.
func (w *world) drain() {
	for range 100_000 {
		for _, t := range w.threads {
			t.proc.crashed = true
			t.proc.restart = nil
		}
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

// oneIn reports true once in n times.
func (w *world) oneIn(n int) bool { return w.rng.IntN(n) == 0 }

var errUnclassified = errors.New("something went wrong in the engine")

// background is the context of all simulated calls: cancellation is a crash here.
func background() context.Context { return context.Background() }
