package converge

import (
	"context"
	"sync"
)

// Gate bounds the engine calls that are in progress. Each method waits for its turn, or for the end of ctx, and returns the
// function that gives the turn back.
type Gate interface {
	Make(ctx context.Context) (leave func(), err error)
	Kill(ctx context.Context) (leave func(), err error)
	Remove(ctx context.Context) (leave func(), err error)
}

// open is the gate that lets everything through, for a simulator.
type open struct{}

func (open) Make(context.Context) (func(), error)   { return func() {}, nil }
func (open) Kill(context.Context) (func(), error)   { return func() {}, nil }
func (open) Remove(context.Context) (func(), error) { return func() {}, nil }

// Turns is the Gate of a real agent: at most a given number of creates and removals together, since the engine gets slower and
// not faster beyond; kills of their own, ahead of everything; and no removal begins while a kill waits or runs.
type Turns struct {
	heavy, kills chan struct{}

	mu      sync.Mutex
	killing int
	quiet   chan struct{} // closed while nothing is being killed
}

// NewTurns returns a gate for so many heavy calls at once; at least 1.
func NewTurns(heavy int) *Turns {
	t := &Turns{heavy: make(chan struct{}, max(1, heavy)), kills: make(chan struct{}, 16), quiet: make(chan struct{})}
	close(t.quiet)
	return t
}

// Make waits for a turn to create or start.
func (t *Turns) Make(ctx context.Context) (func(), error) { return enter(ctx, t.heavy) }

// Kill waits for a turn to kill.
func (t *Turns) Kill(ctx context.Context) (func(), error) {
	t.mu.Lock()
	if t.killing == 0 {
		t.quiet = make(chan struct{})
	}
	t.killing++
	t.mu.Unlock()
	leave, err := enter(ctx, t.kills)
	if err != nil {
		t.killed()
		return nil, err
	}
	return func() { leave(); t.killed() }, nil
}

// Remove waits until nothing is being killed, then for a turn.
func (t *Turns) Remove(ctx context.Context) (func(), error) {
	t.mu.Lock()
	quiet := t.quiet
	t.mu.Unlock()
	select {
	case <-quiet:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return enter(ctx, t.heavy)
}

func (t *Turns) killed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.killing--
	if t.killing == 0 {
		close(t.quiet)
	}
}

func enter(ctx context.Context, turns chan struct{}) (func(), error) {
	select {
	case turns <- struct{}{}:
		return func() { <-turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
