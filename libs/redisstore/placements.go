package redisstore

import (
	"context"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"opensandbox/libs/sandbox"
)

// Unplaced implements sandbox.Placements.
func (s *Store) Unplaced(ctx context.Context, max int) ([]sandbox.Record, error) {
	return s.first(ctx, "unplaced", s.keys.unplaced(), max)
}

// CountUnplaced implements sandbox.Placements, in one round trip whose cost does not grow with the number.
func (s *Store) CountUnplaced(ctx context.Context) (int, error) {
	n, err := s.client.ZCard(ctx, s.keys.unplaced()).Result()
	return int(n), s.failed("count unplaced", err)
}

// maxAmount is the largest reservation that is counted, in milli-CPUs or bytes (1 PiB): sums of it stay within the range of the
// server's counters.
const maxAmount = 1 << 50

// Place implements sandbox.Placements. What fits is chosen by what was read, and checked again by the script that takes it.
func (s *Store) Place(ctx context.Context, p sandbox.PlaceRequest) (sandbox.Record, error) {
	if r, done, err := s.placeSeen(ctx, p); done || err != nil {
		return r, s.failed("place", err)
	}
	for attempt := range attempts {
		if err := wait(ctx, attempt); err != nil {
			return sandbox.Record{}, err
		}
		out, again, err := s.placeOnce(ctx, p)
		if err != nil {
			return sandbox.Record{}, s.failed("place", err)
		}
		if !again {
			return out, nil
		}
	}
	return sandbox.Record{}, errContended(p.ID)
}

func (s *Store) placeOnce(ctx context.Context, p sandbox.PlaceRequest) (out sandbox.Record, again bool, err error) {
	nodes, names, leases := s.keys.nodes(), make([]string, 0, len(p.Candidates)), s.keys.leases()
	for _, c := range p.Candidates {
		names = append(names, c.Node)
	}
	more := []hash{{nodes, append(names, unused)}, {leases, append(names[:len(names):len(names)], unused)}}
	for _, c := range p.Candidates {
		more = append(more, hash{s.keys.used(c.Node), []string{"count", "cpu", "memory"}})
	}
	more = append(more, hash{s.keys.meta(), markFields})
	v, err := s.look(ctx, p.ID, more...)
	if err != nil {
		return out, false, err
	}
	if v.rec == nil {
		return out, false, sandbox.ErrNotFound(p.ID)
	}
	recovery, err := parseRecovery(v.more[len(v.more)-1])
	if err != nil {
		return out, false, err
	}
	if !v.rec.Unplaced() || v.rec.Predates(recovery.Mark.Incarnation) {
		return out, false, sandbox.ErrStale(p.ID)
	}
	if err := recovery.Current(ctx); err != nil {
		return out, false, err
	}
	var short []string
	for i, c := range p.Candidates {
		why, err := fit(c, p.Reserve, v.more[0][i], v.more[1][i], v.more[2+i], v.now)
		if err != nil {
			return out, false, err
		}
		if why == "" {
			var answer string
			out, answer, err = s.take(ctx, v, p, c, v.more[0][i])
			switch {
			case err != nil:
				return out, false, err
			case answer == answerOK:
				return out, false, nil
			case answer != answerPorts:
				return out, true, nil
			}
			why = sandbox.ShortPorts(len(p.Ports), c.PortMin, c.PortMax)
		}
		short = append(short, "node "+c.Node+": "+why)
	}
	return out, false, sandbox.ErrNoCapacity(p.ID, short)
}

// unused is a field that no hash has. A command needs at least one field, and there may be no candidate.
const unused = ""

// fit returns why a candidate does not fit, or "".
func fit(c sandbox.Candidate, want sandbox.Resources, raw, lease string, used []string, now time.Time) (string, error) {
	if raw == "" {
		return "not registered", nil
	}
	n, err := parseNode(raw, lease)
	switch {
	case err != nil:
		return "", err
	case n.Draining:
		return "draining", nil
	case !n.Live(now):
		return "its agent does not answer", nil
	}
	var numbers [3]int64
	for i, text := range used {
		if text == "" {
			continue
		}
		if numbers[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return "", err
		}
	}
	var lacks []string
	if count := int(numbers[0]); c.MaxSandboxes > 0 && count >= c.MaxSandboxes {
		lacks = append(lacks, sandbox.TooMany(count, c.MaxSandboxes))
	}
	if l := sandbox.Lack(numbers[1], want.CPU, c.Capacity.CPU); l >= 0 {
		lacks = append(lacks, sandbox.ShortCPU(want.CPU, l))
	}
	if l := sandbox.Lack(numbers[2], want.Memory, c.Capacity.Memory); l >= 0 {
		lacks = append(lacks, sandbox.ShortMemory(want.Memory, l))
	}
	return strings.Join(lacks, ", "), nil
}

// take reserves on one candidate. The node must be as it was read: an agent that has registered anew, or a drain, makes the choice void.
func (s *Store) take(ctx context.Context, v *view, p sandbox.PlaceRequest, c sandbox.Candidate, raw string) (sandbox.Record, string, error) {
	r := v.rec.Clone()
	if err := r.Place(c.Node, nil, p.Reserve); err != nil {
		return r, "", err
	}
	ch := s.keys.change(p.ID, strconv.FormatUint(v.rec.Version, 10))
	ch.guard(s.keys.nodes(), c.Node, raw)
	ch.guardMark(ctx, false)
	s.room(ch, roomFor{
		node: c.Node, holder: holder(p.ID, r.Placement.Epoch), reserve: p.Reserve, candidate: c, now: v.now, inside: p.Ports, anew: true,
	})
	if _, err := ch.write(v.rec, &r); err != nil {
		return r, "", err
	}
	answer, ports, err := s.apply(ctx, ch)
	if err != nil || answer != answerOK {
		return r, answer, err
	}
	r.Version = v.rec.Version + 1
	r.Placement.Ports, _ = parsePortList(ports)
	return r, answer, nil
}

// roomFor says what save.lua shall look for on a node.
type roomFor struct {
	node, holder string
	reserve      sandbox.Resources
	candidate    sandbox.Candidate
	now          time.Time
	// kept are leases that stay, as a port list.
	kept string
	// inside are the container ports that need a lease.
	inside []int
	// anew is true for a placement: amounts are checked and taken, too.
	anew bool
}

func (s *Store) room(c *change, w roomFor) {
	k, size := s.keys, w.candidate.PortMax-w.candidate.PortMin+1
	start := 0
	if size > 1 {
		start = rand.IntN(size)
	}
	flag := "0"
	if w.anew {
		flag = "1"
	}
	c.room = []any{
		c.key(k.used(w.node)), c.key(k.holds(w.node)), c.key(k.ports(w.node)), c.key(k.barred(w.node)),
		w.holder, min(w.reserve.CPU, maxAmount), min(w.reserve.Memory, maxAmount),
		w.candidate.MaxSandboxes, w.candidate.Capacity.CPU, w.candidate.Capacity.Memory,
		w.candidate.PortMin, w.candidate.PortMax, start, micros(w.now), w.kept, len(w.inside),
	}
	for _, port := range w.inside {
		c.room = append(c.room, port)
	}
	c.room = append(c.room, flag)
}

// FailUnplaced implements sandbox.Placements.
func (s *Store) FailUnplaced(ctx context.Context, id sandbox.ID, f sandbox.Failure) (sandbox.Record, error) {
	more := []hash{{s.keys.meta(), markFields}}
	return s.updateBy(ctx, "fail unplaced", id, more, func(v *view, r *sandbox.Record, c *change) error {
		recovery, err := parseRecovery(v.more[0])
		if err != nil {
			return err
		}
		if r.Unplaced() {
			if err := recovery.MayFail(ctx, r); err != nil {
				return err
			}
		}
		c.guardMark(ctx, r.Predates(recovery.Mark.Incarnation))
		return r.FailUnplaced(f, v.now)
	})
}

// Lose implements sandbox.Losses. That the node is lost is read together with the record, and holds still when the script runs: it
// depends on the node and its lease being as they were read.
func (s *Store) Lose(ctx context.Context, l sandbox.Loss) (sandbox.Record, error) {
	nodes, leases := s.keys.nodes(), s.keys.leases()
	more := []hash{{nodes, []string{l.Node}}, {leases, []string{l.Node}}, {s.keys.meta(), markFields}}
	return s.updateBy(ctx, "lose", l.ID, more, func(v *view, r *sandbox.Record, c *change) error {
		raw, lease := v.more[0][0], v.more[1][0]
		recovery, err := parseRecovery(v.more[2])
		if err != nil {
			return err
		}
		if err := recovery.MayEnd(ctx); err != nil {
			return err
		}
		if raw != "" {
			n, err := parseNode(raw, lease)
			if err != nil {
				return err
			}
			if !n.StillLost(l.LeaseUntil, v.now) {
				return sandbox.ErrStale(l.ID)
			}
		}
		if err := r.Lose(l, recovery.Mark.Incarnation, v.now); err != nil {
			return err
		}
		c.guard(nodes, l.Node, raw)
		c.guard(leases, l.Node, lease)
		c.guardMark(ctx, true)
		c.free(l.Node, l.Epoch)
		return nil
	})
}
