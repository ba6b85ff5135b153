//go:build sabotage

package sabotage

import (
	"context"

	"opensandbox/libs/node"
)

// nodes sabotages the steps of a node.Registry.
type nodes struct {
	registry node.Registry
	saboteur *Saboteur
}

func (n nodes) Register(ctx context.Context, r node.Registration) (node.Node, error) {
	return take(n.saboteur, NodeRegister, func() (node.Node, error) { return n.registry.Register(ctx, r) })
}

func (n nodes) RenewLease(ctx context.Context, name string, session uint64) error {
	return act(n.saboteur, NodeRenewLease, func() error { return n.registry.RenewLease(ctx, name, session) })
}

func (n nodes) Release(ctx context.Context, name string, session uint64) error {
	return act(n.saboteur, NodeRelease, func() error { return n.registry.Release(ctx, name, session) })
}

func (n nodes) SetDraining(ctx context.Context, name string, draining bool) error {
	return act(n.saboteur, NodeSetDraining, func() error { return n.registry.SetDraining(ctx, name, draining) })
}

func (n nodes) SetImages(ctx context.Context, name string, session uint64, images []string) error {
	return act(n.saboteur, NodeSetImages, func() error { return n.registry.SetImages(ctx, name, session, images) })
}

func (n nodes) Remove(ctx context.Context, name string) error {
	return act(n.saboteur, NodeRemove, func() error { return n.registry.Remove(ctx, name) })
}

func (n nodes) Forget(ctx context.Context, name string) error {
	return act(n.saboteur, NodeForget, func() error { return n.registry.Forget(ctx, name) })
}

// Nodes reads.
func (n nodes) Nodes(ctx context.Context) ([]node.Node, error) { return n.registry.Nodes(ctx) }
