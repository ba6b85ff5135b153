//go:build sabotage

package sabotage

import (
	"context"
	"time"

	"opensandbox/libs/sandbox"
)

// reads are the methods of a sandbox.Store that change nothing. They are written out, so that each of a store's methods is either here or a step.
type reads struct{ from sandbox.Store }

func (r reads) Unplaced(ctx context.Context, max int) ([]sandbox.Record, error) {
	return r.from.Unplaced(ctx, max)
}

func (r reads) CountUnplaced(ctx context.Context) (int, error) { return r.from.CountUnplaced(ctx) }

func (r reads) Usage(ctx context.Context) (map[string]sandbox.Usage, error) {
	return r.from.Usage(ctx)
}

func (r reads) NextDeadline(ctx context.Context) (at time.Time, ok bool, err error) {
	return r.from.NextDeadline(ctx)
}

func (r reads) Attention(ctx context.Context, max int) (due []sandbox.Record, next time.Time, err error) {
	return r.from.Attention(ctx, max)
}

func (r reads) Work(ctx context.Context, node string, max int) ([]sandbox.Task, error) {
	return r.from.Work(ctx, node, max)
}

func (r reads) OnNode(ctx context.Context, node string) ([]sandbox.Record, error) {
	return r.from.OnNode(ctx, node)
}

func (r reads) Unmirrored(ctx context.Context, node string, max int) ([]sandbox.Record, error) {
	return r.from.Unmirrored(ctx, node, max)
}

func (r reads) Secret(ctx context.Context, id sandbox.ID) ([]byte, error) {
	return r.from.Secret(ctx, id)
}

func (r reads) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return r.from.Get(ctx, id)
}

func (r reads) List(ctx context.Context, q sandbox.Query) (sandbox.Page, error) {
	return r.from.List(ctx, q)
}

func (r reads) Incarnation(ctx context.Context) (time.Time, error) { return r.from.Incarnation(ctx) }

func (r reads) Now(ctx context.Context) (time.Time, error) { return r.from.Now(ctx) }

func (r reads) Recovery(ctx context.Context) (sandbox.Recovery, error) { return r.from.Recovery(ctx) }

func (r reads) GetWithRecovery(ctx context.Context, id sandbox.ID) (sandbox.Record, sandbox.Recovery, error) {
	return r.from.GetWithRecovery(ctx, id)
}

func (r reads) Subscribe(t sandbox.Topic) (changed <-chan struct{}, cancel func()) {
	return r.from.Subscribe(t)
}
