package redisstore

import (
	"context"
	"strconv"
	"time"

	"opensandbox/libs/sandbox"
)

// This file spares reading what the caller has just read: a change is decided by that, and the script makes it only if it is still so. All
// else is left to the careful way, which reads everything at one moment.

// reckoning is a time of the server, and when it was read by the clock of this process.
type reckoning struct{ server, at time.Time }

// fleet is what is stored of the nodes, and when it was read.
type fleet struct {
	raw, leases map[string]string
	at          time.Time
}

const (
	// reckonFor is how long the server's time is told from an earlier reading. Two clocks drift apart by less than a millisecond meanwhile.
	reckonFor = 10 * time.Second
	// fleetFor is how long the nodes that were read count as read.
	fleetFor = time.Second
)

// reckon returns about what the server's time is.
func (s *Store) reckon() (now time.Time, ok bool) {
	if s.clock != nil {
		return s.clock().UTC().Truncate(time.Microsecond), true
	}
	r := s.reckoning.Load()
	if r == nil {
		return time.Time{}, false
	}
	age := time.Since(r.at)
	return r.server.Add(age).Truncate(time.Microsecond), age < reckonFor
}

// guess is update on a record that the caller has seen. done is false if that decides nothing: the record is another by now, or fn refuses
// what was seen. guards are what the change depends on besides.
func (s *Store) guess(ctx context.Context, op string, seen *sandbox.Record, fn decision, guards func(*change)) (out sandbox.Record, done bool, err error) {
	now, ok := s.reckon()
	if seen == nil || !ok {
		return out, false, nil
	}
	r := seen.Clone()
	c := s.keys.change(seen.ID, strconv.FormatUint(seen.Version, 10))
	guards(c)
	if refused := fn(&view{id: seen.ID, rec: seen, now: now}, &r, c); refused != nil {
		return out, false, nil
	}
	if changed, err := c.write(seen, &r); err != nil || !changed {
		return out, false, err
	}
	answer, _, err := s.apply(ctx, c)
	if err != nil || answer != answerOK {
		return out, false, s.failed(op, err)
	}
	r.Version = seen.Version + 1
	return r.Clone(), true, nil
}

// placeSeen is Place by the record that the caller has seen and the nodes that were read last. The script checks the amounts. Why something
// does not fit is left to the careful way.
func (s *Store) placeSeen(ctx context.Context, p sandbox.PlaceRequest) (out sandbox.Record, done bool, err error) {
	f, known := s.fleet.Load(), sandbox.MarkOf(ctx)
	now, ok := s.reckon()
	// The script makes sure that the incarnation is the known one.
	if known == (sandbox.Mark{}) || p.Seen == nil || p.Seen.Predates(known.Incarnation) {
		return out, false, nil
	}
	if !p.Seen.Unplaced() || f == nil || time.Since(f.at) > fleetFor || !ok {
		return out, false, nil
	}
	v := &view{id: p.ID, rec: p.Seen, now: now}
	for _, c := range p.Candidates {
		raw := f.raw[c.Node]
		why, err := fit(c, p.Reserve, raw, f.leases[c.Node], nil, now)
		if err != nil || why != "" {
			return out, false, err
		}
		out, answer, err := s.take(ctx, v, p, c, raw)
		switch {
		case err != nil:
			return out, false, err
		case answer == answerOK:
			return out, true, nil
		case answer == answerMoved, answer == answerGuard, answer == answerMissing:
			return out, false, nil
		}
	}
	return out, false, nil
}
