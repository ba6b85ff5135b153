package app

import (
	"context"
	"sync"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// How old the knowledge about nodes may be: registryAge for nodes that are known, missAge for the absence of one.
const (
	registryAge = time.Second
	missAge     = 100 * time.Millisecond
)

// registry is what nodes reads.
type registry interface {
	Nodes(ctx context.Context) ([]node.Node, error)
	Now(ctx context.Context) (time.Time, error)
}

// nodes knows whether nodes answer and where. It reads the registry at most once in registryAge, whatever the number of requests, and one
// at a time; requests that can do with what is known do not wait for it. While the registry cannot be read, what was known stays.
type nodes struct {
	store registry

	mu sync.Mutex
	// tried is when the registry was last read, well or badly; reading is closed when the present reading is over.
	tried   time.Time
	reading chan struct{}
	// known is nil until the registry was read once.
	known map[string]fact
}

// fact is what requests need of a node.
type fact struct {
	live bool
	host string
}

func newNodes(s registry) *nodes { return &nodes{store: s} }

// reachable tells whether a node answers. One that is not registered does not. Nothing is said against nodes while nothing is known.
func (n *nodes) reachable(ctx context.Context, name string) sandbox.Reachability {
	f, found, read := n.look(ctx, name)
	if read && (!found || !f.live) {
		return sandbox.Unreachable
	}
	return sandbox.Reachable
}

// host returns where clients reach the ports of a node; empty for the host of the server. A node that is not known has no host to name:
// the same port elsewhere may be that of another sandbox.
func (n *nodes) host(ctx context.Context, name string) (string, error) {
	f, found, _ := n.look(ctx, name)
	if !found {
		return "", fault.New(fault.Unavailable, "the node of the sandbox is not known at the moment").WithCode(sandbox.ReasonNodeUnreachable).RetryAfter(storeRetry)
	}
	return f.host, nil
}

// look returns what is known of a node; read is false while nothing is known of any.
func (n *nodes) look(ctx context.Context, name string) (f fact, found, read bool) {
	for range 2 {
		n.mu.Lock()
		f, found = n.known[name]
		read = n.known != nil
		age, reading := time.Since(n.tried), n.reading
		if age <= missAge || (found && age <= registryAge) || (found && reading != nil) {
			n.mu.Unlock()
			return f, found, read
		}
		if reading == nil {
			n.reading = make(chan struct{})
			n.mu.Unlock()
			n.read(ctx)
			continue
		}
		n.mu.Unlock()
		select {
		case <-reading:
		case <-ctx.Done():
			return f, found, read
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	f, found = n.known[name]
	return f, found, n.known != nil
}

// read reads the registry for all who wait. It does not end with the request that happened to come first.
func (n *nodes) read(ctx context.Context) {
	var known map[string]fact
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if known != nil {
			n.known = known
		}
		n.tried = time.Now()
		close(n.reading)
		n.reading = nil
	}()
	known, _ = facts(context.WithoutCancel(ctx), n.store) // what was known stays; the request itself meets the same store
}

func facts(ctx context.Context, store registry) (map[string]fact, error) {
	all, err := store.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	now, err := store.Now(ctx)
	if err != nil {
		return nil, err
	}
	known := make(map[string]fact, len(all))
	for i := range all {
		known[all[i].Name] = fact{live: all[i].Live(now), host: all[i].Host}
	}
	return known, nil
}
