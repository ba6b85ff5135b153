package nodeloss

import (
	"slices"
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// census is how many nodes are well and how many are not. Removed nodes are not among them.
type census struct {
	// all is how many nodes there are, without those that were given up before.
	all int
	// lost are the nodes whose lease has been over for too long, soon those to which that is about to happen: nodes that go down together
	// have renewed for the last time within one lease of each other.
	lost, soon []string
	// next is when the next node is lost, by the caller's clock; zero when all that are not lost have a lease.
	next time.Time
}

// count looks at all nodes. Their leases must be over by the store's clock, and for lostAfter by that of the caller.
func count(nodes []node.Node, lostAfter time.Duration, seen *sights) census {
	var c census
	for i := range nodes {
		n := &nodes[i]
		if n.Removed {
			continue
		}
		c.all++
		at := seen.leases[n.Name].over.Add(lostAfter)
		switch {
		case n.Live(seen.stored):
			continue
		case !seen.at.Before(at):
			c.lost = append(c.lost, n.Name)
			continue
		case !seen.at.Before(at.Add(-node.LeaseTime)):
			c.soon = append(c.soon, n.Name)
		}
		if c.next.IsZero() || at.Before(c.next) {
			c.next = at
		}
	}
	return c
}

// without takes those nodes off the list that are lost and have nothing to lose: they were given up before.
func (c *census) without(used map[string]sandbox.Usage) {
	before := len(c.lost)
	c.lost = slices.DeleteFunc(c.lost, func(name string) bool { return used[name].Count == 0 })
	c.all -= before - len(c.lost)
	c.soon = slices.DeleteFunc(c.soon, func(name string) bool { return used[name].Count == 0 })
}

// tooMany reports whether more nodes than can be believed would go at once.
func (c *census) tooMany() bool {
	going := len(c.lost) + len(c.soon)
	return len(c.lost) > 0 && going > 1 && 2*going > c.all
}
