package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Keys of osb_meta.
const (
	keyChanges  = "changes"
	keyRecovery = "recovery"
)

// recoveryState is the value of keyRecovery.
type recoveryState struct {
	Since      time.Time `json:"since,omitzero"`
	Unreported []string  `json:"unreported,omitempty"`
}

// readRecovery reads the state of the last recovery with a statement that returns a value of osb_meta.
func readRecovery(ctx context.Context, meta *sql.Stmt) (r sandbox.Recovery, err error) {
	values := map[string]string{}
	for _, key := range []string{keyIncarnation, keyChanges, keyRecovery} {
		var v string
		if err := meta.QueryRowContext(ctx, key).Scan(&v); err != nil {
			return r, fmt.Errorf("read %s: %w", key, err)
		}
		values[key] = v
	}
	var state recoveryState
	if r.Mark.Incarnation, err = time.Parse(time.RFC3339Nano, values[keyIncarnation]); err != nil {
		return r, err
	}
	if r.Mark.Changes, err = strconv.ParseUint(values[keyChanges], 10, 64); err != nil {
		return r, err
	}
	err = json.Unmarshal([]byte(values[keyRecovery]), &state)
	r.Since, r.Unreported = state.Since, state.Unreported
	return r, err
}

// setRecovery writes the state of the recovery; it counts as a change.
func (t *tx) setRecovery(r sandbox.Recovery) error {
	state, err := json.Marshal(recoveryState{r.Since, r.Unreported})
	if err != nil {
		return err
	}
	for key, value := range map[string]string{keyRecovery: string(state), keyIncarnation: r.Mark.Incarnation.Format(time.RFC3339Nano)} {
		if _, err := t.stmts.metaSet.ExecContext(t.ctx, value, key); err != nil {
			return err
		}
	}
	t.recovery = r
	t.topics = append(t.topics, sandbox.TopicDeadline, sandbox.TopicPlacement)
	return t.count()
}

// count notes that the transaction has changed something.
func (t *tx) count() error {
	t.recovery.Mark.Changes++
	_, err := t.stmts.metaSet.ExecContext(t.ctx, strconv.FormatUint(t.recovery.Mark.Changes, 10), keyChanges)
	return err
}

// mayPlace refuses what a store that is behind, or was, cannot answer for.
func (t *tx) mayPlace(ctx context.Context, r *sandbox.Record) error {
	if !r.Unplaced() || r.Predates(t.recovery.Mark.Incarnation) {
		return sandbox.ErrStale(r.ID)
	}
	return t.recovery.Current(ctx)
}

// Recovery implements sandbox.Recoveries.
func (s *Store) Recovery(ctx context.Context) (out sandbox.Recovery, err error) {
	err = s.view(ctx, "recovery", func(q *snapshot) error {
		out, err = readRecovery(ctx, q.StmtContext(ctx, s.reads.meta))
		return err
	})
	return out, err
}

// GetWithRecovery implements sandbox.Recoveries.
func (s *Store) GetWithRecovery(ctx context.Context, id sandbox.ID) (sandbox.Record, sandbox.Recovery, error) {
	r, err := s.Get(ctx, id)
	if err != nil {
		return r, sandbox.Recovery{}, err
	}
	now, err := s.Recovery(ctx)
	return r, now, err
}

// Recover implements sandbox.Recoveries.
func (s *Store) Recover(ctx context.Context, c sandbox.Claim) (out sandbox.Recovery, err error) {
	err = s.do(ctx, "recover", func(t *tx) error {
		nodes, err := t.nodes()
		if err != nil {
			return err
		}
		var names []string
		for name, n := range nodes {
			if !n.Removed {
				names = append(names, name)
			}
		}
		r := t.recovery
		if !r.Claim(c, names, t.now) {
			out = r
			return nil
		}
		if !r.Since.Equal(t.recovery.Since) {
			now := t.now.UnixMicro()
			if _, err := t.stmts.leasesOver.ExecContext(t.ctx, now, now); err != nil {
				return err
			}
		}
		err = t.setRecovery(r)
		out = t.recovery
		return err
	})
	return out, err
}

// nodes returns all nodes by name.
func (t *tx) nodes() (out map[string]node.Node, err error) {
	rows, err := t.stmts.nodes.QueryContext(t.ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	out = map[string]node.Node{}
	for rows.Next() {
		n, err := scanNode(rows.Scan)
		if err != nil {
			return nil, err
		}
		out[n.Name] = n
	}
	return out, rows.Err()
}

// Reported implements sandbox.Recoveries.
func (s *Store) Reported(ctx context.Context, name string, session uint64) (out sandbox.Recovery, err error) {
	err = s.do(ctx, "reported", func(t *tx) error {
		if err := t.checkSession(name, session, ""); err != nil {
			return err
		}
		r := t.recovery
		r.Reported(name)
		err := t.setRecovery(r)
		out = t.recovery
		return err
	})
	return out, err
}

// Settle implements sandbox.Recoveries.
func (s *Store) Settle(ctx context.Context) (out sandbox.Recovery, err error) {
	err = s.do(ctx, "settle", func(t *tx) error {
		nodes, err := t.nodes()
		if err != nil {
			return err
		}
		r := t.recovery
		live := func(name string) bool {
			n := nodes[name]
			return n.Live(t.now) && !n.Removed
		}
		if r.Settle(live, t.now) {
			err = t.setRecovery(r)
		}
		out = t.recovery
		return err
	})
	return out, err
}

// Sight implements sandbox.Recoveries. A port that somebody else has leased stays theirs.
func (s *Store) Sight(ctx context.Context, g sandbox.Sighting) (out sandbox.Record, err error) {
	err = s.do(ctx, "sight", func(t *tx) error {
		if err := t.checkSession(g.Node, g.Session, g.ID); err != nil {
			return err
		}
		if !t.recovery.Awaits(g.Node) {
			return sandbox.ErrStale(g.ID)
		}
		before, err := t.load(g.ID)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		out, err = t.sight(before, g)
		return err
	})
	if err != nil {
		return sandbox.Record{}, err
	}
	return out, nil
}

// sight makes the record of a sighting, or brings it forward.
func (t *tx) sight(before *sandbox.Record, g sandbox.Sighting) (sandbox.Record, error) {
	if before == nil {
		r := sandbox.SightedRecord(g, t.now)
		if err := t.seize(&r); err != nil {
			return sandbox.Record{}, err
		}
		out, err := t.save(nil, r)
		if err != nil || !r.NeedsWork() {
			return out, err
		}
		t.changes++
		_, err = t.stmts.workAdd.ExecContext(t.ctx, t.changes, string(r.ID))
		return out, err
	}
	r := before.Clone()
	r.Sight(g, t.now)
	if placementChanged(before, &r) {
		if err := t.free(before.Placement.Node, r.ID, before.Placement.Epoch); err != nil {
			return sandbox.Record{}, err
		}
		if err := t.seize(&r); err != nil {
			return sandbox.Record{}, err
		}
	}
	return t.save(before, r)
}

// seize notes what a placement holds that was made without asking for room.
func (t *tx) seize(r *sandbox.Record) error {
	p, epoch := r.Placement, int64(r.Placement.Epoch)
	held := p.Reserved
	if !r.HoldsReservation() {
		held = sandbox.Resources{}
	}
	if _, err := t.stmts.hold.ExecContext(t.ctx, p.Node, string(r.ID), epoch, held.CPU, held.Memory); err != nil {
		return err
	}
	for _, port := range p.Ports {
		if _, err := t.stmts.portSeize.ExecContext(t.ctx, p.Node, port, string(r.ID), epoch); err != nil {
			return err
		}
	}
	return nil
}

// CallRoll implements sandbox.Recoveries.
func (s *Store) CallRoll(context.Context) error {
	s.hub.Publish(sandbox.TopicRollCall)
	return nil
}
