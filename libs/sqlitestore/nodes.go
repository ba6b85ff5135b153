package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Register implements node.Registry. An engine that a dead agent of another node name had goes over to this one, and that node
// gets a new session, so that its agent cannot renew if it was only slow. It keeps whether the node is draining.
func (s *Store) Register(ctx context.Context, r node.Registration) (node.Node, error) {
	var out node.Node
	err := s.do(ctx, "register", func(t *tx) error {
		old, _, err := t.node(r.Name)
		if err != nil {
			return err
		}
		if old.Live(t.now) && !r.TakeOver {
			return node.ErrTaken("node", r.Name)
		}
		var live int
		if err := t.stmts.engine.QueryRowContext(t.ctx, r.EngineID, r.Name, t.now.UnixMicro()).Scan(&live); err != nil {
			return err
		}
		if live > 0 {
			return node.ErrTaken("engine", r.EngineID)
		}
		if _, err := t.stmts.engineDrop.ExecContext(t.ctx, r.EngineID, r.Name); err != nil {
			return err
		}
		out = node.Node{
			Name: r.Name, EngineID: r.EngineID, Session: old.Session + 1, LeaseUntil: t.now.Add(node.LeaseTime), Draining: old.Draining,
			Capacity: r.Capacity, MaxSandboxes: r.MaxSandboxes, PortMin: r.PortMin, PortMax: r.PortMax, Host: r.Host,
		}
		t.topics = append(t.topics, sandbox.TopicPlacement)
		_, err = t.stmts.nodePut.ExecContext(t.ctx, out.Name, out.EngineID, int64(out.Session), out.LeaseUntil.UnixMicro(), out.Draining,
			out.Capacity.CPU, out.Capacity.Memory, out.MaxSandboxes, out.PortMin, out.PortMax, out.Host)
		return err
	})
	if err != nil {
		return node.Node{}, err
	}
	return out, nil
}

// RenewLease implements node.Registry.
func (s *Store) RenewLease(ctx context.Context, name string, session uint64) error {
	return s.do(ctx, "renew lease", func(t *tx) error {
		n, ok, err := t.node(name)
		switch {
		case err != nil:
			return err
		case !ok:
			return unknownNode(name)
		case n.Session != session:
			return sandbox.ErrStale("")
		}
		_, err = t.stmts.nodeLease.ExecContext(t.ctx, t.now.Add(node.LeaseTime).UnixMicro(), name)
		return err
	})
}

// Release implements node.Registry.
func (s *Store) Release(ctx context.Context, name string, session uint64) error {
	return s.do(ctx, "release", func(t *tx) error {
		n, ok, err := t.node(name)
		if err != nil || !ok || n.Session != session || !n.Live(t.now) {
			return err
		}
		_, err = t.stmts.nodeLease.ExecContext(t.ctx, t.now.UnixMicro(), name)
		return err
	})
}

// SetDraining implements node.Registry. fault.NotFound for an unknown node.
func (s *Store) SetDraining(ctx context.Context, name string, draining bool) error {
	return s.do(ctx, "drain", func(t *tx) error {
		n, ok, err := t.node(name)
		if err != nil {
			return err
		}
		if !ok {
			return unknownNode(name)
		}
		if n.Draining && !draining {
			t.topics = append(t.topics, sandbox.TopicPlacement)
		}
		_, err = t.stmts.nodeDrain.ExecContext(t.ctx, draining, name)
		return err
	})
}

// Nodes implements node.Registry.
func (s *Store) Nodes(ctx context.Context) (out []node.Node, err error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	rows, err := s.reads.nodes.QueryContext(ctx)
	if err != nil {
		return nil, s.failed("nodes", err)
	}
	defer func() { err = s.failed("nodes", errors.Join(err, rows.Close())) }()
	for rows.Next() {
		n, err := scanNode(rows.Scan)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	return out, rows.Err()
}

func (t *tx) node(name string) (n node.Node, ok bool, err error) {
	n, err = scanNode(t.stmts.node.QueryRowContext(t.ctx, name).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return node.Node{}, false, nil
	}
	return n, err == nil, err
}

// scanNode reads nodeColumns.
func scanNode(scan func(...any) error) (node.Node, error) {
	var n node.Node
	var session, lease int64
	err := scan(&n.Name, &n.EngineID, &session, &lease, &n.Draining, &n.Capacity.CPU, &n.Capacity.Memory, &n.MaxSandboxes,
		&n.PortMin, &n.PortMax, &n.Host)
	if err != nil {
		return node.Node{}, err
	}
	n.Session, n.LeaseUntil = uint64(session), time.UnixMicro(lease).UTC()
	return n, nil
}

func unknownNode(name string) error {
	return fault.Newf(fault.NotFound, "node %q is not registered", name)
}
