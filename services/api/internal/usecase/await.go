package usecase

import (
	"context"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// reread is how often a waiter reads without a hint: hints may be lost.
const reread = 250 * time.Millisecond

// HintedWaiter is the Waiter of a real api: it subscribes before it reads, so that no change can fall between the two. A store that is
// away is asked again until the wait is over: what was waited for may have happened meanwhile.
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
	var last sandbox.Record
	for {
		r, err := w.Store.Get(ctx, id)
		switch {
		case err != nil && !fault.Is(err, fault.Unavailable):
			return last, false, err
		case err == nil && done(&r):
			return r, true, nil
		case err == nil:
			last = r
		}
		if over(limit.C, w.Draining) {
			// Said on its own: a read that took long leaves several channels ready, of which a select takes any.
			return last, false, err
		}
		select {
		case <-changed:
		case <-again.C:
		case <-limit.C:
			return last, false, err
		case <-w.Draining:
			return last, false, err
		case <-ctx.Done():
			return last, false, ctx.Err()
		}
	}
}

// over reports whether a wait has come to its end.
func over(limit <-chan time.Time, draining <-chan struct{}) bool {
	select {
	case <-limit:
		return true
	case <-draining:
		return true
	default:
		return false
	}
}
