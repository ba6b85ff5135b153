package memstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"opensandbox/libs/sandbox"
)

// checkSession gives ErrStale unless session is the present one of a known node.
func (s *Store) checkSession(name string, session uint64, id sandbox.ID) error {
	if n, ok := s.nodes[name]; !ok || n.Session != session {
		return sandbox.ErrStale(id)
	}
	return nil
}

// Work implements sandbox.Observations.
func (s *Store) Work(ctx context.Context, name string, max int) ([]sandbox.Task, error) {
	var out []sandbox.Task
	err := s.do(ctx, func(*step) error {
		found := s.where(func(e *entry) bool { return e.rec.NeedsWork() && e.rec.Placement.Node == name })
		slices.SortStableFunc(found, func(a, b *entry) int { return cmp.Compare(a.workSince, b.workSince) })
		for _, e := range found[:min(len(found), atLeast0(max))] {
			out = append(out, sandbox.Task{ID: e.rec.ID, Since: e.workSince})
		}
		return nil
	})
	return out, err
}

// OnNode implements sandbox.Observations. Order: by id.
func (s *Store) OnNode(ctx context.Context, name string) ([]sandbox.Record, error) {
	var out []sandbox.Record
	err := s.do(ctx, func(*step) error {
		found := s.where(func(e *entry) bool { return e.rec.Placed() && e.rec.Placement.Node == name })
		out = copies(found, len(found))
		return nil
	})
	return out, err
}

// Report implements sandbox.Observations.
func (s *Store) Report(ctx context.Context, rep sandbox.Report) (sandbox.Record, error) {
	return s.update(ctx, rep.ID, func(r *sandbox.Record, now time.Time) error {
		if err := s.checkSession(rep.Node, rep.Session, rep.ID); err != nil {
			return err
		}
		return r.Observe(rep, now)
	})
}

// SwapPort implements sandbox.Observations.
func (s *Store) SwapPort(ctx context.Context, p sandbox.PortSwap) (sandbox.Record, error) {
	var out sandbox.Record
	err := s.do(ctx, func(st *step) error {
		r, err := s.copyOf(p.ID)
		if err != nil {
			return err
		}
		if err := s.checkSession(p.Node, p.Session, p.ID); err != nil {
			return err
		}
		// The guard first, with the lease as it is: a port is drawn only for a swap that will happen.
		if err := r.SwapPort(p, p.Taken); err != nil {
			return err
		}
		fresh, ok := s.freePorts(p.Node, p.PortMin, p.PortMax, 1, st.now)
		if !ok {
			return sandbox.ErrNoCapacity(p.ID, []string{"node " + p.Node + ": " + sandbox.ShortPorts(1, p.PortMin, p.PortMax)})
		}
		if err := r.SwapPort(p, fresh[0]); err != nil {
			return err
		}
		delete(s.leases, lease{p.Node, p.Taken})
		s.barred[lease{p.Node, p.Taken}] = st.now.Add(sandbox.PortQuarantine)
		s.leases[lease{p.Node, fresh[0]}] = holder{p.Node, p.ID, p.Epoch}
		out = s.put(st, r)
		return nil
	})
	return out, err
}

// Cleaned implements sandbox.Observations. ErrStale also when the epoch is the present one of a sandbox that is neither Gone nor a
// failed create: nothing of it may have been removed.
func (s *Store) Cleaned(ctx context.Context, c sandbox.Cleaned) error {
	return s.do(ctx, func(st *step) error {
		if err := s.checkSession(c.Node, c.Session, c.ID); err != nil {
			return err
		}
		if e, ok := s.records[c.ID]; ok {
			r := e.rec.Clone()
			present := r.Placed() && r.Placement.Node == c.Node && r.Placement.Epoch == c.Epoch
			if !r.Clean(c.Node, c.Epoch, st.now) && present {
				return sandbox.ErrStale(c.ID)
			}
			s.put(st, r)
		}
		s.free(holder{c.Node, c.ID, c.Epoch})
		return nil
	})
}

// Unmirrored implements sandbox.Observations. Order: by id.
func (s *Store) Unmirrored(ctx context.Context, name string, max int) ([]sandbox.Record, error) {
	var out []sandbox.Record
	err := s.do(ctx, func(*step) error {
		out = copies(s.where(func(e *entry) bool {
			return e.rec.Placed() && e.rec.Placement.Node == name && e.rec.Version > e.mirrored
		}), max)
		return nil
	})
	return out, err
}

// Mirrored implements sandbox.Observations. Ids that are not on the node are passed over.
func (s *Store) Mirrored(ctx context.Context, name string, versions map[sandbox.ID]uint64) error {
	return s.do(ctx, func(*step) error {
		for id, v := range versions {
			if e, ok := s.records[id]; ok && e.rec.Placement.Node == name {
				e.mirrored = max(e.mirrored, min(v, e.rec.Version))
			}
		}
		return nil
	})
}
