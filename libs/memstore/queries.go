package memstore

import (
	"context"
	"slices"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Get implements sandbox.Queries.
func (s *Store) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	var out sandbox.Record
	err := s.do(ctx, func(*step) (err error) {
		out, err = s.copyOf(id)
		return err
	})
	return out, err
}

// List implements sandbox.Queries. fault.Invalid for an offset or limit out of range.
func (s *Store) List(ctx context.Context, q sandbox.Query) (sandbox.Page, error) {
	if q.Limit < 1 || q.Offset < 0 {
		return sandbox.Page{}, fault.New(fault.Invalid, "a page has at least one item and does not start before the first")
	}
	var page sandbox.Page
	err := s.do(ctx, func(*step) error {
		found := s.where(func(e *entry) bool { return matches(q, e.rec) })
		slices.Reverse(found)
		slices.SortStableFunc(found, func(a, b *entry) int { return b.rec.CreatedAt.Compare(a.rec.CreatedAt) })
		page.Total = len(found)
		page.Items = copies(found[min(q.Offset, len(found)):], q.Limit)
		return nil
	})
	return page, err
}

func matches(q sandbox.Query, r *sandbox.Record) bool {
	if !r.Visible() || r.Tenant != q.Tenant {
		return false
	}
	if len(q.States) > 0 && !slices.Contains(q.States, sandbox.StateOf(r)) {
		return false
	}
	for k, want := range q.Metadata {
		if got, ok := r.Intent.Metadata[k]; !ok || got != want {
			return false
		}
	}
	return true
}

// Incarnation implements sandbox.Queries.
func (s *Store) Incarnation(ctx context.Context) (time.Time, error) {
	var at time.Time
	err := s.do(ctx, func(*step) error {
		at = s.made
		return nil
	})
	return at, err
}

// Now implements sandbox.Queries.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	var at time.Time
	err := s.do(ctx, func(st *step) error {
		at = st.now
		return nil
	})
	return at, err
}

// Counts returns how many visible records there are of each node and state; what is missing is 0. Records that hold nothing on a node
// have none.
func (s *Store) Counts(ctx context.Context) (map[struct {
	Node  string
	State sandbox.State
}]int, error) {
	out := map[struct {
		Node  string
		State sandbox.State
	}]int{}
	err := s.do(ctx, func(*step) error {
		for _, e := range s.records {
			if !e.rec.Visible() {
				continue
			}
			k := struct {
				Node  string
				State sandbox.State
			}{State: sandbox.StateOf(e.rec)}
			if e.rec.Placed() {
				k.Node = e.rec.Placement.Node
			}
			out[k]++
		}
		return nil
	})
	return out, err
}
