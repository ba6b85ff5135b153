package redisstore

import (
	"context"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"time"

	"opensandbox/libs/sandbox"
	"opensandbox/libs/wakeup"
)

// change is one call of save.lua that is being put together.
type change struct {
	k  keys
	id sandbox.ID
	// name is that of the call, or "": save.lua knows by it what it has done already.
	name      string
	keyList   []string
	keyAt     map[string]int
	version   string
	guards    []guard
	room      []any
	record    []any
	deadline  string
	attention string
	ops       []any
	opCount   int
	topics    []sandbox.Topic
}

// noRecord is the version of a change that writes no record.
const noRecord = "-"

func (k keys) change(id sandbox.ID, version string) *change {
	c := &change{k: k, id: id, version: version, keyAt: map[string]int{}}
	first := k.meta()
	if version != noRecord {
		first, c.name = k.record(id), callName()
	}
	for _, key := range []string{first, k.meta(), k.deadlines(), k.attention()} {
		c.keyList = append(c.keyList, key)
		c.keyAt[key] = len(c.keyList)
	}
	return c
}

// callName returns a name that no other call has.
func callName() string { return strconv.FormatUint(rand.Uint64(), 36) }

// key returns the number of a key.
func (c *change) key(name string) int {
	if n, ok := c.keyAt[name]; ok {
		return n
	}
	c.keyList = append(c.keyList, name)
	c.keyAt[name] = len(c.keyList)
	return len(c.keyList)
}

// guard is what a change depends on in one hash.
type guard struct {
	key           int
	fields, wants []any
}

// guard makes the change depend on a field of a hash; "" means missing.
func (c *change) guard(key, field, want string) {
	k := c.key(key)
	i := slices.IndexFunc(c.guards, func(g guard) bool { return g.key == k })
	if i < 0 {
		i, c.guards = len(c.guards), append(c.guards, guard{key: k})
	}
	g := &c.guards[i]
	g.fields, g.wants = append(g.fields, field), append(g.wants, want)
}

func (c *change) op(name string, args ...any) {
	c.ops = append(append(c.ops, name), args...)
	c.opCount++
}

// args are the arguments of save.lua.
func (c *change) args() []any {
	out := []any{c.version, c.name, len(c.guards)}
	for _, g := range c.guards {
		out = append(append(append(out, g.key, len(g.fields)), g.fields...), g.wants...)
	}
	if c.room == nil {
		out = append(out, "0")
	} else {
		out = append(append(out, "1"), c.room...)
	}
	out = append(out, c.record...)
	out = append(out, c.deadline, c.attention, c.opCount)
	out = append(out, c.ops...)
	deadline, _ := c.k.channel(sandbox.TopicDeadline)
	out = append(out, deadline, len(c.topics))
	for _, t := range c.topics {
		channel, message := c.k.channel(t)
		out = append(out, channel, message)
	}
	return out
}

// write puts a record and all its indexes into the change. before is nil for a new record. It reports whether there is anything to
// write.
func (c *change) write(before, r *sandbox.Record) (bool, error) {
	if before != nil && reflect.DeepEqual(before, r) {
		return false, nil
	}
	var err error
	if c.record, err = encoded(r); err != nil {
		return false, err
	}
	had, have := c.k.places(before), c.k.places(r)
	for _, key := range sortedKeys(had) {
		if _, still := have[key]; !still {
			c.op("zrem", c.key(key), string(r.ID))
		}
	}
	for _, key := range sortedKeys(have) {
		if had[key] != have[key] {
			c.op("zadd", c.key(key), have[key], string(r.ID))
		}
	}
	was := before
	if was == nil {
		was = &sandbox.Record{ID: r.ID, Intent: sandbox.Intent{Desired: sandbox.DesiredGone}}
	}
	if d := wakeup.Deadline(r); wakeup.Earlier(d, wakeup.Deadline(was)) {
		c.deadline = score(d)
	}
	if a := r.AttentionAt(); wakeup.Earlier(a, was.AttentionAt()) {
		c.attention = score(a)
	}
	c.nodeWork(was, r)
	c.count(before, r)
	if r.DropsSecret(before) {
		c.op("del", c.key(c.k.secret(r.ID)))
	}
	c.topics = append(c.topics, wakeup.Of(before, r)...)
	return true, nil
}

// nodeWork keeps what the agents read: work, and what has to be mirrored.
func (c *change) nodeWork(was, r *sandbox.Record) {
	id, k := string(r.ID), c.k
	if node := was.Placement.Node; was.Placed() && (!r.Placed() || r.Placement.Node != node) {
		c.op("zrem", c.key(k.mirror(node)), id)
		c.op("zrem", c.key(k.work(node)), id)
	}
	if !r.Placed() {
		return
	}
	node := r.Placement.Node
	c.op("zadd", c.key(k.mirror(node)), "0", id)
	switch {
	case wakeup.NewWork(was, r):
		c.op("work", c.key(k.work(node)), id)
	case was.NeedsWork() && !r.NeedsWork():
		c.op("zrem", c.key(k.work(node)), id)
	}
	if was.HoldsReservation() && !r.HoldsReservation() {
		c.op("idle", c.key(k.used(node)), c.key(k.holds(node)), holder(r.ID, r.Placement.Epoch))
	}
}

// count keeps the numbers of visible records by node and state.
func (c *change) count(before, r *sandbox.Record) {
	had, have := "", ""
	if before != nil && before.Visible() {
		had = countField(before)
	}
	if r.Visible() {
		have = countField(r)
	}
	if had == have {
		return
	}
	if had != "" {
		c.op("count", c.key(c.k.counts()), had, -1)
	}
	if have != "" {
		c.op("count", c.key(c.k.counts()), have, 1)
	}
}

// free gives back all that an epoch of a sandbox holds on a node.
func (c *change) free(node string, epoch uint64) {
	c.op("free", c.key(c.k.used(node)), c.key(c.k.holds(node)), c.key(c.k.ports(node)), holder(c.id, epoch))
}

// Answers of save.lua.
const (
	answerOK      = "ok"
	answerExists  = "exists"
	answerHeld    = "held"
	answerMissing = "missing"
	answerMoved   = "moved"
	answerGuard   = "guard"
	answerFull    = "full"
	answerPorts   = "ports"
)

// apply runs a change and returns the answer and, for one with room, the leases.
func (s *Store) apply(ctx context.Context, c *change) (answer, ports string, err error) {
	out, err := s.run(ctx, s.scripts.save, c.keyList, c.args()...)
	if err != nil {
		return "", "", err
	}
	return parseAnswer(out)
}

func parseAnswer(out any) (answer, ports string, err error) {
	list, ok := out.([]any)
	if !ok || len(list) == 0 {
		return "", "", errAnswer(out)
	}
	if answer, ok = list[0].(string); !ok {
		return "", "", errAnswer(out)
	}
	if len(list) > 1 {
		ports, _ = list[1].(string)
	}
	return answer, ports, nil
}

// attempts bounds how often a change is tried anew because another writer came first. Each time somebody has made progress.
const attempts = 200

// backoff is the longest pause before the first new attempt; it grows with each, up to a limit.
const backoff = 500 * time.Microsecond

// wait pauses before another attempt.
func wait(ctx context.Context, attempt int) error {
	if attempt == 0 {
		return nil
	}
	d := rand.N(backoff * time.Duration(min(attempt, 20)))
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// update applies one guarded transition to a record: it reads, decides, and writes on condition that the record has not changed. fn may
// add guards and operations to the change; it may run several times. Refusals of fn are about the record as it was at the read.
func (s *Store) update(ctx context.Context, op string, id sandbox.ID, fn decision) (sandbox.Record, error) {
	return s.updateBy(ctx, op, id, nil, fn)
}

// decision changes r as one transition does, or refuses. It may add guards and operations to c.
type decision func(v *view, r *sandbox.Record, c *change) error

// updateBy is update for a decision that depends on more than the record: on fields of other hashes, read at the same moment, which fn
// has to guard.
func (s *Store) updateBy(ctx context.Context, op string, id sandbox.ID, more []hash, fn decision) (sandbox.Record, error) {
	for attempt := range attempts {
		if err := wait(ctx, attempt); err != nil {
			return sandbox.Record{}, err
		}
		v, err := s.look(ctx, id, more...)
		if err != nil {
			return sandbox.Record{}, s.failed(op, err)
		}
		out, again, err := s.attempt(ctx, v, fn)
		if err != nil {
			return sandbox.Record{}, s.failed(op, err)
		}
		if !again {
			return out, nil
		}
	}
	return sandbox.Record{}, errContended(id)
}

// attempt is one round of update. again means that something it depends on has changed in between.
func (s *Store) attempt(ctx context.Context, v *view, fn decision) (out sandbox.Record, again bool, err error) {
	if v.rec == nil {
		return out, false, sandbox.ErrNotFound(v.id)
	}
	r := v.rec.Clone()
	c := s.keys.change(v.id, strconv.FormatUint(v.rec.Version, 10))
	if err := fn(v, &r, c); err != nil {
		return out, false, err
	}
	changed, err := c.write(v.rec, &r)
	if err != nil {
		return out, false, err
	}
	if !changed {
		return r, false, s.confirmRead(ctx)
	}
	answer, ports, err := s.apply(ctx, c)
	if err != nil {
		return out, false, err
	}
	if answer != answerOK {
		return out, true, nil
	}
	r.Version = v.rec.Version + 1
	if c.room != nil {
		r.Placement.Ports, _ = parsePortList(ports)
	}
	// A copy, because fn may have put what the caller holds into it.
	return r.Clone(), false, nil
}
