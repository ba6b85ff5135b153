// Package deadline ends sandboxes in time, and never before.
package deadline

import (
	"context"
	"log/slog"
	"time"

	"opensandbox/libs/sandbox"
)

// Store is what deadlines need of the store.
type Store interface {
	ExpireDue(ctx context.Context, notAfter time.Time, max int) ([]sandbox.ID, error)
	NextDeadline(ctx context.Context) (at time.Time, ok bool, err error)
	Now(ctx context.Context) (time.Time, error)
}

// Metrics is what the ends in time tell of themselves.
type Metrics interface {
	// Expired is called at once after the decision to end count sandboxes, the earliest of which was due so long ago, by the store's clock.
	Expired(count int, lateness time.Duration)
}

const (
	batch = 500
	// breath is the least time between two steps that end something. It makes one decision of many that are due one after the other.
	breath = 10 * time.Millisecond
	// behind is the shortest and lag the longest pause before a deadline is tried again that has come by the caller's clock and not by the
	// store's.
	behind = 5 * time.Millisecond
	lag    = time.Second
)

// Expirer is a step function. Step must not be called concurrently.
type Expirer struct {
	store   Store
	metrics Metrics
	log     *slog.Logger
}

// New returns an Expirer.
func New(store Store, metrics Metrics, log *slog.Logger) *Expirer {
	return &Expirer{store: store, metrics: metrics, log: log}
}

// Step sets everything Gone that is due at now, the caller's slewed time, and returns when to step again, by the same clock; zero
// when no deadline is left.
// The store uses the earlier of now and its own clock, so that neither of two clocks alone can end a sandbox early.
func (e *Expirer) Step(ctx context.Context, now time.Time) (time.Time, error) {
	ended := 0
	for {
		// The head of the deadlines is asked for last before each sleep: the store gives a hint when a deadline comes before it.
		at, ok, err := e.store.NextDeadline(ctx)
		if err != nil || !ok {
			return time.Time{}, err
		}
		if at.After(now) {
			if ended > 0 && at.Before(now.Add(breath)) {
				at = now.Add(breath)
			}
			return at, nil
		}
		ids, err := e.store.ExpireDue(ctx, now, batch)
		if err != nil {
			return time.Time{}, err
		}
		if len(ids) == 0 {
			return e.notYet(ctx, at, now)
		}
		e.log.InfoContext(ctx, "sandboxes expired", "count", len(ids))
		ended += len(ids)
		theirs, err := e.store.Now(ctx)
		if err != nil {
			return time.Time{}, err
		}
		e.metrics.Expired(len(ids), theirs.Sub(at))
	}
}

// notYet returns when to try again a deadline that has come by now and was not taken: the store's clock is behind, or another scheduler
// has just been there.
func (e *Expirer) notYet(ctx context.Context, at, now time.Time) (time.Time, error) {
	theirs, err := e.store.Now(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return now.Add(min(max(at.Sub(theirs), behind), lag)), nil
}
