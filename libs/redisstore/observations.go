package redisstore

import (
	"context"
	"maps"
	"strconv"

	"opensandbox/libs/sandbox"
)

// session makes a change depend on the present session of a node, and gives ErrStale when it is another already.
func (s *Store) session(c *change, have []string, node string, session uint64) error {
	want := strconv.FormatUint(session, 10)
	if have[0] != want {
		return sandbox.ErrStale(c.id)
	}
	c.guard(s.keys.sessions(), node, want)
	return nil
}

// updateAs is update for the agent of a node: it holds only as long as its session is the present one.
func (s *Store) updateAs(ctx context.Context, op string, id sandbox.ID, node string, session uint64, fn decision) (sandbox.Record, error) {
	return s.updateBy(ctx, op, id, []hash{{s.keys.sessions(), []string{node}}}, func(v *view, r *sandbox.Record, c *change) error {
		if err := s.session(c, v.more[0], node, session); err != nil {
			return err
		}
		return fn(v, r, c)
	})
}

// Work implements sandbox.Observations.
func (s *Store) Work(ctx context.Context, node string, max int) ([]sandbox.Task, error) {
	if max < 1 {
		return nil, nil
	}
	found, err := s.client.ZRangeWithScores(ctx, s.keys.work(node), 0, int64(max)-1).Result()
	if err != nil {
		return nil, s.failed("work", err)
	}
	out := make([]sandbox.Task, 0, len(found))
	for _, z := range found {
		out = append(out, sandbox.Task{ID: sandbox.ID(z.Member.(string)), Since: uint64(z.Score)})
	}
	return out, nil
}

func asIDs(ids []string) []sandbox.ID {
	out := make([]sandbox.ID, 0, len(ids))
	for _, id := range ids {
		out = append(out, sandbox.ID(id))
	}
	return out
}

// onNodeBatch bounds how many records are fetched at once.
const onNodeBatch = 500

// OnNode implements sandbox.Observations. Order: by id. It is read in parts, so it is not one moment of the store; every record that
// was on the node all the time is there.
func (s *Store) OnNode(ctx context.Context, node string) ([]sandbox.Record, error) {
	ids, err := s.client.ZRange(ctx, s.keys.placed(node), 0, -1).Result()
	if err != nil {
		return nil, s.failed("on node", err)
	}
	var out []sandbox.Record
	var unread *sandbox.Unread
	for len(ids) > 0 {
		n := min(onNodeBatch, len(ids))
		recs, unknown, err := s.loadAll(ctx, asIDs(ids[:n]))
		if err != nil {
			return nil, s.failed("on node", err)
		}
		switch {
		case unread == nil:
			unread = unknown
		case unknown != nil:
			unread.IDs = append(unread.IDs, unknown.IDs...)
		}
		for _, r := range recs {
			if r != nil && r.Placed() && r.Placement.Node == node {
				out = append(out, *r)
			}
		}
		ids = ids[n:]
	}
	if unread != nil {
		return out, unread // whoever needs all of them must know
	}
	return out, nil
}

// Report implements sandbox.Observations.
func (s *Store) Report(ctx context.Context, rep sandbox.Report) (sandbox.Record, error) {
	observe := func(v *view, r *sandbox.Record, _ *change) error { return r.Observe(rep, v.now) }
	if r, done, err := s.guess(ctx, "report", rep.Seen, observe, func(c *change) {
		c.guard(s.keys.sessions(), rep.Node, strconv.FormatUint(rep.Session, 10))
	}); done || err != nil {
		return r, err
	}
	return s.updateAs(ctx, "report", rep.ID, rep.Node, rep.Session, observe)
}

// SwapPort implements sandbox.Observations.
func (s *Store) SwapPort(ctx context.Context, p sandbox.PortSwap) (sandbox.Record, error) {
	for attempt := range attempts {
		if err := wait(ctx, attempt); err != nil {
			return sandbox.Record{}, err
		}
		out, again, err := s.swapOnce(ctx, p)
		if err != nil {
			return sandbox.Record{}, s.failed("swap port", err)
		}
		if !again {
			return out, nil
		}
	}
	return sandbox.Record{}, errContended(p.ID)
}

func (s *Store) swapOnce(ctx context.Context, p sandbox.PortSwap) (r sandbox.Record, again bool, err error) {
	v, err := s.look(ctx, p.ID, hash{s.keys.sessions(), []string{p.Node}})
	if err != nil {
		return r, false, err
	}
	if v.rec == nil {
		return r, false, sandbox.ErrNotFound(p.ID)
	}
	k, c := s.keys, s.keys.change(p.ID, strconv.FormatUint(v.rec.Version, 10))
	if err := s.session(c, v.more[0], p.Node, p.Session); err != nil {
		return r, false, err
	}
	r = v.rec.Clone()
	// The new port is the script's choice; zero stands for it here.
	if err := r.SwapPort(p, 0); err != nil {
		return r, false, err
	}
	kept := maps.Clone(r.Placement.Ports)
	delete(kept, p.ContainerPort)
	by := holder(p.ID, p.Epoch)
	s.room(c, roomFor{
		node: p.Node, holder: by, candidate: sandbox.Candidate{PortMin: p.PortMin, PortMax: p.PortMax}, now: v.now,
		kept: portList(kept), inside: []int{p.ContainerPort},
	})
	if _, err := c.write(v.rec, &r); err != nil {
		return r, false, err
	}
	c.op("swap", c.key(k.holds(p.Node)), c.key(k.ports(p.Node)), c.key(k.barred(p.Node)), by, p.Taken, micros(v.now.Add(sandbox.PortQuarantine)))
	answer, ports, err := s.apply(ctx, c)
	switch {
	case err != nil:
		return r, false, err
	case answer == answerPorts:
		return r, false, sandbox.ErrNoCapacity(p.ID, []string{"node " + p.Node + ": " + sandbox.ShortPorts(1, p.PortMin, p.PortMax)})
	case answer != answerOK:
		return r, true, nil
	}
	r.Version = v.rec.Version + 1
	r.Placement.Ports, _ = parsePortList(ports)
	return r, false, nil
}

// Cleaned implements sandbox.Observations. ErrStale also when the epoch is the present one of a sandbox that is neither Gone nor a
// failed create: nothing of it may have been removed.
func (s *Store) Cleaned(ctx context.Context, cl sandbox.Cleaned) error {
	for attempt := range attempts {
		if err := wait(ctx, attempt); err != nil {
			return err
		}
		again, err := s.cleanOnce(ctx, cl)
		if err != nil {
			return s.failed("cleaned", err)
		}
		if !again {
			return nil
		}
	}
	return errContended(cl.ID)
}

func (s *Store) cleanOnce(ctx context.Context, cl sandbox.Cleaned) (again bool, err error) {
	v, err := s.look(ctx, cl.ID, hash{s.keys.sessions(), []string{cl.Node}})
	if err != nil {
		return false, err
	}
	c := s.keys.change(cl.ID, noRecord)
	if v.rec != nil {
		r := v.rec.Clone()
		present := r.Placed() && r.Placement.Node == cl.Node && r.Placement.Epoch == cl.Epoch
		changed := r.Clean(cl.Node, cl.Epoch, v.now)
		if !changed && present {
			return false, sandbox.ErrStale(cl.ID)
		}
		if changed {
			c = s.keys.change(cl.ID, strconv.FormatUint(v.rec.Version, 10))
			if _, err := c.write(v.rec, &r); err != nil {
				return false, err
			}
		}
	}
	if err := s.session(c, v.more[0], cl.Node, cl.Session); err != nil {
		return false, err
	}
	c.free(cl.Node, cl.Epoch)
	answer, _, err := s.apply(ctx, c)
	return answer != answerOK, err
}

// Unmirrored implements sandbox.Observations. Order: by id.
func (s *Store) Unmirrored(ctx context.Context, node string, max int) ([]sandbox.Record, error) {
	return s.first(ctx, "unmirrored", s.keys.mirror(node), max)
}

// Mirrored implements sandbox.Observations. Ids that are not on the node are passed over.
func (s *Store) Mirrored(ctx context.Context, node string, versions map[sandbox.ID]uint64) error {
	if len(versions) == 0 {
		return nil
	}
	keyList, args := []string{s.keys.mirror(node)}, []any{node}
	for _, id := range sortedKeys(versions) {
		keyList = append(keyList, s.keys.record(id))
		args = append(args, string(id), strconv.FormatUint(versions[id], 10))
	}
	return s.failed("mirrored", s.scripts.mirrored.Run(ctx, s.client, keyList, args...).Err())
}
