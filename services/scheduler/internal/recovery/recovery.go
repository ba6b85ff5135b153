// Package recovery keeps a scheduler from ending sandboxes on the word of a store that was lost or went back, and ends the recovery of the
// store when the nodes have reported.
package recovery

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Store is what the watch needs of the store.
type Store interface {
	Recovery(ctx context.Context) (sandbox.Recovery, error)
	Recover(ctx context.Context, c sandbox.Claim) (sandbox.Recovery, error)
	Settle(ctx context.Context) (sandbox.Recovery, error)
	Nodes(ctx context.Context) ([]node.Node, error)
	Now(ctx context.Context) (time.Time, error)
}

const (
	// Hearing is how long a scheduler that has just started, and so does not know how far the store had come, waits at most for an agent that
	// may know: one that lives renews its lease every few seconds, and one that starts with the store takes about as long.
	Hearing = 30 * time.Second
	// Every is the pause before a step that may end nothing now is tried again.
	Every = time.Second
)

// Watch remembers how far the store has come. Safe for concurrent use.
type Watch struct {
	store Store
	log   *slog.Logger

	mu    sync.Mutex
	known sandbox.Mark
	state sandbox.Recovery
	// began is when the watch first looked, by the store's clock; leases are those that the nodes had then and have not renewed since.
	began  time.Time
	leases map[string]time.Time
	heard  bool
}

// New returns a Watch. alone says that no other process has the store, so that its agent has looked at it already.
func New(store Store, alone bool, log *slog.Logger) *Watch {
	return &Watch{store: store, log: log, heard: alone}
}

// MayEnd looks at the store and returns a context for steps that end sandboxes, under which the store refuses if it is behind; ok is false if
// nothing may be ended now.
func (w *Watch) MayEnd(ctx context.Context) (guarded context.Context, ok bool, err error) {
	r, err := w.look(ctx)
	if err != nil {
		return ctx, false, err
	}
	if r.Going() {
		_, err = w.store.Now(ctx) // whoever asks whether the store is reached goes by that question
		return ctx, false, err
	}
	if ok, err = w.hear(ctx); err != nil || !ok {
		return ctx, false, err
	}
	return w.Guard(ctx), true, nil
}

// Guard returns a context under which the store refuses what it could do wrong if it is behind.
func (w *Watch) Guard(ctx context.Context) context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	return sandbox.WithMark(ctx, w.known)
}

// Waits reports whether a record waits for a node since before the store was recovered, and whether the recovery goes on.
func (w *Watch) Waits(r *sandbox.Record) (before, going bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return r.Predates(w.state.Mark.Incarnation), w.state.Going()
}

// Look remembers how far the store has come.
func (w *Watch) Look(ctx context.Context) error {
	_, err := w.look(ctx)
	return err
}

// look reads how far the store has come, begins a recovery if it has gone back, and ends one that is over.
func (w *Watch) look(ctx context.Context) (sandbox.Recovery, error) {
	w.mu.Lock()
	known := w.known
	w.mu.Unlock()
	r, err := w.store.Recovery(ctx)
	if err != nil {
		return r, err
	}
	if r.Mark.Behind(known) {
		w.log.ErrorContext(ctx, "the store is another one, or has gone back to an older state; nothing ends until the nodes have reported", "knew", known, "has", r.Mark)
		if r, err = w.store.Recover(ctx, sandbox.Claim{Known: known}); err != nil {
			return r, err
		}
	}
	if r.Going() {
		if r, err = w.store.Settle(ctx); err != nil {
			return r, err
		}
		if !r.Going() {
			w.log.WarnContext(ctx, "the recovery of the store is over", "unreported", r.Unreported)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Mark.Incarnation.After(w.known.Incarnation) || (r.Mark.Incarnation.Equal(w.known.Incarnation) && r.Mark.Changes >= w.known.Changes) {
		w.known, w.state = r.Mark, r
	}
	return r, nil
}

// hear reports whether every node has been heard since the watch began, or has had its time.
func (w *Watch) hear(ctx context.Context) (bool, error) {
	w.mu.Lock()
	heard := w.heard
	w.mu.Unlock()
	if heard {
		return true, nil
	}
	nodes, err := w.store.Nodes(ctx)
	if err != nil {
		return false, err
	}
	now, err := w.store.Now(ctx)
	if err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leases == nil {
		w.began, w.leases = now, map[string]time.Time{}
		for _, n := range nodes {
			if !n.Removed {
				w.leases[n.Name] = n.LeaseUntil
			}
		}
	}
	for _, n := range nodes {
		if was, waited := w.leases[n.Name]; waited && (n.Removed || !n.LeaseUntil.Equal(was)) {
			delete(w.leases, n.Name)
		}
	}
	w.heard = len(w.leases) == 0 || now.Sub(w.began) >= Hearing
	return w.heard, nil
}
