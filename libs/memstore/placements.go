package memstore

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"opensandbox/libs/sandbox"
)

// Unplaced implements sandbox.Placements.
func (s *Store) Unplaced(ctx context.Context, max int) ([]sandbox.Record, error) {
	var out []sandbox.Record
	err := s.do(ctx, func(*step) error {
		found := s.where(func(e *entry) bool { return e.rec.Unplaced() })
		slices.SortStableFunc(found, func(a, b *entry) int { return a.rec.CreatedAt.Compare(b.rec.CreatedAt) })
		out = copies(found, max)
		return nil
	})
	return out, err
}

// CountUnplaced implements sandbox.Placements.
func (s *Store) CountUnplaced(ctx context.Context) (int, error) {
	var n int
	err := s.do(ctx, func(*step) error {
		n = len(s.where(func(e *entry) bool { return e.rec.Unplaced() }))
		return nil
	})
	return n, err
}

// Usage implements sandbox.Placements.
func (s *Store) Usage(ctx context.Context) (map[string]sandbox.Usage, error) {
	out := map[string]sandbox.Usage{}
	err := s.do(ctx, func(*step) error {
		for h, r := range s.holds {
			u := out[h.node]
			u.Count++
			u.Reserved.CPU, u.Reserved.Memory = add(u.Reserved.CPU, r.CPU), add(u.Reserved.Memory, r.Memory)
			out[h.node] = u
		}
		return nil
	})
	return out, err
}

// Place implements sandbox.Placements.
func (s *Store) Place(ctx context.Context, p sandbox.PlaceRequest) (sandbox.Record, error) {
	var out sandbox.Record
	err := s.do(ctx, func(st *step) error {
		r, err := s.copyOf(p.ID)
		if err != nil {
			return err
		}
		if err := s.mayPlace(ctx, &r); err != nil {
			return err
		}
		var short []string
		for _, c := range p.Candidates {
			ports, why := s.fit(c, p, st.now)
			if why != "" {
				short = append(short, "node "+c.Node+": "+why)
				continue
			}
			if err := r.Place(c.Node, ports, p.Reserve); err != nil {
				return err
			}
			h := holder{c.Node, r.ID, r.Placement.Epoch}
			s.holds[h] = p.Reserve
			for _, port := range ports {
				s.leases[lease{c.Node, port}] = h
			}
			out = s.put(st, r)
			return nil
		}
		return sandbox.ErrNoCapacity(p.ID, short)
	})
	return out, err
}

// fit returns the ports to lease on a candidate, or what is short there.
func (s *Store) fit(c sandbox.Candidate, p sandbox.PlaceRequest, now time.Time) (ports map[int]int, short string) {
	n, ok := s.nodes[c.Node]
	switch {
	case !ok:
		return nil, "not registered"
	case n.Draining:
		return nil, "draining"
	case !n.Live(now):
		return nil, "its agent does not answer"
	}
	used, count := s.used(c.Node)
	var lacks []string
	if c.MaxSandboxes > 0 && count >= c.MaxSandboxes {
		lacks = append(lacks, sandbox.TooMany(count, c.MaxSandboxes))
	}
	if l := sandbox.Lack(used.CPU, p.Reserve.CPU, c.Capacity.CPU); l >= 0 {
		lacks = append(lacks, sandbox.ShortCPU(p.Reserve.CPU, l))
	}
	if l := sandbox.Lack(used.Memory, p.Reserve.Memory, c.Capacity.Memory); l >= 0 {
		lacks = append(lacks, sandbox.ShortMemory(p.Reserve.Memory, l))
	}
	if len(lacks) > 0 {
		return nil, strings.Join(lacks, ", ")
	}
	fresh, ok := s.freePorts(c.Node, c.PortMin, c.PortMax, len(p.Ports), now)
	if !ok {
		return nil, sandbox.ShortPorts(len(p.Ports), c.PortMin, c.PortMax)
	}
	ports = make(map[int]int, len(p.Ports))
	for i, inside := range p.Ports {
		ports[inside] = fresh[i]
	}
	return ports, ""
}

// used returns what is held on a node.
func (s *Store) used(name string) (sum sandbox.Resources, count int) {
	for h, r := range s.holds {
		if h.node != name {
			continue
		}
		count++
		sum.CPU = add(sum.CPU, r.CPU)
		sum.Memory = add(sum.Memory, r.Memory)
	}
	return sum, count
}

// add is a sum that stays at the largest number instead of turning negative.
func add(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// freePorts returns n different ports that are neither leased nor barred, from a pseudo-random one upwards and around.
func (s *Store) freePorts(name string, low, high, n int, now time.Time) ([]int, bool) {
	if n == 0 {
		return nil, true
	}
	size := high - low + 1
	if size < n {
		return nil, false
	}
	s.draws++
	start := int(mix(s.seed+s.draws) % uint64(size))
	ports := make([]int, 0, n)
	for i := range size {
		l := lease{name, low + (start+i)%size}
		if _, taken := s.leases[l]; taken || now.Before(s.barred[l]) {
			continue
		}
		if ports = append(ports, l.port); len(ports) == n {
			return ports, true
		}
	}
	return nil, false
}

// mix is the output function of SplitMix64 (Steele, Lea and Flood 2014): it spreads neighbouring numbers over the range.
func mix(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// FailUnplaced implements sandbox.Placements.
func (s *Store) FailUnplaced(ctx context.Context, id sandbox.ID, f sandbox.Failure) (sandbox.Record, error) {
	return s.update(ctx, id, func(r *sandbox.Record, now time.Time) error {
		if state := s.recovery(); r.Unplaced() {
			if err := state.MayFail(ctx, r); err != nil {
				return err
			}
		}
		return r.FailUnplaced(f, now)
	})
}

// Lose implements sandbox.Losses.
func (s *Store) Lose(ctx context.Context, l sandbox.Loss) (sandbox.Record, error) {
	var out sandbox.Record
	err := s.do(ctx, func(st *step) error {
		r, err := s.copyOf(l.ID)
		if err != nil {
			return err
		}
		if err := s.mayEnd(ctx); err != nil {
			return err
		}
		if n, ok := s.nodes[l.Node]; ok && !n.StillLost(l.LeaseUntil, st.now) {
			return sandbox.ErrStale(l.ID)
		}
		if err := r.Lose(l, s.made, st.now); err != nil {
			return err
		}
		s.free(holder{l.Node, l.ID, l.Epoch})
		out = s.put(st, r)
		return nil
	})
	return out, err
}

// where returns the entries that match, by id.
func (s *Store) where(match func(e *entry) bool) []*entry {
	var out []*entry
	for _, e := range s.records {
		if match(e) {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *entry) int { return cmp.Compare(a.rec.ID, b.rec.ID) })
	return out
}

// copies returns copies of the first max records.
func copies(found []*entry, max int) []sandbox.Record {
	out := make([]sandbox.Record, 0, min(len(found), atLeast0(max)))
	for _, e := range found[:cap(out)] {
		out = append(out, e.rec.Clone())
	}
	return out
}

func atLeast0(n int) int { return max(n, 0) }
