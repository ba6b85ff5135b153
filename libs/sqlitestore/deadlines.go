package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"opensandbox/libs/sandbox"
)

// ExpireDue implements sandbox.Deadlines. The earliest deadline comes first, then the lower id.
func (s *Store) ExpireDue(ctx context.Context, notAfter time.Time, max int) ([]sandbox.ID, error) {
	var out []sandbox.ID
	err := s.do(ctx, "expire", func(t *tx) error {
		if err := t.recovery.MayEnd(ctx); err != nil {
			return err
		}
		until := t.now
		if notAfter.Before(until) {
			until = notAfter
		}
		due, err := t.ids(t.stmts.due, until.UnixMicro(), atLeast0(max))
		if err != nil {
			return err
		}
		for _, id := range due {
			before, err := t.load(id)
			if err != nil {
				return err
			}
			r := before.Clone()
			// Due by the caller's slower time, but it ends now.
			if !r.Due(until) || !r.Expire(t.now) {
				continue
			}
			if _, err := t.save(before, r); err != nil {
				return err
			}
			out = append(out, id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// NextDeadline implements sandbox.Deadlines.
func (s *Store) NextDeadline(ctx context.Context) (at time.Time, ok bool, err error) {
	if err := s.check(ctx); err != nil {
		return time.Time{}, false, err
	}
	var first sql.NullInt64
	if err := s.reads.nextExpiry.QueryRowContext(ctx).Scan(&first); err != nil {
		return time.Time{}, false, s.failed("next deadline", err)
	}
	return fromMicros(first), first.Valid, nil
}

// Attention implements sandbox.Deadlines. The earliest comes first, then the lower id; next is the first that is not among them,
// so it lies in the past when there were more than max.
func (s *Store) Attention(ctx context.Context, max int) (due []sandbox.Record, next time.Time, err error) {
	now := s.now()
	limit := min(atLeast0(max), 1<<30)
	err = s.view(ctx, "attention", func(q *snapshot) error {
		var found []versioned
		rows, err := q.StmtContext(ctx, s.reads.attention).QueryContext(ctx, limit+1)
		if err != nil {
			return err
		}
		if found, next, err = scanAttention(rows, limit, now); err != nil {
			return err
		}
		due, err = q.bodies(ctx, found)
		return err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	return due, next, nil
}

// scanAttention returns what is due, and the time of the first that is not among them.
func scanAttention(rows *sql.Rows, limit int, now time.Time) (due []versioned, next time.Time, err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var v versioned
		var at int64
		if err := rows.Scan(&v.id, &v.version, &at); err != nil {
			return nil, time.Time{}, err
		}
		if len(due) == limit || at > now.UnixMicro() {
			return due, time.UnixMicro(at).UTC(), nil
		}
		due = append(due, v)
	}
	return due, time.Time{}, rows.Err()
}

// Purge implements sandbox.Deadlines. The one that could be forgotten first goes first.
func (s *Store) Purge(ctx context.Context, age time.Duration, max int) (int, error) {
	var n int
	err := s.do(ctx, "purge", func(t *tx) error {
		if err := t.recovery.MayEnd(ctx); err != nil {
			return err
		}
		old, err := t.ids(t.stmts.ended, t.now.Add(-age).UnixMicro(), atLeast0(max))
		if err != nil {
			return err
		}
		for _, id := range old {
			// Ended records are not visible, so they have no labels, and they hold nothing.
			if _, err := t.stmts.remove.ExecContext(t.ctx, string(id)); err != nil {
				return err
			}
		}
		t.forgotten, n = old, len(old)
		_, err = t.stmts.keysOver.ExecContext(t.ctx, t.now.UnixMicro())
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}
