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
	CallRoll(ctx context.Context) error
}

const (
	// Hearing is how long a scheduler that has just started, and so does not know how far the store had come, waits at most for an agent that
	// may know: one that lives answers at once, and one that starts with the store takes a few seconds.
	Hearing = 30 * time.Second
	// Every is the pause before a step that may end nothing now is tried again.
	Every = time.Second
	// soon is the pause instead of Every while an answer of an agent is expected.
	soon = 20 * time.Millisecond
)

// notRestored is what nobody can tell a store again that has lost it.
const notRestored = "sandboxes without a container, idempotency keys, registry credentials, drains"

// Watch remembers how far the store has come. Safe for concurrent use.
type Watch struct {
	store Store
	log   *slog.Logger

	mu    sync.Mutex
	known sandbox.Mark
	state sandbox.Recovery
	// began is when the watch first looked, by the store's clock; first are the nodes of then that are waited for, and called is when they were
	// last asked to renew.
	began, called time.Time
	first         map[string]node.Node
	heard         bool
	// looks counts the looks that have heard nothing.
	looks int
}

// New returns a Watch. alone says that no other process has the store, so that its agent has looked at it already.
func New(store Store, alone bool, log *slog.Logger) *Watch {
	return &Watch{store: store, log: log, heard: alone}
}

// MayEnd looks at the store and returns a context for steps that end sandboxes, under which the store refuses if it is behind. If nothing may
// be ended now, pause is how long to wait before the next look, else 0.
func (w *Watch) MayEnd(ctx context.Context) (guarded context.Context, pause time.Duration, err error) {
	r, err := w.look(ctx)
	if err != nil {
		return ctx, Every, err
	}
	if r.Going() {
		_, err = w.store.Now(ctx) // whoever asks whether the store is reached goes by that question
		return ctx, Every, err
	}
	heard, err := w.hear(ctx)
	switch {
	case err != nil:
		return ctx, Every, err
	case !heard:
		return ctx, w.patience(), nil
	}
	return w.Guard(ctx), 0, nil
}

// patience is how long to wait for an answer: agents that are there give it in milliseconds.
func (w *Watch) patience() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looks++; w.looks > int(Every/soon) {
		return Every
	}
	return soon
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
			w.log.WarnContext(ctx, "the recovery of the store is over; what no node has is not made again", "not_restored", notRestored, "nodes_that_did_not_report", r.Unreported)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Mark.Reaches(w.known) {
		w.known, w.state = r.Mark, r
	}
	return r, nil
}

// hear reports whether the nodes show that the store is not behind: one that goes on under the session that it had when the watch began has
// renewed its lease since, which the store refuses if it is behind what the agent has seen; or all have come back under new sessions; or they
// have had their time.
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
	if w.judge(nodes, now) {
		return true, nil
	}
	return false, w.callRoll(ctx, now)
}

// judge is hear for what was read.
func (w *Watch) judge(nodes []node.Node, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first == nil {
		w.began, w.first = now, map[string]node.Node{}
		for _, n := range nodes {
			if !n.Removed {
				w.first[n.Name] = n
			}
		}
	}
	w.heard = w.heard || now.Sub(w.began) >= Hearing
	for _, n := range nodes {
		was, waited := w.first[n.Name]
		switch renewed := n.LeaseUntil.After(was.LeaseUntil) && n.Live(now); {
		case !waited:
		case n.Removed || (renewed && n.Session != was.Session):
			delete(w.first, n.Name) // one that starts anew knows what its disk knows, which may be old
		case renewed:
			w.heard = true
		}
	}
	w.heard = w.heard || len(w.first) == 0
	return w.heard
}

// callRoll asks the agents to renew at once.
func (w *Watch) callRoll(ctx context.Context, now time.Time) error {
	w.mu.Lock()
	due := w.called.IsZero() || now.Sub(w.called) >= Every
	if due {
		w.called = now
	}
	w.mu.Unlock()
	if !due {
		return nil
	}
	return w.store.CallRoll(ctx)
}
