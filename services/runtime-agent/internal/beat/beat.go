// Package beat keeps an agent's lease on its node.
package beat

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Beat renews the lease of one node.
type Beat struct {
	Registry node.Registry
	Node     string
	Session  uint64
	Log      *slog.Logger
}

// releaseTimeout bounds the farewell of an orderly stop.
const releaseTimeout = 2 * time.Second

// Run renews three times per lease until ctx ends, then gives the lease back. It returns an error when another agent has taken the
// node over: this one must not go on.
func (b Beat) Run(ctx context.Context) error {
	tick := time.NewTicker(node.LeaseTime / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return b.release(context.WithoutCancel(ctx))
		case <-tick.C:
		}
		err := b.Registry.RenewLease(ctx, b.Node, b.Session)
		switch {
		case ctx.Err() != nil:
		case sandbox.IsStale(err):
			return fmt.Errorf("node %q has been taken over by another agent: %w", b.Node, err)
		case err != nil:
			b.Log.WarnContext(ctx, "cannot renew the node's lease", "node", b.Node, "error", err)
		}
	}
}

func (b Beat) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	if err := b.Registry.Release(ctx, b.Node, b.Session); err != nil && !sandbox.IsStale(err) {
		b.Log.WarnContext(ctx, "cannot release the node's lease; it runs out by itself", "node", b.Node, "error", err)
	}
	return nil
}
