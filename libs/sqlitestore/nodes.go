package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
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
		if err := t.recovery.Current(ctx); err != nil {
			return err
		}
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
		last, err := t.lastSession(r.Name)
		if err != nil {
			return err
		}
		out = node.Registered(r, max(old.Session, last)+1, old.Draining, t.now)
		t.topics, t.counts = append(t.topics, sandbox.TopicPlacement), true
		return t.putNode(out)
	})
	if err != nil {
		return node.Node{}, err
	}
	return out, nil
}

// facts are the parts of a node that no query compares.
type facts struct {
	Address  string            `json:"address,omitempty"`
	Platform string            `json:"platform,omitempty"`
	Runtimes []string          `json:"runtimes,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Images   []string          `json:"images,omitempty"`
}

func (t *tx) putNode(n node.Node) error {
	more, err := json.Marshal(facts{n.Address, n.Platform, n.Runtimes, n.Labels, n.Images})
	if err != nil {
		return err
	}
	_, err = t.stmts.nodePut.ExecContext(t.ctx, n.Name, n.EngineID, int64(n.Session), n.LeaseUntil.UnixMicro(), n.Draining,
		n.Capacity.CPU, n.Capacity.Memory, n.MaxSandboxes, n.PortMin, n.PortMax, n.Host, string(more), n.Removed)
	return err
}

// lastSession is the last one of a node that was forgotten, or 0.
func (t *tx) lastSession(name string) (uint64, error) {
	var session int64
	err := t.stmts.session.QueryRowContext(t.ctx, name).Scan(&session)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return uint64(session), err
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
		if err := t.recovery.Current(ctx); err != nil {
			return err
		}
		t.counts = true
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

// SetImages implements node.Registry.
func (s *Store) SetImages(ctx context.Context, name string, session uint64, images []string) error {
	return s.do(ctx, "set images", func(t *tx) error {
		n, ok, err := t.node(name)
		switch {
		case err != nil:
			return err
		case !ok || n.Session != session:
			return sandbox.ErrStale("")
		}
		n.Images = node.KeptImages(images)
		return t.putNode(n)
	})
}

// Remove implements node.Registry.
func (s *Store) Remove(ctx context.Context, name string) error {
	return s.do(ctx, "remove node", func(t *tx) error {
		n, ok, err := t.node(name)
		switch {
		case err != nil:
			return err
		case !ok:
			return unknownNode(name)
		case n.Removed:
			return nil
		}
		n.Remove(t.now)
		return t.putNode(n)
	})
}

// Forget implements node.Registry.
func (s *Store) Forget(ctx context.Context, name string) error {
	return s.do(ctx, "forget node", func(t *tx) error {
		n, ok, err := t.node(name)
		switch {
		case err != nil:
			return err
		case !ok:
			return unknownNode(name)
		}
		var used int
		if err := t.stmts.nodeUsed.QueryRowContext(t.ctx, name).Scan(&used); err != nil {
			return err
		}
		if !n.Removed || used > 0 {
			return sandbox.ErrStale("")
		}
		if _, err := t.stmts.sessionPut.ExecContext(t.ctx, name, int64(n.Session)); err != nil {
			return err
		}
		_, err = t.stmts.nodeForget.ExecContext(t.ctx, name)
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
	var more string
	err := scan(&n.Name, &n.EngineID, &session, &lease, &n.Draining, &n.Capacity.CPU, &n.Capacity.Memory, &n.MaxSandboxes,
		&n.PortMin, &n.PortMax, &n.Host, &more, &n.Removed)
	if err != nil {
		return node.Node{}, err
	}
	var f facts
	if err := json.Unmarshal([]byte(more), &f); err != nil {
		return node.Node{}, fmt.Errorf("the stored facts of node %s cannot be read: %w", n.Name, err)
	}
	n.Address, n.Platform, n.Runtimes, n.Labels, n.Images = f.Address, f.Platform, f.Runtimes, f.Labels, f.Images
	n.Session, n.LeaseUntil = uint64(session), time.UnixMicro(lease).UTC()
	return n, nil
}

func unknownNode(name string) error {
	return fault.Newf(fault.NotFound, "node %q is not registered", name)
}
