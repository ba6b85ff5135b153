package usecase

import (
	"context"
	"time"

	"opensandbox/libs/sandbox"
)

// reread is how often a waiter reads without a hint: hints may be lost.
const reread = 250 * time.Millisecond

// HintedWaiter is the Waiter of a real api: it subscribes before it reads, so that no change can fall between the two.
type HintedWaiter struct {
	Store sandbox.Queries
	Hints sandbox.Hints
	// Draining ends all waits when it is closed.
	Draining <-chan struct{}
}

// Await implements Waiter.
func (w HintedWaiter) Await(ctx context.Context, id sandbox.ID, timeout time.Duration, done func(*sandbox.Record) bool) (sandbox.Record, bool, error) {
	changed, cancel := w.Hints.Subscribe(sandbox.RecordTopic(id))
	defer cancel()
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	again := time.NewTicker(reread)
	defer again.Stop()
	for {
		r, err := w.Store.Get(ctx, id)
		if err != nil {
			return r, false, err
		}
		if done(&r) {
			return r, true, nil
		}
		select {
		case <-changed:
		case <-again.C:
		case <-limit.C:
			return r, false, nil
		case <-w.Draining:
			return r, false, nil
		case <-ctx.Done():
			return r, false, ctx.Err()
		}
	}
}
