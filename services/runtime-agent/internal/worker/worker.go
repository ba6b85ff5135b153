// Package worker is the thin loop around converging: it finds out which sandboxes need a step, runs the steps of one sandbox one
// after the other and those of different ones side by side, and holds no goroutine or timer for a sandbox that needs nothing.
package worker

import (
	"container/heap"
	"context"
	"log/slog"
	"sync"
	"time"

	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/converge"
)

// Stepper is what the loop drives.
type Stepper interface {
	Step(ctx context.Context, now time.Time, id sandbox.ID) (converge.Outcome, error)
}

// Source is where work is found.
type Source interface {
	Work(ctx context.Context, node string, max int) ([]sandbox.ID, error)
	sandbox.Hints
}

// Times of the loop.
const (
	// tick is how often the work set is read without a hint.
	tick = time.Second
	// retry is the pause after a step that could not reach the store.
	retry = 250 * time.Millisecond
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
	log    *slog.Logger

	mu    sync.Mutex
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
}

// New returns a Worker for a node.
func New(node string, step Stepper, source Source, log *slog.Logger) *Worker {
	return &Worker{node: node, step: step, source: source, log: log, state: map[sandbox.ID]*item{}, wake: make(chan struct{}, 1)}
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
	var steps sync.WaitGroup
	defer steps.Wait()
	slots := make(chan struct{}, parallel)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var readAt time.Time
	for {
		if now := time.Now(); !now.Before(readAt) {
			w.read(ctx)
			readAt = now.Add(tick)
		}
		for id, ok := w.next(); ok; id, ok = w.next() {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			steps.Go(func() {
				defer func() { <-slots }()
				w.run(ctx, id)
			})
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

// read puts the work set into the queue.
func (w *Worker) read(ctx context.Context) {
	ids, err := w.source.Work(ctx, w.node, batch)
	if err != nil {
		if ctx.Err() == nil {
			w.log.WarnContext(ctx, "cannot read the work set", "error", err)
		}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		if it := w.state[id]; it != nil && !it.running {
			continue // queued, or waiting for its time
		}
		w.enqueue(id)
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
			if ctx.Err() == nil {
				w.log.WarnContext(ctx, "step failed; trying again", "sandbox", id, "error", err)
			}
			out.Done, pause = false, retry
		}
		if w.settle(ctx, id, out.Done, pause) {
			return
		}
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
	if it.dirty { // somebody has news: do not let it wait for a long pause, nor make a busy loop of short ones
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
