package memstore

import (
	"context"

	"opensandbox/libs/sandbox"
)

// recovery is the present state of the last recovery.
func (s *Store) recovery() sandbox.Recovery {
	return sandbox.Recovery{Mark: sandbox.Mark{Incarnation: s.made, Changes: s.changes}, Since: s.since, Unreported: s.unreported}
}

func (s *Store) setRecovery(r sandbox.Recovery) {
	s.made, s.changes, s.since, s.unreported = r.Mark.Incarnation, r.Mark.Changes, r.Since, r.Unreported
}

func (s *Store) mayEnd(ctx context.Context) error {
	r := s.recovery()
	return r.MayEnd(ctx)
}

func (s *Store) current(ctx context.Context) error {
	r := s.recovery()
	return r.Current(ctx)
}

// mayPlace refuses what a store that is behind, or was, cannot answer for.
func (s *Store) mayPlace(ctx context.Context, r *sandbox.Record) error {
	if !r.Unplaced() || r.Predates(s.made) {
		return sandbox.ErrStale(r.ID)
	}
	return s.current(ctx)
}

// Recovery implements sandbox.Recoveries.
func (s *Store) Recovery(ctx context.Context) (sandbox.Recovery, error) {
	return s.recover(ctx, func(*step, *sandbox.Recovery) (bool, error) { return false, nil })
}

// GetWithRecovery implements sandbox.Recoveries.
func (s *Store) GetWithRecovery(ctx context.Context, id sandbox.ID) (r sandbox.Record, now sandbox.Recovery, err error) {
	err = s.do(ctx, func(*step) (err error) {
		r, err = s.copyOf(id)
		now = s.recovery()
		return err
	})
	return r, now, err
}

// recover changes the state of the recovery in one step and returns what it became.
func (s *Store) recover(ctx context.Context, fn func(st *step, r *sandbox.Recovery) (bool, error)) (sandbox.Recovery, error) {
	var out sandbox.Recovery
	err := s.do(ctx, func(st *step) error {
		out = s.recovery()
		changed, err := fn(st, &out)
		if err != nil || !changed {
			return err
		}
		s.setRecovery(out)
		st.topics = append(st.topics, sandbox.TopicDeadline, sandbox.TopicPlacement)
		return nil
	})
	return out, err
}

// Recover implements sandbox.Recoveries.
func (s *Store) Recover(ctx context.Context, c sandbox.Claim) (sandbox.Recovery, error) {
	return s.recover(ctx, func(st *step, r *sandbox.Recovery) (bool, error) {
		var names []string
		for name, n := range s.nodes {
			if !n.Removed {
				names = append(names, name)
			}
		}
		before := r.Since
		changed := r.Claim(c, names, st.now)
		if !r.Since.Equal(before) {
			for _, name := range names {
				if n := s.nodes[name]; !n.Live(st.now) {
					n.LeaseUntil = st.now
					s.nodes[name] = n
				}
			}
		}
		return changed, nil
	})
}

// Reported implements sandbox.Recoveries.
func (s *Store) Reported(ctx context.Context, name string, session uint64) (sandbox.Recovery, error) {
	return s.recover(ctx, func(_ *step, r *sandbox.Recovery) (bool, error) {
		if err := s.checkSession(name, session, ""); err != nil {
			return false, err
		}
		r.Reported(name)
		r.Mark.Changes++
		return true, nil
	})
}

// Settle implements sandbox.Recoveries.
func (s *Store) Settle(ctx context.Context) (sandbox.Recovery, error) {
	return s.recover(ctx, func(st *step, r *sandbox.Recovery) (bool, error) {
		live := func(name string) bool {
			n := s.nodes[name]
			return n.Live(st.now) && !n.Removed
		}
		if !r.Settle(live, st.now) {
			return false, nil
		}
		r.Mark.Changes++
		return true, nil
	})
}

// Sight implements sandbox.Recoveries. A port that somebody else has leased stays theirs.
func (s *Store) Sight(ctx context.Context, g sandbox.Sighting) (sandbox.Record, error) {
	var out sandbox.Record
	err := s.do(ctx, func(st *step) error {
		if err := s.checkSession(g.Node, g.Session, g.ID); err != nil {
			return err
		}
		if now := s.recovery(); !now.Awaits(g.Node) {
			return sandbox.ErrStale(g.ID)
		}
		e, known := s.records[g.ID]
		if !known {
			r := sandbox.SightedRecord(g, st.now)
			s.take(&r)
			out = s.put(st, r)
			return nil
		}
		r := e.rec.Clone()
		r.Sight(g, st.now)
		if was := e.rec.Placement; was.Node != r.Placement.Node || was.Epoch != r.Placement.Epoch {
			s.free(holder{was.Node, r.ID, was.Epoch})
			s.take(&r)
		}
		out = s.put(st, r)
		return nil
	})
	return out, err
}

// take notes what a placement holds that was made without asking for room.
func (s *Store) take(r *sandbox.Record) {
	h := holder{r.Placement.Node, r.ID, r.Placement.Epoch}
	s.holds[h] = r.Placement.Reserved
	for _, port := range r.Placement.Ports {
		l := lease{h.node, port}
		if _, taken := s.leases[l]; !taken {
			s.leases[l] = h
		}
	}
}

// CallRoll implements sandbox.Recoveries.
func (s *Store) CallRoll(ctx context.Context) error {
	return s.do(ctx, func(st *step) error {
		st.topics = append(st.topics, sandbox.TopicRollCall)
		return nil
	})
}
