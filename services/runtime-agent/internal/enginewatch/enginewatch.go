// Package enginewatch listens to the engine, so that what happens to a container without our doing is noticed at once, and compares
// everything from time to time, because events can be missed.
package enginewatch

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
)

// Times of the watch.
const (
	// CompareEvery is how often everything is compared without a reason.
	CompareEvery = 60 * time.Second
	reconnect    = 250 * time.Millisecond
)

// Queue takes ids that need a step.
type Queue interface{ Enqueue(ids ...sandbox.ID) }

// Outages is told when the engine could not be reached.
type Outages interface{ EngineAway(from, to time.Time) }

// Comparer finds differences between the engine and the store.
type Comparer interface {
	Compare(ctx context.Context, now time.Time) (ids []sandbox.ID, again time.Time, err error)
}

// History keeps what has happened.
type History interface{ Add(e executor.Event) }

// Watch listens to one engine. Use New.
type Watch struct {
	engine  executor.Watcher
	queue   Queue
	outages Outages
	compare Comparer
	history History
	log     *slog.Logger

	away atomic.Bool
	hint chan struct{}
}

// New returns a Watch. engine may be nil for a runtime without events.
func New(engine executor.Watcher, queue Queue, outages Outages, compare Comparer, history History, log *slog.Logger) *Watch {
	return &Watch{engine: engine, queue: queue, outages: outages, compare: compare, history: history, log: log, hint: make(chan struct{}, 1)}
}

// Away reports whether the engine could not be reached when it was last tried.
func (w *Watch) Away() bool { return w.away.Load() }

// Hint wakes the comparing loop when the connection to the engine is new.
func (w *Watch) Hint() <-chan struct{} { return w.hint }

// Step compares once; it is the step of a loop.
func (w *Watch) Step(ctx context.Context) (time.Time, error) {
	ids, again, err := w.compare.Compare(ctx, time.Now())
	w.queue.Enqueue(ids...)
	return again, err
}

// event keeps an event, and has somebody look at the sandbox unless it is about what was just done on purpose.
func (w *Watch) event(e executor.Event) {
	w.history.Add(e)
	if e.Unasked() {
		w.queue.Enqueue(e.ID)
	}
}

// Run listens until ctx ends, connecting again whenever the connection breaks. It returns nil.
func (w *Watch) Run(ctx context.Context) error {
	if w.engine == nil {
		<-ctx.Done()
		return nil
	}
	var lost time.Time
	for ctx.Err() == nil {
		err := w.engine.Watch(ctx, func() {
			if !lost.IsZero() {
				w.outages.EngineAway(lost, time.Now())
				w.log.InfoContext(ctx, "the container engine answers again")
				lost = time.Time{}
			}
			w.away.Store(false)
			select {
			case w.hint <- struct{}{}:
			default:
			}
		}, w.event)
		if ctx.Err() != nil {
			return nil
		}
		if lost.IsZero() {
			lost = time.Now()
			w.log.ErrorContext(ctx, "the connection to the container engine broke; sandboxes are kept and looked at again when it answers", "error", err)
		}
		w.away.Store(true)
		select {
		case <-ctx.Done():
		case <-time.After(reconnect):
		}
	}
	return nil
}
