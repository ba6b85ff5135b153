// Package renewintent moves the deadlines of sandboxes that are in use, as OpenSandbox 1.1.1 does: a router or proxy says that a sandbox was
// accessed, and if the sandbox has asked for that at its create, it lives on for some time from now.
//
// An intent is a wish, not a duty: one that cannot be carried out is dropped, since the next access makes another.
package renewintent

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Queue is where intents come from.
type Queue interface {
	// Take waits for an intent and returns it in the form that Parse reads. It returns soon after ctx has ended, perhaps still with an
	// intent. It may be called concurrently.
	Take(ctx context.Context) (payload []byte, err error)
}

// Store is what renewals need of the store.
type Store interface {
	Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error)
	Now(ctx context.Context) (time.Time, error)
	Extend(ctx context.Context, id sandbox.ID, at time.Time) (sandbox.Record, error)
}

// Metrics is what renewals tell of themselves.
type Metrics interface {
	// RenewIntent counts an intent with its outcome, one of those below.
	RenewIntent(outcome string)
}

// Outcomes of an intent.
const (
	OutcomeRenewed = "renewed"
	// OutcomeNothing: the sandbox is unknown, not running, has no deadline, has not asked for renewals, or has a deadline that is as late.
	OutcomeNothing   = "nothing_to_do"
	OutcomeOld       = "too_old"
	OutcomeMalformed = "malformed"
	// OutcomeFailed: the store is away.
	OutcomeFailed = "failed"
)

// Config of a Consumer.
type Config struct {
	// Workers is how many intents are handled at once; 1 or more.
	Workers int
	// MinInterval is the shortest time between two renewals of one sandbox: a deadline that would move by less is left. 0 for a queue whose
	// producers see to it.
	MinInterval time.Duration
}

const (
	// maxAge is the age at which OpenSandbox 1.1.1 drops an intent.
	maxAge = 300 * time.Second
	// pause is how long OpenSandbox 1.1.1 waits after a queue has failed.
	pause = time.Second
	// limit bounds the work for one intent, so that the end of the process does not wait for long.
	limit = 5 * time.Second
)

// Consumer carries out intents. Use New.
type Consumer struct {
	cfg     Config
	queue   Queue
	store   Store
	metrics Metrics
	log     *slog.Logger

	// failing says that the last call failed and that this has been logged: of the queue, of the store.
	queueFails, storeFails atomic.Bool
}

// New returns a Consumer.
func New(cfg Config, queue Queue, store Store, metrics Metrics, log *slog.Logger) *Consumer {
	return &Consumer{cfg: cfg, queue: queue, store: store, metrics: metrics, log: log}
}

// Run takes and handles intents until ctx ends, then finishes those that it has taken and returns nil.
func (c *Consumer) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range max(1, c.cfg.Workers) {
		workers.Go(func() { c.work(ctx) })
	}
	workers.Wait()
	return nil
}

func (c *Consumer) work(ctx context.Context) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for ctx.Err() == nil {
		payload, err := c.queue.Take(ctx)
		switch {
		case err == nil:
			c.note(ctx, &c.queueFails, nil, "the queue of renew intents")
			c.Handle(context.WithoutCancel(ctx), payload)
			continue
		case ctx.Err() != nil:
			return
		}
		c.note(ctx, &c.queueFails, err, "the queue of renew intents")
		timer.Reset(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
	}
}

// note logs the first failure of several, and the end of them.
func (c *Consumer) note(ctx context.Context, failing *atomic.Bool, err error, what string) {
	switch {
	case err != nil && !failing.Swap(true):
		c.log.WarnContext(ctx, what+" does not work; sandboxes that are in use are not renewed meanwhile", "error", err)
	case err == nil && failing.Load() && failing.Swap(false):
		c.log.InfoContext(ctx, what+" works again")
	}
}

// Handle carries out one intent.
func (c *Consumer) Handle(ctx context.Context, payload []byte) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	outcome, err := c.handle(ctx, payload)
	c.metrics.RenewIntent(outcome)
	switch outcome {
	case OutcomeMalformed:
		c.log.DebugContext(ctx, "a renew intent is malformed and is dropped", "error", err)
	default:
		c.note(ctx, &c.storeFails, err, "the store, for renew intents,")
	}
}

func (c *Consumer) handle(ctx context.Context, payload []byte) (outcome string, err error) {
	intent, err := Parse(payload)
	if err != nil {
		return OutcomeMalformed, err
	}
	now, err := c.store.Now(ctx)
	if err != nil {
		return OutcomeFailed, err
	}
	if now.Sub(intent.ObservedAt) > maxAge {
		return OutcomeOld, nil
	}
	r, err := c.store.Get(ctx, intent.ID)
	switch {
	case fault.Is(err, fault.NotFound):
		return OutcomeNothing, nil
	case err != nil:
		return OutcomeFailed, err
	}
	at, ok := c.deadline(&r, now)
	if !ok {
		return OutcomeNothing, nil
	}
	// Never to an earlier time: a client may have renewed for longer since the record was read.
	_, err = c.store.Extend(ctx, intent.ID, at)
	switch {
	case err == nil:
		return OutcomeRenewed, nil
	case fault.Is(err, fault.NotFound), fault.Is(err, fault.Conflict), fault.Is(err, fault.Invalid):
		return OutcomeNothing, nil // it has changed since it was read
	}
	return OutcomeFailed, err
}

// deadline returns the new deadline of a sandbox that is accessed at now, and whether it has to be written. The deadline itself tells when
// the last renewal was, so no replica needs a memory of its own.
func (c *Consumer) deadline(r *sandbox.Record, now time.Time) (time.Time, bool) {
	extend := r.Spec.RenewOnAccess
	if extend <= 0 || r.Intent.ExpiresAt.IsZero() || r.Ended() || sandbox.StateOf(r) != sandbox.StateRunning {
		return time.Time{}, false
	}
	at := now.Add(extend)
	// A short extension must not be swallowed whole by the interval.
	return at, at.Sub(r.Intent.ExpiresAt) > min(c.cfg.MinInterval, extend/2)
}
