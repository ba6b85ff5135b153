package memstore

import (
	"maps"

	"opensandbox/libs/sandbox"
)

// Snapshot returns the present contents for Restore. It is opaque and shares nothing with the store that either could change.
func (s *Store) Snapshot() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.copy()
}

// Restore brings the contents of a snapshot of this package back, as a store does that was restored from a backup. It gives no
// hints. A snapshot can be restored any number of times.
func (s *Store) Restore(snapshot any) {
	from := snapshot.(state)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = from.copy()
}

func (s state) copy() state {
	s.nodes, s.holds, s.leases, s.barred = maps.Clone(s.nodes), maps.Clone(s.holds), maps.Clone(s.leases), maps.Clone(s.barred)
	s.keys, s.sessions, s.secrets = maps.Clone(s.keys), maps.Clone(s.sessions), maps.Clone(s.secrets)
	records := s.records
	s.records = make(map[sandbox.ID]*entry, len(records))
	for id, e := range records {
		c := *e
		s.records[id] = &c
	}
	return s
}
