package redisstore

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// markFields are the fields of the meta hash that a Recovery is read from: when the store was made or last recovered, the number of
// changes, when the recovery began that is going on, and the nodes that have not reported, one a line.
var markFields = []string{metaMade, metaChanges, metaRecovering, metaUnreported}

// parseRecovery reads the values of markFields.
func parseRecovery(v []string) (r sandbox.Recovery, err error) {
	if r.Mark.Incarnation, err = parseMicros(v[0]); err != nil {
		return r, err
	}
	if v[1] != "" {
		if r.Mark.Changes, err = strconv.ParseUint(v[1], 10, 64); err != nil {
			return r, err
		}
	}
	if r.Since, err = parseMicros(v[2]); err != nil {
		return r, err
	}
	if v[3] != "" {
		r.Unreported = strings.Split(v[3], "\n")
	}
	return r, nil
}

// guardMark makes a change depend on no recovery going on, if it may end something, and on the store not being behind what the caller has
// seen of it.
func (c *change) guardMark(ctx context.Context, ends bool) {
	meta := c.k.meta()
	if ends {
		c.guard(meta, metaRecovering, "")
	}
	if known := sandbox.MarkOf(ctx); known != (sandbox.Mark{}) {
		c.guard(meta, metaMade, micros(known.Incarnation))
		c.guard(meta, metaChanges, atLeast+strconv.FormatUint(known.Changes, 10))
	}
}

// atLeast stands before a guarded number that may be higher.
const atLeast = ">"

// lookRecovery reads the state of the last recovery, and other hashes at the same moment.
func (s *Store) lookRecovery(ctx context.Context, more ...hash) (v *view, r sandbox.Recovery, err error) {
	if v, err = s.look(ctx, "", append([]hash{{s.keys.meta(), markFields}}, more...)...); err != nil {
		return nil, r, err
	}
	r, err = parseRecovery(v.more[0])
	return v, r, err
}

// Recovery implements sandbox.Recoveries.
func (s *Store) Recovery(ctx context.Context) (sandbox.Recovery, error) {
	_, r, err := s.lookRecovery(ctx)
	return r, s.failed("recovery", err)
}

// GetWithRecovery implements sandbox.Recoveries.
func (s *Store) GetWithRecovery(ctx context.Context, id sandbox.ID) (sandbox.Record, sandbox.Recovery, error) {
	// The record comes first: a store that goes back between the two shows a mark that is behind, and not a record that is.
	pipe := s.client.Pipeline()
	record, meta := pipe.HMGet(ctx, s.keys.record(id), fields...), pipe.HMGet(ctx, s.keys.meta(), markFields...)
	if _, err := pipe.Exec(ctx); err != nil {
		return sandbox.Record{}, sandbox.Recovery{}, s.failed("get", err)
	}
	r, err := decode(id, record.Val())
	if err != nil {
		return sandbox.Record{}, sandbox.Recovery{}, s.failed("get", err)
	}
	now, err := parseRecovery(texts(meta.Val()))
	return *r, now, s.failed("get", err)
}

// mayEnd is Recovery.MayEnd for the present state.
func (s *Store) mayEnd(ctx context.Context) error {
	r, err := s.Recovery(ctx)
	if err != nil {
		return err
	}
	return r.MayEnd(ctx)
}

// current is Recovery.Current for the present state, which is asked for only if the caller has seen the store before.
func (s *Store) current(ctx context.Context) error {
	if sandbox.MarkOf(ctx) == (sandbox.Mark{}) {
		return nil
	}
	r, err := s.Recovery(ctx)
	if err != nil {
		return err
	}
	return r.Current(ctx)
}

// CallRoll implements sandbox.Recoveries.
func (s *Store) CallRoll(ctx context.Context) error {
	channel, _ := s.keys.channel(sandbox.TopicRollCall)
	return s.failed("call roll", s.client.Publish(ctx, channel, "").Err())
}

// changeRecovery reads the state of the recovery, lets fn decide, and writes on condition that it has not changed. fn reports whether there
// is anything to write.
func (s *Store) changeRecovery(ctx context.Context, op string, more []hash, fn func(v *view, r *sandbox.Recovery, c *change) (bool, error)) (sandbox.Recovery, error) {
	meta := s.keys.meta()
	for attempt := range attempts {
		if err := wait(ctx, attempt); err != nil {
			return sandbox.Recovery{}, err
		}
		v, r, err := s.lookRecovery(ctx, more...)
		if err != nil {
			return r, s.failed(op, err)
		}
		c := s.keys.change("", noRecord)
		c.name = callName()
		for i, field := range markFields {
			if field != metaChanges {
				c.guard(meta, field, v.more[0][i])
			}
		}
		changed, err := fn(v, &r, c)
		if err != nil || !changed {
			return r, s.failed(op, err)
		}
		c.op("hset", c.key(meta), metaMade, micros(r.Mark.Incarnation))
		c.op("hset", c.key(meta), metaRecovering, micros(r.Since))
		c.op("hset", c.key(meta), metaUnreported, strings.Join(r.Unreported, "\n"))
		c.op("raise", c.key(meta), metaChanges, strconv.FormatUint(r.Mark.Changes, 10))
		c.topics = append(c.topics, sandbox.TopicDeadline, sandbox.TopicPlacement)
		answer, _, err := s.apply(ctx, c)
		if err != nil {
			return r, s.failed(op, err)
		}
		if answer == answerOK {
			return s.Recovery(ctx)
		}
	}
	return sandbox.Recovery{}, errContended("")
}

// Recover implements sandbox.Recoveries. A server that has lost everything is bound to the installation again.
func (s *Store) Recover(ctx context.Context, c sandbox.Claim) (sandbox.Recovery, error) {
	nodes, err := s.Nodes(ctx)
	if err != nil {
		return sandbox.Recovery{}, err
	}
	var names []string
	for _, n := range nodes {
		if !n.Removed {
			names = append(names, n.Name)
		}
	}
	if err := s.bind(ctx); err != nil {
		return sandbox.Recovery{}, err
	}
	return s.changeRecovery(ctx, "recover", nil, func(v *view, r *sandbox.Recovery, ch *change) (bool, error) {
		before := r.Since
		changed := r.Claim(c, names, v.now)
		if !r.Since.Equal(before) {
			for _, n := range nodes {
				// An agent that renews at this moment renews again in a few seconds.
				if !n.Removed && !n.Live(v.now) {
					ch.op("hset", ch.key(s.keys.leases()), n.Name, micros(v.now))
				}
			}
		}
		return changed, nil
	})
}

// Reported implements sandbox.Recoveries.
func (s *Store) Reported(ctx context.Context, name string, session uint64) (sandbox.Recovery, error) {
	want := strconv.FormatUint(session, 10)
	sessions := hash{s.keys.sessions(), []string{name}}
	return s.changeRecovery(ctx, "reported", []hash{sessions}, func(v *view, r *sandbox.Recovery, c *change) (bool, error) {
		if v.more[1][0] != want {
			return false, sandbox.ErrStale("")
		}
		c.guard(s.keys.sessions(), name, want)
		r.Reported(name)
		return true, nil
	})
}

// Settle implements sandbox.Recoveries.
func (s *Store) Settle(ctx context.Context) (sandbox.Recovery, error) {
	nodes, err := s.Nodes(ctx)
	if err != nil {
		return sandbox.Recovery{}, err
	}
	return s.changeRecovery(ctx, "settle", nil, func(v *view, r *sandbox.Recovery, _ *change) (bool, error) {
		return r.Settle(func(name string) bool {
			return slices.ContainsFunc(nodes, func(n node.Node) bool { return n.Name == name && n.Live(v.now) && !n.Removed })
		}, v.now), nil
	})
}

// Sight implements sandbox.Recoveries. A port that somebody else has leased stays theirs.
func (s *Store) Sight(ctx context.Context, g sandbox.Sighting) (sandbox.Record, error) {
	for attempt := range attempts {
		if err := wait(ctx, attempt); err != nil {
			return sandbox.Record{}, err
		}
		out, again, err := s.sightOnce(ctx, g)
		if err != nil {
			return sandbox.Record{}, s.failed("sight", err)
		}
		if !again {
			return out, nil
		}
	}
	return sandbox.Record{}, errContended(g.ID)
}

func (s *Store) sightOnce(ctx context.Context, g sandbox.Sighting) (out sandbox.Record, again bool, err error) {
	k, session := s.keys, strconv.FormatUint(g.Session, 10)
	v, err := s.look(ctx, g.ID, hash{k.meta(), markFields}, hash{k.sessions(), []string{g.Node}})
	if err != nil {
		return out, false, err
	}
	now, err := parseRecovery(v.more[0])
	if err != nil {
		return out, false, err
	}
	if v.more[1][0] != session || !now.Awaits(g.Node) {
		return out, false, sandbox.ErrStale(g.ID)
	}
	r, version := sandbox.SightedRecord(g, v.now), newRecord
	if v.rec != nil {
		r, version = v.rec.Clone(), strconv.FormatUint(v.rec.Version, 10)
		r.Sight(g, v.now)
	}
	c := k.change(g.ID, version)
	c.guard(k.sessions(), g.Node, session)
	c.guard(k.meta(), metaUnreported, v.more[0][3])
	c.sighted(v.rec, &r)
	changed, err := c.write(v.rec, &r)
	if err != nil || !changed {
		return r, false, err
	}
	answer, _, err := s.apply(ctx, c)
	if err != nil || answer != answerOK {
		return out, true, err
	}
	if v.rec != nil {
		r.Version = v.rec.Version + 1
	}
	return r.Clone(), false, nil
}

// sighted adds what a record of a sighting needs beside its indexes: what never changes, if it is new, and what its placement holds, which
// was made without asking for room.
func (c *change) sighted(before, r *sandbox.Record) {
	k, p := c.k, r.Placement
	switch {
	case before == nil:
		c.op("hset", c.key(k.record(r.ID)), "t", r.Tenant)
		c.op("hset", c.key(k.record(r.ID)), "c", micros(r.CreatedAt))
	case before.Placement.Node == p.Node && before.Placement.Epoch == p.Epoch:
		return
	case before.Placement.Node != "":
		c.free(before.Placement.Node, before.Placement.Epoch)
	}
	held := sandbox.Resources{}
	if r.HoldsReservation() {
		held = p.Reserved
	}
	ports := make([]string, 0, len(p.Ports))
	for _, inside := range sortedKeys(p.Ports) {
		ports = append(ports, strconv.Itoa(p.Ports[inside]))
	}
	c.op("seize", c.key(k.used(p.Node)), c.key(k.holds(p.Node)), c.key(k.ports(p.Node)), holder(r.ID, p.Epoch),
		min(held.CPU, maxAmount), min(held.Memory, maxAmount), strings.Join(ports, ","))
}

// newRecord is the version of a change that writes a record that does not exist.
const newRecord = "0"

// bind writes what tells an installation apart from others, if it is missing, and checks it.
func (s *Store) bind(ctx context.Context) error {
	have, err := s.meta(ctx, metaSchema, schema)
	if err != nil {
		return err
	}
	if have != schema {
		return fault.Newf(fault.Conflict, "the store was written by another version of this program: its schema is %q, this one knows %q", have, schema)
	}
	if s.fingerprint == "" {
		return nil
	}
	if have, err = s.meta(ctx, metaPrint, s.fingerprint); err != nil {
		return err
	}
	if have != s.fingerprint {
		return fault.Newf(fault.Conflict, "this Redis already holds another installation with the name %q: their secrets differ (fingerprint %s there, "+
			"%s here). Give each installation a name of its own (server.installation_id), or this process the secret of that installation",
			s.installation, have, s.fingerprint)
	}
	return nil
}
