package memstore

import (
	"context"
	"maps"
	"slices"
	"time"

	"opensandbox/libs/sandbox"
	"opensandbox/libs/wakeup"
)

// ExpireDue implements sandbox.Deadlines. The earliest deadline comes first, then the lower id.
func (s *Store) ExpireDue(ctx context.Context, notAfter time.Time, max int) ([]sandbox.ID, error) {
	var out []sandbox.ID
	err := s.do(ctx, func(st *step) error {
		if err := s.mayEnd(ctx); err != nil {
			return err
		}
		until := st.now
		if notAfter.Before(until) {
			until = notAfter
		}
		due := s.where(func(e *entry) bool { return e.rec.Due(until) })
		slices.SortStableFunc(due, func(a, b *entry) int { return a.rec.Intent.ExpiresAt.Compare(b.rec.Intent.ExpiresAt) })
		for _, e := range due[:min(len(due), atLeast0(max))] {
			r := e.rec.Clone()
			// Due by the caller's slower time, but it ends now.
			r.Expire(st.now)
			out = append(out, r.ID)
			s.put(st, r)
		}
		return nil
	})
	return out, err
}

// NextDeadline implements sandbox.Deadlines.
func (s *Store) NextDeadline(ctx context.Context) (at time.Time, ok bool, err error) {
	err = s.do(ctx, func(*step) error {
		s.deadline = time.Time{}
		for _, e := range s.records {
			s.lower(wakeup.Deadline(e.rec), time.Time{})
		}
		at, ok = s.deadline, !s.deadline.IsZero()
		return nil
	})
	return at, ok, err
}

// Attention implements sandbox.Deadlines. The earliest comes first, then the lower id; next is the first that is not among them,
// so it lies in the past when there were more than max.
func (s *Store) Attention(ctx context.Context, max int) (due []sandbox.Record, next time.Time, err error) {
	err = s.do(ctx, func(st *step) error {
		all := s.where(func(e *entry) bool { return !e.rec.AttentionAt().IsZero() })
		slices.SortStableFunc(all, func(a, b *entry) int { return a.rec.AttentionAt().Compare(b.rec.AttentionAt()) })
		s.attention = time.Time{}
		if len(all) > 0 {
			s.attention = all[0].rec.AttentionAt()
		}
		n := 0
		for n < len(all) && n < max && !all[n].rec.AttentionAt().After(st.now) {
			n++
		}
		due = copies(all, n)
		if n < len(all) {
			next = all[n].rec.AttentionAt()
		}
		return nil
	})
	return due, next, err
}

// Purge implements sandbox.Deadlines. The one that could be forgotten first goes first.
func (s *Store) Purge(ctx context.Context, age time.Duration, max int) (int, error) {
	var n int
	err := s.do(ctx, func(st *step) error {
		if err := s.mayEnd(ctx); err != nil {
			return err
		}
		before := st.now.Add(-age)
		old := s.where(func(e *entry) bool { return e.rec.Ended() && e.rec.ForgetFrom().Before(before) })
		slices.SortStableFunc(old, func(a, b *entry) int { return a.rec.ForgetFrom().Compare(b.rec.ForgetFrom()) })
		n = min(len(old), atLeast0(max))
		s.changes += uint64(n)
		for _, e := range old[:n] {
			delete(s.records, e.rec.ID)
		}
		maps.DeleteFunc(s.keys, func(_ key, k keyed) bool { return !st.now.Before(k.until) })
		return nil
	})
	return n, err
}
