package nodeloss

import (
	"time"

	"opensandbox/libs/node"
)

// sights are the leases that a scheduler has seen, by its own clock. The store's clock may be set forward at any time, which makes every
// lease look as if it had been over for long; the time that passes here does not care.
//
// What the store says is believed at the first look only, since a scheduler that has just started has nothing to hold against it: if the clock
// was set forward before that, a node whose agent has not renewed since then is lost too early by so much. An agent that lives and reaches the
// store has renewed by the time at which this scheduler trusts itself.
type sights struct {
	leases map[string]sight
	// at and stored are the times of the last look, here and by the store's clock.
	at, stored time.Time
}

// sight is a lease, and when it is over by the caller's clock.
type sight struct{ until, over time.Time }

// look takes in what the store said at now, when its clock, which was read before the nodes, showed stored. A lease that is new may have been
// renewed before the clock was set forward or after that. The later end counts, but no later than that of a lease that begins now.
func (s *sights) look(nodes []node.Node, now, stored time.Time) {
	var jump time.Duration
	if !s.at.IsZero() {
		jump = max(0, stored.Sub(s.stored)-now.Sub(s.at))
	}
	seen := make(map[string]sight, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		was, ok := s.leases[n.Name]
		if !ok || !was.until.Equal(n.LeaseUntil) {
			left := n.LeaseUntil.Sub(stored)
			was = sight{n.LeaseUntil, now.Add(max(left, min(left+jump, node.LeaseTime)))}
		}
		seen[n.Name] = was
	}
	s.leases, s.at, s.stored = seen, now, stored
}
