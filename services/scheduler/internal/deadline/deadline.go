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
}

const batch = 500

// Expirer is a step function. Step must not be called concurrently.
type Expirer struct {
	store Store
	log   *slog.Logger
}

// New returns an Expirer.
func New(store Store, log *slog.Logger) *Expirer { return &Expirer{store: store, log: log} }

// Step sets everything Gone that is due at now, the caller's slewed time, and returns when to step again, by the same clock; zero
// when no deadline is left.
// The store uses the earlier of now and its own clock, so that neither of two clocks alone can end a sandbox early.
func (e *Expirer) Step(ctx context.Context, now time.Time) (time.Time, error) {
	for {
		ids, err := e.store.ExpireDue(ctx, now, batch)
		if err != nil {
			return time.Time{}, err
		}
		if len(ids) > 0 {
			e.log.InfoContext(ctx, "sandboxes expired", "count", len(ids))
		}
		if len(ids) < batch {
			break
		}
	}
	at, ok, err := e.store.NextDeadline(ctx)
	if err != nil || !ok {
		return time.Time{}, err
	}
	if !at.After(now) { // due by now and not taken: the store's clock is behind
		at = now.Add(behind)
	}
	return at, nil
}

// behind is the pause before a deadline is tried again that has come by this process's clock and not by the store's.
const behind = 5 * time.Millisecond
