package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/wakeup"
)

// columns are the columns that follow from a record; all of them can be compared.
type columns struct {
	visible, unplaced, needsWork bool
	state                        sandbox.State
	node                         sql.NullString
	expires, attention, ended    sql.NullInt64
}

func columnsOf(r *sandbox.Record) columns {
	return columns{
		visible: r.Visible(), unplaced: r.Unplaced(), needsWork: r.NeedsWork(), state: sandbox.StateOf(r),
		node:    sql.NullString{String: r.Placement.Node, Valid: r.Placed()},
		expires: microsUp(wakeup.Deadline(r)), attention: microsUp(r.AttentionAt()), ended: microsUp(r.ForgetFrom()),
	}
}

// microsUp rounds up, so that nothing is due before its time; the zero time becomes NULL.
func microsUp(t time.Time) sql.NullInt64 {
	if t.IsZero() {
		return sql.NullInt64{}
	}
	m := t.UnixMicro()
	if t.Nanosecond()%1000 != 0 {
		m++
	}
	return sql.NullInt64{Int64: m, Valid: true}
}

func fromMicros(m sql.NullInt64) time.Time {
	if !m.Valid {
		return time.Time{}
	}
	return time.UnixMicro(m.Int64).UTC()
}

func decode(id sandbox.ID, body []byte) (*sandbox.Record, error) {
	var r sandbox.Record
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("the stored record %s cannot be read: %w", id, err)
	}
	return &r, nil
}

// load returns a record that must not be changed.
func (t *tx) load(id sandbox.ID) (*sandbox.Record, error) {
	if r, ok := t.saved[id]; ok {
		return r, nil
	}
	if r, _ := t.cache.get(id); r != nil {
		return r, nil
	}
	var body []byte
	err := t.stmts.load.QueryRowContext(t.ctx, string(id)).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, sandbox.ErrNotFound(id)
	}
	if err != nil {
		return nil, err
	}
	return decode(id, body)
}

// update applies one guarded transition to a record and returns what it became.
func (s *Store) update(ctx context.Context, op string, id sandbox.ID, fn func(t *tx, r *sandbox.Record) error) (sandbox.Record, error) {
	var out sandbox.Record
	err := s.do(ctx, op, func(t *tx) error {
		before, err := t.load(id)
		if err != nil {
			return err
		}
		r := before.Clone()
		if err := fn(t, &r); err != nil {
			return err
		}
		out, err = t.save(before, r)
		return err
	})
	if err != nil {
		return sandbox.Record{}, err
	}
	return out, nil
}

// save writes a record with all its indexes if it changed, and returns a copy of it. before is nil for a new one.
func (t *tx) save(before *sandbox.Record, r sandbox.Record) (sandbox.Record, error) {
	r = r.Clone()
	if before != nil {
		if reflect.DeepEqual(*before, r) {
			return r, nil
		}
		r.Version = before.Version + 1
	}
	body, err := json.Marshal(&r)
	if err != nil {
		return sandbox.Record{}, fault.New(fault.Invalid, "the record cannot be stored").Because(err)
	}
	if err := t.noteDeadlines(before, &r); err != nil {
		return sandbox.Record{}, err
	}
	if before == nil {
		err = t.insertRow(&r, body)
	} else {
		err = t.updateRow(before, &r, body)
	}
	if err != nil {
		return sandbox.Record{}, err
	}
	if err := t.saveLabels(before, &r); err != nil {
		return sandbox.Record{}, err
	}
	if r.DropsSecret(before) {
		if _, err := t.stmts.secretDrop.ExecContext(t.ctx, string(r.ID)); err != nil {
			return sandbox.Record{}, err
		}
	}
	t.topics = append(t.topics, wakeup.Of(before, &r)...)
	t.saved[r.ID] = &r
	return r.Clone(), nil
}

func (t *tx) insertRow(r *sandbox.Record, body []byte) error {
	c := columnsOf(r)
	_, err := t.stmts.insert.ExecContext(t.ctx, string(r.ID), r.Tenant, r.CreatedAt.UnixMicro(), body, int64(r.Version),
		c.visible, string(c.state), c.unplaced, c.node, c.expires, c.attention, c.ended)
	return err
}

func (t *tx) updateRow(before, r *sandbox.Record, body []byte) error {
	c, work, moved := columnsOf(r), wakeup.NewWork(before, r), placementChanged(before, r)
	if c == columnsOf(before) && !work && !moved {
		// No index but that of the mirror is concerned.
		_, err := t.stmts.updateBody.ExecContext(t.ctx, body, int64(r.Version), string(r.ID))
		return err
	}
	since := int64(-1)
	switch {
	case work:
		t.changes++
		since = t.changes
	case !c.needsWork:
		since = 0
	}
	_, err := t.stmts.update.ExecContext(t.ctx, body, int64(r.Version), c.visible, string(c.state), c.unplaced, c.node,
		c.expires, c.attention, c.ended, since, moved, string(r.ID))
	if err != nil || !before.HoldsReservation() || r.HoldsReservation() {
		return err
	}
	_, err = t.stmts.holdAmounts.ExecContext(t.ctx, r.Placement.Node, string(r.ID), int64(r.Placement.Epoch))
	return err
}

func placementChanged(a, b *sandbox.Record) bool {
	return a.Placement.Node != b.Placement.Node || a.Placement.Epoch != b.Placement.Epoch
}

// saveLabels brings the labels that lists look at in line with a record: those of visible records only.
func (t *tx) saveLabels(before, r *sandbox.Record) error {
	had, have := map[string]string(nil), map[string]string(nil)
	if before != nil && before.Visible() {
		had = before.Intent.Metadata
	}
	if r.Visible() {
		have = r.Intent.Metadata
	}
	created := r.CreatedAt.UnixMicro()
	for k, v := range had {
		if now, ok := have[k]; ok && now == v {
			continue
		}
		if _, err := t.stmts.labelRemove.ExecContext(t.ctx, r.Tenant, k, v, created, string(r.ID)); err != nil {
			return err
		}
	}
	for k, v := range have {
		if then, ok := had[k]; ok && then == v {
			continue
		}
		if _, err := t.stmts.labelAdd.ExecContext(t.ctx, r.Tenant, k, v, created, string(r.ID)); err != nil {
			return err
		}
	}
	return nil
}

// noteDeadlines adds a hint if the earliest deadline or attention time of all records is about to become earlier.
func (t *tx) noteDeadlines(before, r *sandbox.Record) error {
	var had sandbox.Record
	if before != nil {
		had = *before
	} else {
		had.Intent.Desired = sandbox.DesiredGone
	}
	for _, c := range []struct {
		was, is time.Time
		first   *sql.Stmt
	}{
		{wakeup.Deadline(&had), wakeup.Deadline(r), t.stmts.firstExpiry},
		{had.AttentionAt(), r.AttentionAt(), t.stmts.firstAttention},
	} {
		if !wakeup.Earlier(c.is, c.was) {
			continue
		}
		var first sql.NullInt64
		if err := c.first.QueryRowContext(t.ctx).Scan(&first); err != nil {
			return err
		}
		if wakeup.Earlier(c.is, fromMicros(first)) {
			t.topics = append(t.topics, sandbox.TopicDeadline)
		}
	}
	return nil
}

// ids runs a query of one column of ids to its end, so that the statement is free for the writes that follow.
func (t *tx) ids(stmt *sql.Stmt, args ...any) ([]sandbox.ID, error) {
	rows, err := stmt.QueryContext(t.ctx, args...)
	if err != nil {
		return nil, err
	}
	return scanIDs(rows)
}

func scanIDs(rows *sql.Rows) (out []sandbox.ID, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		out = append(out, sandbox.ID(id))
	}
	return out, rows.Err()
}
