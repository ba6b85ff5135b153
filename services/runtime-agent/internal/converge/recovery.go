package converge

import (
	"context"
	"time"

	"opensandbox/libs/sandbox"
)

// Recovery tells how far the store is to be believed after it was lost or went back. Safe for concurrent use.
type Recovery interface {
	// Settled asks the store whether what it said before the call may condemn a container.
	Settled(ctx context.Context) (bool, error)
	// Waits reports whether a record that has no container yet waits since before the store was recovered, and whether the recovery goes on.
	Waits(r *sandbox.Record) (before, going bool)
	// Fresh makes Waits know what the store says now.
	Fresh(ctx context.Context) error
	// Get reads a record, and makes Waits know what the store says after that.
	Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error)
	// Saw is told of each record that was read, and Missed of each that was not found. Both report whether that shows that the store has gone
	// back: a version is older than one that was seen, or a record that was wanted is no more.
	Saw(ctx context.Context, r *sandbox.Record) (wentBack bool, err error)
	Missed(ctx context.Context, id sandbox.ID) (wentBack bool, err error)
	// Unknown says that there is a container older than the store, of which the store knows nothing.
	Unknown(ctx context.Context) error
}

// believed is a store that is never lost.
type believed struct {
	Store interface {
		Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error)
	}
}

func (believed) Settled(context.Context) (bool, error)      { return true, nil }
func (believed) Waits(*sandbox.Record) (before, going bool) { return false, false }
func (believed) Fresh(context.Context) error                { return nil }
func (b believed) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return b.Store.Get(ctx, id)
}
func (believed) Saw(context.Context, *sandbox.Record) (bool, error) { return false, nil }
func (believed) Missed(context.Context, sandbox.ID) (bool, error)   { return false, nil }
func (believed) Unknown(context.Context) error                      { return nil }

// waitsFromBefore deals with a record that waits for its container since before the store was recovered: what became of that wait is not
// known, so nothing is made for it. handled is false for any other.
func (c *Converger) waitsFromBefore(ctx context.Context, r *sandbox.Record) (out Outcome, handled bool, err error) {
	before, going := c.deps.Recovery.Waits(r)
	switch {
	case !before:
		return again, false, nil
	case going:
		return after(time.Second), true, nil
	}
	out, err = c.failCreate(ctx, r, sandbox.ReasonStoreRecovered, sandbox.RecoveredMessage, nil)
	return out, true, err
}
