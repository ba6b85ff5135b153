package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"math/rand/v2"
	"strings"

	"opensandbox/libs/sandbox"
)

// Unplaced implements sandbox.Placements.
func (s *Store) Unplaced(ctx context.Context, max int) ([]sandbox.Record, error) {
	return s.records(ctx, "unplaced", s.reads.unplaced, atLeast0(max))
}

// CountUnplaced implements sandbox.Placements.
func (s *Store) CountUnplaced(ctx context.Context) (int, error) {
	if err := s.check(ctx); err != nil {
		return 0, err
	}
	var n int
	err := s.reads.countUnplaced.QueryRowContext(ctx).Scan(&n)
	return n, s.failed("count unplaced", err)
}

// Usage implements sandbox.Placements.
func (s *Store) Usage(ctx context.Context) (out map[string]sandbox.Usage, err error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	rows, err := s.reads.usage.QueryContext(ctx)
	if err != nil {
		return nil, s.failed("usage", err)
	}
	defer func() { err = s.failed("usage", errors.Join(err, rows.Close())) }()
	out = map[string]sandbox.Usage{}
	for rows.Next() {
		var name string
		var count int
		var cpu, memory float64
		if err := rows.Scan(&name, &count, &cpu, &memory); err != nil {
			return nil, err
		}
		out[name] = sandbox.Usage{Count: count, Reserved: sandbox.Resources{CPU: amount(cpu), Memory: amount(memory)}}
	}
	return out, rows.Err()
}

// Place implements sandbox.Placements.
func (s *Store) Place(ctx context.Context, p sandbox.PlaceRequest) (sandbox.Record, error) {
	return s.update(ctx, "place", p.ID, func(t *tx, r *sandbox.Record) error {
		if err := t.mayPlace(ctx, r); err != nil {
			return err
		}
		var short []string
		for _, c := range p.Candidates {
			ports, why, err := t.fit(c, p)
			if err != nil {
				return err
			}
			if why != "" {
				short = append(short, "node "+c.Node+": "+why)
				continue
			}
			if err := r.Place(c.Node, ports, p.Reserve); err != nil {
				return err
			}
			return t.take(r)
		}
		return sandbox.ErrNoCapacity(p.ID, short)
	})
}

// Lose implements sandbox.Losses.
func (s *Store) Lose(ctx context.Context, l sandbox.Loss) (sandbox.Record, error) {
	return s.update(ctx, "lose", l.ID, func(t *tx, r *sandbox.Record) error {
		if err := t.recovery.MayEnd(ctx); err != nil {
			return err
		}
		n, ok, err := t.node(l.Node)
		if err != nil {
			return err
		}
		if ok && !n.StillLost(l.LeaseUntil, t.now) {
			return sandbox.ErrStale(l.ID)
		}
		if err := r.Lose(l, t.recovery.Mark.Incarnation, t.now); err != nil {
			return err
		}
		return t.free(l.Node, l.ID, l.Epoch)
	})
}

// take notes what a placement holds.
func (t *tx) take(r *sandbox.Record) error {
	p, epoch := r.Placement, int64(r.Placement.Epoch)
	if _, err := t.stmts.hold.ExecContext(t.ctx, p.Node, string(r.ID), epoch, p.Reserved.CPU, p.Reserved.Memory); err != nil {
		return err
	}
	for _, port := range p.Ports {
		if _, err := t.stmts.portLease.ExecContext(t.ctx, p.Node, port, string(r.ID), epoch); err != nil {
			return err
		}
	}
	return nil
}

// fit returns the ports to lease on a candidate, or what is short there.
func (t *tx) fit(c sandbox.Candidate, p sandbox.PlaceRequest) (ports map[int]int, short string, err error) {
	n, ok, err := t.node(c.Node)
	switch {
	case err != nil:
		return nil, "", err
	case !ok:
		return nil, "not registered", nil
	case n.Draining:
		return nil, "draining", nil
	case !n.Live(t.now):
		return nil, "its agent does not answer", nil
	}
	lacks, err := t.lacks(c, p.Reserve)
	if err != nil {
		return nil, "", err
	}
	if len(lacks) > 0 {
		return nil, strings.Join(lacks, ", "), nil
	}
	fresh, err := t.freePorts(c.Node, c.PortMin, c.PortMax, len(p.Ports))
	if err != nil {
		return nil, "", err
	}
	if len(fresh) < len(p.Ports) {
		return nil, sandbox.ShortPorts(len(p.Ports), c.PortMin, c.PortMax), nil
	}
	ports = make(map[int]int, len(p.Ports))
	for i, inside := range p.Ports {
		ports[inside] = fresh[i]
	}
	return ports, "", nil
}

// lacks says which bounds of a candidate leave no room.
func (t *tx) lacks(c sandbox.Candidate, want sandbox.Resources) ([]string, error) {
	if c.MaxSandboxes == 0 && c.Capacity == (sandbox.Resources{}) {
		// Without bounds there is nothing to add up.
		return nil, nil
	}
	used, count, err := t.used(c.Node)
	if err != nil {
		return nil, err
	}
	var out []string
	if c.MaxSandboxes > 0 && count >= c.MaxSandboxes {
		out = append(out, sandbox.TooMany(count, c.MaxSandboxes))
	}
	if l := sandbox.Lack(used.CPU, want.CPU, c.Capacity.CPU); l >= 0 {
		out = append(out, sandbox.ShortCPU(want.CPU, l))
	}
	if l := sandbox.Lack(used.Memory, want.Memory, c.Capacity.Memory); l >= 0 {
		out = append(out, sandbox.ShortMemory(want.Memory, l))
	}
	return out, nil
}

// used returns what is held on a node.
func (t *tx) used(name string) (sum sandbox.Resources, count int, err error) {
	var cpu, memory float64
	if err := t.stmts.used.QueryRowContext(t.ctx, name).Scan(&count, &cpu, &memory); err != nil {
		return sum, 0, err
	}
	return sandbox.Resources{CPU: amount(cpu), Memory: amount(memory)}, count, nil
}

// amount is a sum as a number of our own; it is exact up to 2^53 (9 PB), and stays at the largest number beyond the range.
func amount(f float64) int64 {
	if f >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(f)
}

// freePorts returns n different ports that are neither leased nor barred, from a random one upwards and around; fewer if there
// are fewer.
func (t *tx) freePorts(name string, low, high, n int) ([]int, error) {
	if n == 0 || high < low {
		return nil, nil
	}
	start := low + rand.IntN(high-low+1)
	ports, err := t.gaps(name, start, high, n)
	if err != nil || len(ports) == n || start == low {
		return ports, err
	}
	more, err := t.gaps(name, low, start-1, n-len(ports))
	return append(ports, more...), err
}

// gaps returns the first n free ports from low to high.
func (t *tx) gaps(name string, low, high, n int) (free []int, err error) {
	rows, err := t.stmts.ports.QueryContext(t.ctx, name, low, high, t.now.UnixMicro())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	next := low
	for len(free) < n && rows.Next() {
		var taken int
		if err := rows.Scan(&taken); err != nil {
			return nil, err
		}
		for ; next < taken && len(free) < n; next++ {
			free = append(free, next)
		}
		next = taken + 1
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	for ; next <= high && len(free) < n; next++ {
		free = append(free, next)
	}
	return free, nil
}

// free gives back all that a placement holds.
func (t *tx) free(name string, id sandbox.ID, epoch uint64) error {
	for _, stmt := range []*sql.Stmt{t.stmts.holdFree, t.stmts.portFree} {
		if _, err := stmt.ExecContext(t.ctx, name, string(id), int64(epoch)); err != nil {
			return err
		}
	}
	return nil
}

// FailUnplaced implements sandbox.Placements.
func (s *Store) FailUnplaced(ctx context.Context, id sandbox.ID, f sandbox.Failure) (sandbox.Record, error) {
	return s.update(ctx, "fail unplaced", id, func(t *tx, r *sandbox.Record) error {
		if r.Unplaced() {
			if err := t.recovery.MayFail(ctx, r); err != nil {
				return err
			}
		}
		return r.FailUnplaced(f, t.now)
	})
}

func atLeast0(n int) int { return max(n, 0) }
