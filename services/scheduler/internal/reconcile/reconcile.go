// Package reconcile does what processes that died have left undone: intents that failed and were not withdrawn, creates that
// failed and that nobody waits for any more, and ended records that have been kept long enough.
package reconcile

import (
	"context"
	"log/slog"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Store is what reconciling needs of the store.
type Store interface {
	Attention(ctx context.Context, max int) (due []sandbox.Record, next time.Time, err error)
	Purge(ctx context.Context, age time.Duration, max int) (int, error)
	SetDesired(ctx context.Context, id sandbox.ID, d sandbox.Desired, ifGeneration uint64) (sandbox.Record, error)
	SetGone(ctx context.Context, id sandbox.ID, reason string) (sandbox.Record, error)
}

// Metrics is what repairs tell of themselves.
type Metrics interface {
	// Repaired counts a repair of one of the kinds below.
	Repaired(kind string)
}

// Kinds of repairs. The end of a failed create that has been shown for long enough is none.
const (
	// KindWithdrawn: a failed pause or resume was taken back for an api that died.
	KindWithdrawn = "withdrawn_intent"
	// KindAbandoned: a failed create that no client knows of was removed for an api that died.
	KindAbandoned = "abandoned_create"
)

// KeepEnded is how long ended records stay readable for diagnostics.
const KeepEnded = time.Hour

const batch = 200

// Reconciler is a step function. Step must not be called concurrently.
type Reconciler struct {
	store   Store
	metrics Metrics
	log     *slog.Logger
}

// New returns a Reconciler.
func New(store Store, metrics Metrics, log *slog.Logger) *Reconciler {
	return &Reconciler{store: store, metrics: metrics, log: log}
}

// Step repairs what is due and returns when the next repair is due; zero when none is known of.
func (r *Reconciler) Step(ctx context.Context) (time.Time, error) {
	if err := r.purge(ctx); err != nil {
		return time.Time{}, err
	}
	for {
		due, next, err := r.store.Attention(ctx, batch)
		if err != nil {
			return time.Time{}, err
		}
		for i := range due {
			if err := r.repair(ctx, &due[i]); err != nil {
				return time.Time{}, err
			}
		}
		if len(due) < batch {
			return next, nil
		}
	}
}

func (r *Reconciler) repair(ctx context.Context, rec *sandbox.Record) error {
	ctx = sandbox.WithOrigin(ctx, rec.Intent.Origin) // what is done here is the rest of the work for that request
	var err error
	kind := ""
	switch {
	case rec.FailedCreate():
		if !rec.Intent.Accepted {
			kind = KindAbandoned
		}
		_, err = r.store.SetGone(ctx, rec.ID, sandbox.ReasonCreateFailed)
	case rec.Withdrawable():
		r.log.WarnContext(ctx, "withdrawing an intent that failed", "sandbox", rec.ID, "desired", rec.Intent.Desired)
		kind = KindWithdrawn
		back := sandbox.DesiredRunning
		if rec.Observed.State == sandbox.StatePaused {
			back = sandbox.DesiredPaused
		}
		_, err = r.store.SetDesired(ctx, rec.ID, back, rec.Intent.Generation)
	}
	if sandbox.IsStale(err) || sandbox.IsStopping(err) || fault.Is(err, fault.NotFound) {
		return nil // somebody else was faster
	}
	if err == nil && kind != "" {
		r.metrics.Repaired(kind)
	}
	return err
}

func (r *Reconciler) purge(ctx context.Context) error {
	for {
		n, err := r.store.Purge(ctx, KeepEnded, batch)
		if err != nil || n < batch {
			return err
		}
	}
}
