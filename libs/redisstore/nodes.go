package redisstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// registry is all nodes at one moment. Node, lease and session are kept apart: a renewal of a lease touches nothing else.
type registry struct {
	now    time.Time
	nodes  map[string]node.Node
	leases map[string]string
	// forgotten are the last sessions of nodes that are not on the list any more.
	forgotten map[string]string
	// version changes with every change of a node but the renewals.
	version string
}

func parseNode(raw, lease string) (node.Node, error) {
	var n node.Node
	if err := json.Unmarshal([]byte(raw), &n); err != nil {
		return n, fmt.Errorf("a stored node cannot be read: %w", err)
	}
	var err error
	if n.LeaseUntil, err = parseMicros(lease); err != nil {
		return n, fmt.Errorf("the lease of node %s cannot be read: %w", n.Name, err)
	}
	return n, nil
}

// registry reads all nodes.
func (s *Store) registry(ctx context.Context) (*registry, error) {
	var raw, leases, images, last *redis.MapStringStringCmd
	var version *redis.SliceCmd
	err := s.readTogether(ctx, func(pipe redis.Pipeliner) {
		raw, leases, images = pipe.HGetAll(ctx, s.keys.nodes()), pipe.HGetAll(ctx, s.keys.leases()), pipe.HGetAll(ctx, s.keys.images())
		version, last = pipe.HMGet(ctx, s.keys.meta(), metaNodes), pipe.HGetAll(ctx, s.keys.forgotten())
	})
	if err != nil {
		return nil, err
	}
	g := &registry{nodes: map[string]node.Node{}, leases: leases.Val(), forgotten: last.Val()}
	g.version, _ = version.Val()[0].(string)
	for name, text := range raw.Val() {
		n, err := parseNode(text, g.leases[name])
		if err != nil {
			return nil, err
		}
		if list := images.Val()[name]; list != "" {
			n.Images = strings.Split(list, "\n")
		}
		g.nodes[name] = n
	}
	s.fleet.Store(&fleet{raw.Val(), g.leases, time.Now()})
	return g, nil
}

// lastSession is the last one of a node that was forgotten, or 0.
func (g *registry) lastSession(name string) (uint64, error) {
	text := g.forgotten[name]
	if text == "" {
		return 0, nil
	}
	return strconv.ParseUint(text, 10, 64)
}

// nodesChange is a change of nodes on condition that none has changed since g was read.
func (s *Store) nodesChange(g *registry) *change {
	c := s.keys.change("", noRecord)
	c.name = callName()
	c.guard(s.keys.meta(), metaNodes, g.version)
	c.op("incr", c.key(s.keys.meta()), metaNodes)
	return c
}

// putNode writes a node; its lease only if asked. Its images are kept apart, because placement reads and guards the node.
func (s *Store) putNode(c *change, n node.Node, lease bool) error {
	until := n.LeaseUntil
	n.LeaseUntil, n.Images = time.Time{}, nil
	raw, err := json.Marshal(&n)
	if err != nil {
		return fault.New(fault.Invalid, "the node cannot be stored").Because(err)
	}
	c.op("hset", c.key(s.keys.nodes()), n.Name, string(raw))
	c.op("hset", c.key(s.keys.sessions()), n.Name, strconv.FormatUint(n.Session, 10))
	if lease {
		c.op("hset", c.key(s.keys.leases()), n.Name, micros(until))
	}
	return nil
}

// changeNodes reads all nodes, lets fn decide, and writes on condition that nothing has changed in between. fn reports whether there is
// anything to write.
func (s *Store) changeNodes(ctx context.Context, op string, fn func(g *registry, c *change) (bool, error)) error {
	for attempt := range attempts {
		if err := wait(ctx, attempt); err != nil {
			return err
		}
		now, err := s.Now(ctx)
		if err != nil {
			return err
		}
		g, err := s.registry(ctx)
		if err != nil {
			return s.failed(op, err)
		}
		g.now = now
		c := s.nodesChange(g)
		c.guardMark(ctx, false)
		if changed, err := fn(g, c); err != nil || !changed {
			return s.failed(op, err)
		}
		answer, _, err := s.apply(ctx, c)
		if err != nil {
			return s.failed(op, err)
		}
		if answer == answerOK {
			return nil
		}
		if err := s.current(ctx); err != nil {
			return err
		}
	}
	return errContended("")
}

// Register implements node.Registry. An engine that a dead agent of another node name had goes over to this one, and that node gets a
// new session, so that its agent cannot renew if it was only slow. It keeps whether the node is draining.
func (s *Store) Register(ctx context.Context, r node.Registration) (node.Node, error) {
	var out node.Node
	err := s.changeNodes(ctx, "register", func(g *registry, c *change) (changed bool, err error) {
		out, err = s.register(g, c, r)
		return true, err
	})
	if err != nil {
		return node.Node{}, err
	}
	return out, nil
}

func (s *Store) register(g *registry, c *change, r node.Registration) (node.Node, error) {
	old := g.nodes[r.Name]
	if old.Live(g.now) && !r.TakeOver {
		return node.Node{}, node.ErrTaken("node", r.Name)
	}
	// What was decided by a lease depends on it: its agent may renew at this moment.
	c.guard(s.keys.leases(), r.Name, g.leases[r.Name])
	for _, name := range sortedKeys(g.nodes) {
		n := g.nodes[name]
		if name == r.Name || n.EngineID != r.EngineID {
			continue
		}
		if n.Live(g.now) {
			return node.Node{}, node.ErrTaken("engine", r.EngineID)
		}
		c.guard(s.keys.leases(), name, g.leases[name])
		n.Session, n.EngineID = n.Session+1, ""
		if err := s.putNode(c, n, false); err != nil {
			return node.Node{}, err
		}
	}
	last, err := g.lastSession(r.Name)
	if err != nil {
		return node.Node{}, err
	}
	n := node.Registered(r, max(old.Session, last)+1, old.Draining, g.now)
	c.topics = append(c.topics, sandbox.TopicPlacement)
	c.op("hdel", c.key(s.keys.images()), r.Name)
	return n.Clone(), s.putNode(c, n, true)
}

// RenewLease implements node.Registry.
func (s *Store) RenewLease(ctx context.Context, name string, session uint64) error {
	return s.lease(ctx, "renew lease", name, session, func(now, _ time.Time) (time.Time, bool) { return now.Add(node.LeaseTime), true })
}

// Release implements node.Registry.
func (s *Store) Release(ctx context.Context, name string, session uint64) error {
	err := s.lease(ctx, "release", name, session, func(now, until time.Time) (time.Time, bool) { return now, now.Before(until) })
	if sandbox.IsStale(err) || fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// lease changes the lease of a session that is the present one.
func (s *Store) lease(ctx context.Context, op, name string, session uint64, until func(now, was time.Time) (time.Time, bool)) error {
	want := strconv.FormatUint(session, 10)
	for attempt := range attempts {
		if err := wait(ctx, attempt); err != nil {
			return err
		}
		now, have, err := s.read(ctx, []string{s.keys.sessions(), s.keys.leases()}, []any{1, name, 1, name})
		if err != nil {
			return s.failed(op, err)
		}
		present, known := have[0][0].(string)
		if !known {
			return unknownNode(name)
		}
		if present != want {
			return sandbox.ErrStale("")
		}
		text, _ := have[1][0].(string)
		was, err := parseMicros(text)
		if err != nil {
			return s.failed(op, err)
		}
		at, changed := until(now, was)
		if !changed {
			return nil
		}
		c := s.keys.change("", noRecord)
		c.guard(s.keys.sessions(), name, want)
		c.guardMark(ctx, false)
		c.op("hset", c.key(s.keys.leases()), name, micros(at))
		answer, _, err := s.apply(ctx, c)
		if err != nil {
			return s.failed(op, err)
		}
		if answer == answerOK {
			return nil
		}
		if err := s.current(ctx); err != nil {
			return err
		}
	}
	return errContended("")
}

// SetDraining implements node.Registry. fault.NotFound for an unknown node.
func (s *Store) SetDraining(ctx context.Context, name string, draining bool) error {
	return s.changeNodes(ctx, "set draining", func(g *registry, c *change) (bool, error) {
		n, ok := g.nodes[name]
		if !ok {
			return false, unknownNode(name)
		}
		if n.Draining && !draining {
			c.topics = append(c.topics, sandbox.TopicPlacement)
		}
		n.Draining = draining
		return true, s.putNode(c, n, false)
	})
}

// SetImages implements node.Registry.
func (s *Store) SetImages(ctx context.Context, name string, session uint64, images []string) error {
	c := s.keys.change("", noRecord)
	c.guard(s.keys.sessions(), name, strconv.FormatUint(session, 10))
	// No reference to an image has a line break in it.
	c.op("hset", c.key(s.keys.images()), name, strings.Join(node.KeptImages(images), "\n"))
	answer, _, err := s.apply(ctx, c)
	if err != nil {
		return s.failed("set images", err)
	}
	if answer != answerOK {
		return sandbox.ErrStale("")
	}
	return nil
}

// Remove implements node.Registry.
func (s *Store) Remove(ctx context.Context, name string) error {
	return s.changeNodes(ctx, "remove node", func(g *registry, c *change) (bool, error) {
		n, ok := g.nodes[name]
		switch {
		case !ok:
			return false, unknownNode(name)
		case n.Removed:
			return false, nil
		}
		c.guard(s.keys.leases(), name, g.leases[name])
		n.Remove(g.now)
		return true, s.putNode(c, n, true)
	})
}

// Forget implements node.Registry.
func (s *Store) Forget(ctx context.Context, name string) error {
	// Nothing is placed on a removed node, so what is counted here can only become less until the node registers again, and then the
	// change does not hold.
	return s.changeNodes(ctx, "forget node", func(g *registry, c *change) (bool, error) {
		n, ok := g.nodes[name]
		if !ok {
			return false, unknownNode(name)
		}
		if !n.Removed {
			return false, sandbox.ErrStale("")
		}
		placed, err := s.client.ZCard(ctx, s.keys.placed(name)).Result()
		if err != nil {
			return false, err
		}
		if placed > 0 {
			return false, sandbox.ErrStale("")
		}
		k := s.keys
		for _, key := range []string{k.nodes(), k.leases(), k.sessions(), k.images()} {
			c.op("hdel", c.key(key), name)
		}
		for _, key := range []string{k.used(name), k.holds(name), k.ports(name), k.barred(name), k.work(name), k.mirror(name)} {
			c.op("del", c.key(key))
		}
		c.op("hset", c.key(k.forgotten()), name, strconv.FormatUint(n.Session, 10))
		return true, nil
	})
}

// Nodes implements node.Registry.
func (s *Store) Nodes(ctx context.Context) ([]node.Node, error) {
	g, err := s.registry(ctx)
	if err != nil {
		return nil, s.failed("nodes", err)
	}
	out := make([]node.Node, 0, len(g.nodes))
	for _, n := range g.nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b node.Node) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func unknownNode(name string) error {
	return fault.Newf(fault.NotFound, "node %q is not registered", name)
}
