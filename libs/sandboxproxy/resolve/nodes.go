package resolve

import (
	"context"
	"sync"
	"time"

	"opensandbox/libs/node"
)

// Nodes is what the resolver reads of the registry of nodes.
type Nodes interface {
	Nodes(ctx context.Context) ([]node.Node, error)
}

// place is what routing needs of a node.
type place struct {
	host string
	live bool
}

// forgiveness keeps nodes live for one lease after the store was away: no agent could renew meanwhile, so a lease that has run out
// says nothing until the agents have had their turn.
type forgiveness struct {
	mu    sync.Mutex
	until time.Time
}

func (f *forgiveness) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.until = time.Now().Add(node.LeaseTime)
}

func (f *forgiveness) active() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Before(f.until)
}

func (r *Resolver) readNodes(ctx context.Context) (map[string]place, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ReadTimeout)
	defer cancel()
	all, err := r.deps.Nodes.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	now, err := r.deps.Queries.Now(ctx)
	if err != nil {
		return nil, err
	}
	r.answered(ctx)
	out := make(map[string]place, len(all))
	for i := range all {
		out[all[i].Name] = place{host: all[i].Host, live: answers(&all[i], now)}
	}
	return out, nil
}

// restartTime is for how long an agent may be away after its lease without a word about its sandboxes. They run on meanwhile, and an agent
// that is started anew gives its lease back at its end, so that nothing new is placed on its node.
const restartTime = node.LeaseTime

// answers reports whether requests for sandboxes of a node may find them.
func answers(n *node.Node, now time.Time) bool {
	return !n.Removed && now.Before(n.LeaseUntil.Add(restartTime))
}

// newNodeAge is how old the registry may be for a node that it does not have: one that has just joined is found at once, and a name
// that is gone does not cost a read for each request.
const newNodeAge = 100 * time.Millisecond

// place returns what is known of a node; known is false if the registry does not have it. While the store is away the last known
// registry counts, which has no age limit of its own: it is used only for records that have one.
func (r *Resolver) place(ctx context.Context, name string) (p place, known bool, err error) {
	all, err := r.registry(ctx, r.cfg.MaxAge)
	if err != nil {
		return place{}, false, err
	}
	if _, known = all[name]; !known {
		if all, err = r.registry(ctx, min(newNodeAge, r.cfg.MaxAge)); err != nil {
			return place{}, false, err
		}
	}
	p, known = all[name]
	p.live = p.live || known && r.forgive.active()
	return p, known, nil
}

// registry returns all nodes by name. It fails only if nothing is known, or with ctx.
func (r *Resolver) registry(ctx context.Context, maxAge time.Duration) (map[string]place, error) {
	all, _, known := r.nodes.last()
	if known && r.store.isAway() {
		return all, nil
	}
	fresh, err := r.nodes.get(ctx, maxAge, r.readNodes)
	switch {
	case err == nil:
		return fresh, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	r.failed(ctx, err)
	if known {
		return all, nil
	}
	return nil, err
}
