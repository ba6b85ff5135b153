// Package worker is the thin loop around converging: it finds out which sandboxes need a step, runs the steps of one sandbox one
// after the other and those of different ones side by side, and holds no goroutine or timer for a sandbox that needs nothing.
package worker

import (
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/converge"
)

// Stepper is what the loop drives.
type Stepper interface {
	Step(ctx context.Context, now time.Time, id sandbox.ID) (converge.Outcome, error)
}

// Source is where work is found.
type Source interface {
	Work(ctx context.Context, node string, max int) ([]sandbox.Task, error)
	sandbox.Hints
}

// Queue is told how much there is to do: how many sandboxes need work, and since when the one does that has waited longest (zero: none).
type Queue interface {
	Queue(depth int, oldest time.Time)
}

// News tells the steps in progress that their sandbox has got another task; see GiveUp.
type News interface {
	Publish(topics ...sandbox.Topic)
}

// Times of the loop.
const (
	// tick is how often the work set is read without a hint.
	tick = time.Second
	// retry is the pause after a step that could not reach the store. It doubles up to maxRetry.
	retry    = 250 * time.Millisecond
	maxRetry = 4 * time.Second
	// nudge bounds a pause that a step asked for while news came in.
	nudge = 20 * time.Millisecond
	// batch bounds one reading of the work set.
	batch = 1000
	// parallel bounds the sandboxes that are being stepped at once. Heavy engine calls have a lower bound of their own; this one
	// leaves room for kills and for waiting.
	parallel = 64
)

// Worker runs steps. Use New.
type Worker struct {
	node   string
	step   Stepper
	source Source
	queue  Queue
	news   News
	log    *slog.Logger
	// since is when each sandbox of the work set was first seen in it. It belongs to Run.
	since map[sandbox.ID]time.Time

	mu sync.Mutex
	// away says that the work set could not be read when it was last tried; stuck, that steps have failed since one last succeeded that had
	// failed before. A store may well let itself be read and not be written.
	away, stuck bool

	state map[sandbox.ID]*item
	ready []sandbox.ID
	later timers
	wake  chan struct{}
}

// item is a sandbox that is waiting for a step or in one.
type item struct {
	running bool
	// dirty says that somebody asked for a step while one was running.
	dirty bool
	queue bool
	// since is the task that the step in progress, or the next one, has to see; 0 if it was not told of any.
	since uint64
	// fails counts the failed steps in a row.
	fails int
}

// New returns a Worker for a node. queue may be nil.
func New(node string, step Stepper, source Source, queue Queue, news News, log *slog.Logger) *Worker {
	return &Worker{node: node, step: step, source: source, queue: queue, news: news, log: log, state: map[sandbox.ID]*item{}, wake: make(chan struct{}, 1)}
}

// Enqueue asks for a step of each id soon. Safe for concurrent use.
func (w *Worker) Enqueue(ids ...sandbox.ID) {
	w.mu.Lock()
	for _, id := range ids {
		w.enqueue(id)
	}
	w.mu.Unlock()
	w.poke()
}

func (w *Worker) enqueue(id sandbox.ID) {
	it := w.state[id]
	if it == nil {
		it = &item{}
		w.state[id] = it
	}
	switch {
	case it.running:
		it.dirty = true
	case !it.queue:
		it.queue = true
		w.ready = append(w.ready, id)
	}
}

func (w *Worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, then waits for the steps in progress. It returns nil.
func (w *Worker) Run(ctx context.Context) error {
	hint, cancel := w.source.Subscribe(sandbox.WorkTopic(w.node))
	defer cancel()
	steps := steppers{run: func(id sandbox.ID) { w.run(ctx, id) }, jobs: make(chan sandbox.ID)}
	defer steps.end()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var readAt time.Time
	for {
		if now := time.Now(); !now.Before(readAt) {
			w.read(ctx)
			readAt = now.Add(tick)
		}
		for id, ok := w.next(); ok; id, ok = w.next() {
			if !steps.give(ctx, id) {
				return nil
			}
		}
		timer.Reset(w.sleep(readAt))
		select {
		case <-ctx.Done():
			return nil
		case <-hint:
			readAt = time.Time{}
		case <-w.wake:
		case <-timer.C:
		}
	}
}

// steppers are the goroutines that run steps, as many as there was ever work for at once, up to parallel. They are kept because a step goes
// deep: a new goroutine for each spent a twelfth of an agent's time on growing its stack.
type steppers struct {
	run  func(id sandbox.ID)
	jobs chan sandbox.ID
	n    int
	all  sync.WaitGroup
}

// give hands a sandbox to one of them, and waits for one as long as ctx allows.
func (s *steppers) give(ctx context.Context, id sandbox.ID) bool {
	select {
	case s.jobs <- id:
		return true
	default:
	}
	if s.n < parallel {
		s.n++
		s.all.Go(func() {
			for id := range s.jobs {
				s.run(id)
			}
		})
	}
	select {
	case s.jobs <- id:
		return true
	case <-ctx.Done():
		return false
	}
}

// end returns when the steps in progress have ended.
func (s *steppers) end() {
	close(s.jobs)
	s.all.Wait()
}

// read puts the work set into the queue.
func (w *Worker) read(ctx context.Context) {
	tasks, err := w.source.Work(ctx, w.node, batch)
	if err != nil {
		if ctx.Err() == nil {
			w.storeAway(ctx, err)
		}
		return
	}
	w.storeBack(ctx)
	w.tell(tasks)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range tasks {
		it := w.state[t.ID]
		switch {
		case it == nil:
			w.enqueue(t.ID)
			it = w.state[t.ID]
		case it.running && it.since < t.Since:
			w.enqueue(t.ID)
			w.news.Publish(sandbox.RecordTopic(t.ID))
		default:
			// In a step that has begun since, queued, or waiting for its time.
		}
		it.since = t.Since
	}
}

// tell says how much there is to do.
func (w *Worker) tell(tasks []sandbox.Task) {
	if w.queue == nil {
		return
	}
	now := time.Now()
	since, oldest := make(map[sandbox.ID]time.Time, len(tasks)), time.Time{}
	for _, t := range tasks {
		at, known := w.since[t.ID]
		if !known {
			at = now
		}
		since[t.ID] = at
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	w.since = since
	w.queue.Queue(len(tasks), oldest)
}

// storeAway notes a store that does not answer, with one line in the log.
func (w *Worker) storeAway(ctx context.Context, err error) {
	w.mu.Lock()
	was := w.away
	w.away = true
	w.mu.Unlock()
	if !was {
		w.log.WarnContext(ctx, "the store does not answer; sandboxes are left as they are until it does", "error", err)
	}
}

// storeBack lets everything that waits for the store try again at once.
func (w *Worker) storeBack(ctx context.Context) {
	w.mu.Lock()
	was := w.away
	w.away = false
	if was {
		for _, t := range w.later {
			w.enqueue(t.id)
		}
		w.later = nil
	}
	w.mu.Unlock()
	if was {
		w.log.InfoContext(ctx, "the store answers again")
	}
}

// next takes a sandbox that may be stepped now.
func (w *Worker) next() (sandbox.ID, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for now := time.Now(); len(w.later) > 0 && !now.Before(w.later[0].at); {
		w.enqueue(heap.Pop(&w.later).(timed).id)
	}
	if len(w.ready) == 0 {
		return "", false
	}
	id := w.ready[0]
	w.ready = w.ready[1:]
	it := w.state[id]
	it.queue, it.running = false, true
	return id, true
}

// run steps one sandbox until it is done or has to wait.
func (w *Worker) run(ctx context.Context, id sandbox.ID) {
	for {
		out, err := w.step.Step(ctx, time.Now(), id)
		pause := out.Again
		if err != nil {
			out.Done, pause = false, w.failed(sandbox.WithOrigin(ctx, out.For), id, err)
		} else {
			w.succeeded(ctx, id)
		}
		if w.settle(ctx, id, out.Done, pause) {
			return
		}
	}
}

// failed returns how long to wait after a step that could not reach the store.
func (w *Worker) failed(ctx context.Context, id sandbox.ID, err error) time.Duration {
	w.mu.Lock()
	it := w.state[id]
	it.fails++
	fails := it.fails
	stuck := w.stuck
	away := fault.Is(err, fault.Unavailable) || errors.Is(err, context.DeadlineExceeded)
	if away && ctx.Err() == nil {
		w.stuck = true
	}
	w.mu.Unlock()
	switch {
	case ctx.Err() != nil, away && stuck:
	case away:
		w.log.WarnContext(ctx, "steps do not reach the store; trying until they do", "sandbox", id, "error", err)
	case fails&(fails-1) == 0: // the first time, and ever more rarely
		w.log.WarnContext(ctx, "step failed; trying again", "sandbox", id, "times", fails, "error", err)
	}
	return min(maxRetry, retry<<min(fails-1, 10))
}

func (w *Worker) succeeded(ctx context.Context, id sandbox.ID) {
	w.mu.Lock()
	it := w.state[id]
	over := w.stuck && it.fails > 0
	if over {
		w.stuck = false
	}
	it.fails = 0
	w.mu.Unlock()
	if over {
		w.log.InfoContext(ctx, "steps reach the store again")
	}
}

// settle files the outcome of a step and reports whether the sandbox leaves its goroutine.
func (w *Worker) settle(ctx context.Context, id sandbox.ID, done bool, pause time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	it := w.state[id]
	switch {
	case ctx.Err() != nil:
		delete(w.state, id)
		return true
	case it.dirty && (done || pause <= 0):
		it.dirty = false
		return false
	case done:
		delete(w.state, id)
		return true
	case pause <= 0:
		return false
	}
	if it.dirty && it.fails == 0 { // somebody has news: do not let it wait for a long pause, nor make a busy loop of short ones
		pause = min(pause, nudge)
	}
	it.running, it.dirty = false, false
	heap.Push(&w.later, timed{time.Now().Add(pause), id})
	w.poke()
	return true
}

func (w *Worker) sleep(readAt time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.later) > 0 && w.later[0].at.Before(readAt) {
		readAt = w.later[0].at
	}
	return max(0, time.Until(readAt))
}

// timed is a sandbox that waits for its time.
type timed struct {
	at time.Time
	id sandbox.ID
}

type timers []timed

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].at.Before(t[j].at) }
func (t timers) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *timers) Push(x any)        { *t = append(*t, x.(timed)) }
func (t *timers) Pop() any {
	old := *t
	x := old[len(old)-1]
	*t = old[:len(old)-1]
	return x
}
