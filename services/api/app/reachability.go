package app

import (
	"context"
	"sync"
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// reachabilityAge is how old the knowledge about nodes may be.
const reachabilityAge = time.Second

// nodes knows whether nodes answer. It reads the registry at most once in reachabilityAge, whatever the number of requests.
type nodes struct {
	store Store

	mu   sync.Mutex
	read time.Time
	live map[string]bool
}

func newReachability(s Store) *nodes { return &nodes{store: s} }

func (n *nodes) of(ctx context.Context, name string) sandbox.Reachability {
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.read) > reachabilityAge {
		n.refresh(ctx)
	}
	if live, known := n.live[name]; known && !live {
		return sandbox.Unreachable
	}
	return sandbox.Reachable
}

// refresh keeps what is known when the registry cannot be read: a store that is away says nothing about nodes.
func (n *nodes) refresh(ctx context.Context) {
	var all []node.Node
	all, err := n.store.Nodes(ctx)
	if err != nil {
		return
	}
	now, err := n.store.Now(ctx)
	if err != nil {
		return
	}
	n.read = time.Now()
	n.live = make(map[string]bool, len(all))
	for i := range all {
		n.live[all[i].Name] = all[i].Live(now)
	}
}
