package sqlitestore

import (
	"context"
	"math"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// checkSession gives ErrStale unless session is the present one of a known node.
func (t *tx) checkSession(name string, session uint64, id sandbox.ID) error {
	n, ok, err := t.node(name)
	if err != nil {
		return err
	}
	if !ok || n.Session != session {
		return sandbox.ErrStale(id)
	}
	return nil
}

// Work implements sandbox.Observations.
func (s *Store) Work(ctx context.Context, name string, max int) (out []sandbox.Task, err error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	rows, err := s.reads.work.QueryContext(ctx, name, atLeast0(max))
	if err != nil {
		return nil, s.failed("work", err)
	}
	defer rows.Close()
	for rows.Next() {
		var t sandbox.Task
		if err := rows.Scan(&t.ID, &t.Since); err != nil {
			return nil, s.failed("work", err)
		}
		out = append(out, t)
	}
	return out, s.failed("work", rows.Err())
}

// OnNode implements sandbox.Observations. Order: by id.
func (s *Store) OnNode(ctx context.Context, name string) ([]sandbox.Record, error) {
	return s.records(ctx, "on node", s.reads.onNode, name)
}

// Report implements sandbox.Observations.
func (s *Store) Report(ctx context.Context, rep sandbox.Report) (sandbox.Record, error) {
	return s.update(ctx, "report", rep.ID, func(t *tx, r *sandbox.Record) error {
		if err := t.checkSession(rep.Node, rep.Session, rep.ID); err != nil {
			return err
		}
		return r.Observe(rep, t.now)
	})
}

// SwapPort implements sandbox.Observations.
func (s *Store) SwapPort(ctx context.Context, p sandbox.PortSwap) (sandbox.Record, error) {
	return s.update(ctx, "swap port", p.ID, func(t *tx, r *sandbox.Record) error {
		if err := t.checkSession(p.Node, p.Session, p.ID); err != nil {
			return err
		}
		// The guard first, with the lease as it is: a port is drawn only for a swap that will happen.
		if err := r.SwapPort(p, p.Taken); err != nil {
			return err
		}
		fresh, err := t.freePorts(p.Node, p.PortMin, p.PortMax, 1)
		if err != nil {
			return err
		}
		if len(fresh) == 0 {
			return sandbox.ErrNoCapacity(p.ID, []string{"node " + p.Node + ": " + sandbox.ShortPorts(1, p.PortMin, p.PortMax)})
		}
		if err := r.SwapPort(p, fresh[0]); err != nil {
			return err
		}
		until := t.now.Add(sandbox.PortQuarantine).UnixMicro()
		if _, err := t.stmts.portBar.ExecContext(t.ctx, until, p.Node, p.Taken); err != nil {
			return err
		}
		_, err = t.stmts.portLease.ExecContext(t.ctx, p.Node, fresh[0], string(p.ID), int64(p.Epoch))
		return err
	})
}

// Cleaned implements sandbox.Observations. ErrStale also when the epoch is the present one of a sandbox that is neither Gone nor a
// failed create: nothing of it may have been removed.
func (s *Store) Cleaned(ctx context.Context, c sandbox.Cleaned) error {
	return s.do(ctx, "cleaned", func(t *tx) error {
		if err := t.checkSession(c.Node, c.Session, c.ID); err != nil {
			return err
		}
		before, err := t.load(c.ID)
		if fault.Is(err, fault.NotFound) {
			return t.free(c.Node, c.ID, c.Epoch)
		}
		if err != nil {
			return err
		}
		r := before.Clone()
		present := r.Placed() && r.Placement.Node == c.Node && r.Placement.Epoch == c.Epoch
		if !r.Clean(c.Node, c.Epoch, t.now) && present {
			return sandbox.ErrStale(c.ID)
		}
		if _, err := t.save(before, r); err != nil {
			return err
		}
		return t.free(c.Node, c.ID, c.Epoch)
	})
}

// Unmirrored implements sandbox.Observations. Order: by id.
func (s *Store) Unmirrored(ctx context.Context, name string, max int) ([]sandbox.Record, error) {
	return s.records(ctx, "unmirrored", s.reads.unmirrored, name, atLeast0(max))
}

// Mirrored implements sandbox.Observations. Ids that are not on the node are passed over.
func (s *Store) Mirrored(ctx context.Context, name string, versions map[sandbox.ID]uint64) error {
	if len(versions) == 0 {
		return s.check(ctx)
	}
	return s.do(ctx, "mirrored", func(t *tx) error {
		for id, v := range versions {
			if _, err := t.stmts.mirrored.ExecContext(t.ctx, int64(min(v, math.MaxInt64)), string(id), name); err != nil {
				return err
			}
		}
		return nil
	})
}
