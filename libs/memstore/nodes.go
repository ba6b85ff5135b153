package memstore

import (
	"context"
	"slices"
	"strings"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Register implements node.Registry. An engine that a dead agent of another node name had goes over to this one, and that node
// gets a new session, so that its agent cannot renew if it was only slow. It keeps whether the node is draining.
func (s *Store) Register(ctx context.Context, r node.Registration) (node.Node, error) {
	var out node.Node
	err := s.do(ctx, func(st *step) error {
		if err := s.current(ctx); err != nil {
			return err
		}
		old := s.nodes[r.Name]
		if old.Live(st.now) && !r.TakeOver {
			return node.ErrTaken("node", r.Name)
		}
		for _, n := range s.nodes {
			if n.Name != r.Name && n.EngineID == r.EngineID && n.Live(st.now) {
				return node.ErrTaken("engine", r.EngineID)
			}
		}
		for name, n := range s.nodes {
			if name != r.Name && n.EngineID == r.EngineID {
				n.Session, n.EngineID = n.Session+1, ""
				s.nodes[name] = n
			}
		}
		s.changes++
		s.nodes[r.Name] = node.Registered(r, max(old.Session, s.sessions[r.Name])+1, old.Draining, st.now)
		out = s.nodes[r.Name].Clone()
		st.topics = append(st.topics, sandbox.TopicPlacement)
		return nil
	})
	return out, err
}

// RenewLease implements node.Registry.
func (s *Store) RenewLease(ctx context.Context, name string, session uint64) error {
	return s.do(ctx, func(st *step) error {
		n, ok := s.nodes[name]
		if !ok {
			return unknownNode(name)
		}
		if n.Session != session {
			return sandbox.ErrStale("")
		}
		if err := s.current(ctx); err != nil {
			return err
		}
		n.LeaseUntil = st.now.Add(node.LeaseTime)
		s.changes++
		s.nodes[name] = n
		return nil
	})
}

// Release implements node.Registry.
func (s *Store) Release(ctx context.Context, name string, session uint64) error {
	return s.do(ctx, func(st *step) error {
		if n, ok := s.nodes[name]; ok && n.Session == session && n.Live(st.now) {
			n.LeaseUntil = st.now
			s.nodes[name] = n
		}
		return nil
	})
}

// SetDraining implements node.Registry. fault.NotFound for an unknown node.
func (s *Store) SetDraining(ctx context.Context, name string, draining bool) error {
	return s.do(ctx, func(st *step) error {
		n, ok := s.nodes[name]
		if !ok {
			return unknownNode(name)
		}
		if n.Draining && !draining {
			st.topics = append(st.topics, sandbox.TopicPlacement)
		}
		n.Draining = draining
		s.nodes[name] = n
		return nil
	})
}

// SetImages implements node.Registry.
func (s *Store) SetImages(ctx context.Context, name string, session uint64, images []string) error {
	return s.do(ctx, func(*step) error {
		n, ok := s.nodes[name]
		if !ok || n.Session != session {
			return sandbox.ErrStale("")
		}
		n.Images = node.KeptImages(images)
		s.nodes[name] = n
		return nil
	})
}

// Remove implements node.Registry.
func (s *Store) Remove(ctx context.Context, name string) error {
	return s.do(ctx, func(st *step) error {
		n, ok := s.nodes[name]
		if !ok {
			return unknownNode(name)
		}
		if n.Removed {
			return nil
		}
		n.Remove(st.now)
		s.nodes[name] = n
		return nil
	})
}

// Forget implements node.Registry.
func (s *Store) Forget(ctx context.Context, name string) error {
	return s.do(ctx, func(*step) error {
		n, ok := s.nodes[name]
		if !ok {
			return unknownNode(name)
		}
		if placed := s.where(func(e *entry) bool { return e.rec.Placed() && e.rec.Placement.Node == name }); !n.Removed || len(placed) > 0 {
			return sandbox.ErrStale("")
		}
		s.sessions[name] = n.Session
		delete(s.nodes, name)
		return nil
	})
}

// Nodes implements node.Registry.
func (s *Store) Nodes(ctx context.Context) ([]node.Node, error) {
	var out []node.Node
	err := s.do(ctx, func(*step) error {
		for _, n := range s.nodes {
			out = append(out, n.Clone())
		}
		slices.SortFunc(out, func(a, b node.Node) int { return strings.Compare(a.Name, b.Name) })
		return nil
	})
	return out, err
}

func unknownNode(name string) error {
	return fault.Newf(fault.NotFound, "node %q is not registered", name)
}
