// Package beat keeps an agent's lease on its node, and acts when it cannot.
package beat

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Lease is told of renewals.
type Lease interface {
	// Renewed notes a renewal that has succeeded and was sent at a time.
	Renewed(sent time.Time)
}

// Beat renews the lease of one node.
type Beat struct {
	Registry node.Registry
	Node     string
	Session  uint64
	Lease    Lease
	// RollCall asks for a renewal at once; nil: nobody does.
	RollCall <-chan struct{}
	// Clock is the clock of the lease.
	Clock func() time.Time
	Log   *slog.Logger
}

const (
	// every is how often the lease is renewed; a renewal that takes longer is given up for the next.
	every = node.LeaseTime / 3
	// releaseTimeout bounds the farewell of an orderly stop.
	releaseTimeout = 2 * time.Second
)

// Run renews at once, three times per lease, and when the roll is called, until ctx ends, then gives the lease back. At once, because
// what an agent does between its registration and this may have taken longer than the lease. A lease that has run out because the store
// was away is renewed like any other. It returns an error when this process is the node's agent no longer: sandbox.ErrStale when another agent has taken the
// node over or the node was removed, fault.NotFound when the store does not know the node.
func (b Beat) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	failing := false
	for {
		err := b.renew(ctx)
		switch {
		case ctx.Err() != nil:
		case sandbox.IsStale(err):
			return fmt.Errorf("this process is not the agent of node %q any more: %w", b.Node, err)
		case fault.Is(err, fault.NotFound):
			return fmt.Errorf("the store does not know node %q any more: %w", b.Node, err)
		case err != nil && !failing:
			failing = true
			b.Log.WarnContext(ctx, "cannot renew the node's lease; trying on", "node", b.Node, "error", err)
		case err == nil && failing:
			failing = false
			b.Log.InfoContext(ctx, "the node's lease is renewed again", "node", b.Node)
		}
		select {
		case <-ctx.Done():
			return b.release(context.WithoutCancel(ctx))
		case <-tick.C:
		case <-b.RollCall:
		}
	}
}

func (b Beat) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, every)
	defer cancel()
	sent := b.Clock()
	err := b.Registry.RenewLease(ctx, b.Node, b.Session)
	if err == nil {
		b.Lease.Renewed(sent)
	}
	return err
}

func (b Beat) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	if err := b.Registry.Release(ctx, b.Node, b.Session); err != nil && !sandbox.IsStale(err) {
		b.Log.WarnContext(ctx, "cannot release the node's lease; it runs out by itself", "node", b.Node, "error", err)
	}
	return nil
}

// GuardEvery is how often a Guard looks.
const GuardEvery = time.Second

// Guard stops the sandboxes of a node that is cut off. It does not wait for the store, so nothing that hangs there holds it up.
type Guard struct {
	// CutOff stops everything if the node is cut off at now, and does nothing else.
	CutOff func(ctx context.Context, now time.Time) error
	// Clock is the clock of the lease.
	Clock func() time.Time
}

// Step looks once. It has the shape of a loop's step; the loop's own interval is when it is called again.
func (g Guard) Step(ctx context.Context) (time.Time, error) {
	return time.Time{}, g.CutOff(ctx, g.Clock())
}
