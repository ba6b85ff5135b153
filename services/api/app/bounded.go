package app

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// storeRetry is what clients are told while the store is away.
const storeRetry = time.Second

// bounded is a store whose calls end in time, and which knows when it last answered: a client is told within seconds that the store is
// away, whatever its adapter waits for. The outcome of a write that took too long is unknown.
type bounded struct {
	Store
	// limit bounds each call; 0 means no bound.
	limit time.Duration
	// answered is when the store last answered, in nanoseconds since 1970; 0: never.
	answered atomic.Int64
}

// bound runs one call of the store.
func bound[T any](ctx context.Context, b *bounded, call func(context.Context) (T, error)) (T, error) {
	limited := ctx
	if b.limit > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, b.limit)
		defer cancel()
	}
	out, err := call(limited)
	switch {
	case err == nil:
		b.answered.Store(time.Now().UnixNano())
		return out, nil
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return out, fault.New(fault.Unavailable, "the store does not answer in time").WithCode(fault.CodeOf(err)).RetryAfter(storeRetry).Because(err)
	}
	classified, ok := errors.AsType[*fault.Error](err)
	switch {
	case !ok:
	case !fault.Is(err, fault.Unavailable):
		b.answered.Store(time.Now().UnixNano()) // it answered, if only to refuse
	case fault.RetryAfterOf(err) == 0:
		return out, classified.RetryAfter(storeRetry)
	}
	return out, err
}

// Ready returns nil if the store has answered within age, or does so within timeout.
func (b *bounded) Ready(age, timeout time.Duration) error {
	if time.Since(time.Unix(0, b.answered.Load())) <= age {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if _, err := b.Now(ctx); err != nil {
		return errors.New("the store does not answer")
	}
	return nil
}

func (b *bounded) Insert(ctx context.Context, n sandbox.New) (sandbox.Record, error) {
	return bound(ctx, b, func(ctx context.Context) (sandbox.Record, error) { return b.Store.Insert(ctx, n) })
}

func (b *bounded) Accept(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return bound(ctx, b, func(ctx context.Context) (sandbox.Record, error) { return b.Store.Accept(ctx, id) })
}

func (b *bounded) SetDesired(ctx context.Context, id sandbox.ID, d sandbox.Desired, ifGeneration uint64) (sandbox.Record, error) {
	return bound(ctx, b, func(ctx context.Context) (sandbox.Record, error) { return b.Store.SetDesired(ctx, id, d, ifGeneration) })
}

func (b *bounded) SetGone(ctx context.Context, id sandbox.ID, reason string) (sandbox.Record, error) {
	return bound(ctx, b, func(ctx context.Context) (sandbox.Record, error) { return b.Store.SetGone(ctx, id, reason) })
}

func (b *bounded) Renew(ctx context.Context, id sandbox.ID, tenant string, at time.Time) (sandbox.Record, error) {
	return bound(ctx, b, func(ctx context.Context) (sandbox.Record, error) { return b.Store.Renew(ctx, id, tenant, at) })
}

func (b *bounded) PatchMetadata(ctx context.Context, id sandbox.ID, tenant string, patch map[string]*string) (sandbox.Record, error) {
	return bound(ctx, b, func(ctx context.Context) (sandbox.Record, error) {
		return b.Store.PatchMetadata(ctx, id, tenant, patch)
	})
}

func (b *bounded) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return bound(ctx, b, func(ctx context.Context) (sandbox.Record, error) { return b.Store.Get(ctx, id) })
}

func (b *bounded) List(ctx context.Context, q sandbox.Query) (sandbox.Page, error) {
	return bound(ctx, b, func(ctx context.Context) (sandbox.Page, error) { return b.Store.List(ctx, q) })
}

func (b *bounded) Incarnation(ctx context.Context) (time.Time, error) {
	return bound(ctx, b, b.Store.Incarnation)
}

func (b *bounded) Now(ctx context.Context) (time.Time, error) { return bound(ctx, b, b.Store.Now) }

func (b *bounded) Nodes(ctx context.Context) ([]node.Node, error) {
	return bound(ctx, b, b.Store.Nodes)
}
