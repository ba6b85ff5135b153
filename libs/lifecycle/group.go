// Package lifecycle starts and stops the parts of a process together.
package lifecycle

import (
	"context"
	"fmt"
)

// Group is a set of blocking functions that live and die together. The zero value is ready to use.
type Group struct {
	parts []part
}

type part struct {
	name string
	run  func(context.Context) error
}

// Add adds a part. Its run must return soon after its context has ended, and may return earlier only when the process must stop.
func (g *Group) Add(name string, run func(context.Context) error) {
	g.parts = append(g.parts, part{name, run})
}

// Run starts all parts in the order in which they were added. When ctx ends or any part returns, it stops them in reverse order, each
// one only after the one that was started behind it has ended: what others stand on goes last. It returns the first error, with the
// name of its part, after all have ended.
func (g *Group) Run(ctx context.Context) error {
	type end struct {
		i   int
		err error
	}
	ended := make(chan end, len(g.parts))
	gone := make([]chan struct{}, len(g.parts))
	stops := make([]context.CancelFunc, len(g.parts))
	for i, p := range g.parts {
		partCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		stops[i], gone[i] = stop, make(chan struct{})
		go func() {
			defer close(gone[i])
			ended <- end{i, p.run(partCtx)}
		}()
	}
	var first error
	note := func(e end) {
		if first == nil && e.err != nil {
			first = fmt.Errorf("%s: %w", g.parts[e.i].name, e.err)
		}
	}
	select {
	case <-ctx.Done():
	case e := <-ended:
		note(e)
	}
	for i := len(g.parts) - 1; i >= 0; i-- {
		stops[i]()
		<-gone[i]
	}
	close(ended)
	for e := range ended {
		note(e)
	}
	return first
}
