package fakeexec

import (
	"context"
	"slices"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
)

// Describe returns the facts, which SetFacts changes.
func (e *Engine) Describe(context.Context) (executor.Facts, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.facts, e.fail("Describe")
}

// Pause freezes.
func (e *Engine) Pause(_ context.Context, r executor.Ref) error {
	return e.move(r, Pause, executor.Running, executor.Paused, WasPaused)
}

// Unpause goes on.
func (e *Engine) Unpause(_ context.Context, r executor.Ref) error {
	return e.move(r, Unpause, executor.Paused, executor.Running, WasResumed)
}

func (e *Engine) move(r executor.Ref, m Method, from, to executor.Phase, w What) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fail(m); err != nil {
		return err
	}
	b := e.boxes[r.ID]
	switch {
	case b == nil || b.in.Epoch != r.Epoch || (b.in.Phase != from && b.in.Phase != to):
		return fault.New(fault.Conflict, "the sandbox does not run")
	case b.in.Phase == to:
		return nil
	}
	b.in.Phase = to
	e.note(r, w)
	return nil
}

// Tail returns the last lines.
func (e *Engine) Tail(_ context.Context, r executor.Ref, n int) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fail("Tail"); err != nil {
		return nil, err
	}
	if b := e.boxes[r.ID]; b != nil && b.in.Epoch == r.Epoch {
		return slices.Clone(b.logs[max(0, len(b.logs)-n):]), nil
	}
	return nil, nil
}

// Watch tells of what happens until ctx ends or the engine stops.
func (e *Engine) Watch(ctx context.Context, ready func(), fn func(executor.Event)) error {
	e.mu.Lock()
	if err := e.fail("Watch"); err != nil {
		e.mu.Unlock()
		return err
	}
	w := &watcher{events: make(chan executor.Event, 256), broken: make(chan struct{})}
	key := e.next
	e.next++
	e.watchers[key] = w
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.watchers, key)
	}()
	ready()
	for {
		select {
		case ev := <-w.events:
			fn(ev)
		case <-w.broken:
			return fault.New(fault.Unavailable, "the connection to the engine broke")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
