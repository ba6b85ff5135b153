// Package inventory tells the store which images a node has, so that placement can prefer it.
package inventory

import (
	"context"
	"slices"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Every is how often the engine is asked without a hint: people pull and remove images by hand too.
const Every = 60 * time.Second

// Registry is where images are told.
type Registry interface {
	SetImages(ctx context.Context, name string, session uint64, images []string) error
}

// Inventory tells of the images of one engine. Use New.
type Inventory struct {
	engine   executor.Describer
	registry Registry
	node     string
	session  uint64
	hint     chan struct{}
	// told is what the store has; nil until it was told for the first time.
	told []string
}

// New returns an Inventory of a node under a session.
func New(engine executor.Describer, registry Registry, node string, session uint64) *Inventory {
	return &Inventory{engine: engine, registry: registry, node: node, session: session, hint: make(chan struct{}, 1)}
}

// Pulled says that an image has come. Safe for concurrent use.
func (i *Inventory) Pulled() {
	select {
	case i.hint <- struct{}{}:
	default:
	}
}

// Hint wakes the loop after Pulled.
func (i *Inventory) Hint() <-chan struct{} { return i.hint }

// Step tells the store what has changed. It has the shape of a loop's step; not safe for concurrent use.
func (i *Inventory) Step(ctx context.Context) (time.Time, error) {
	f, err := i.engine.Describe(ctx)
	if err != nil {
		return time.Time{}, err
	}
	images := node.KeptImages(f.Images)
	if i.told != nil && slices.Equal(images, i.told) {
		return time.Time{}, nil
	}
	err = i.registry.SetImages(ctx, i.node, i.session, images)
	if sandbox.IsStale(err) {
		return time.Time{}, nil // another agent has the node; this one is about to end
	}
	if err != nil {
		return time.Time{}, err
	}
	i.told = append([]string{}, images...)
	return time.Time{}, nil
}
