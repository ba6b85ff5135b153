package memstore

import (
	"context"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Insert implements sandbox.Intents.
func (s *Store) Insert(ctx context.Context, n sandbox.New) (sandbox.Record, error) {
	var out sandbox.Record
	err := s.do(ctx, func(st *step) error {
		if _, ok := s.records[n.ID]; ok {
			return fault.New(fault.Conflict, "a sandbox with this id exists").About(string(n.ID))
		}
		out = s.put(st, sandbox.NewRecord(n, st.now))
		return nil
	})
	return out, err
}

// Accept implements sandbox.Intents.
func (s *Store) Accept(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return s.update(ctx, id, func(r *sandbox.Record, _ time.Time) error { return r.Accept() })
}

// SetDesired implements sandbox.Intents.
func (s *Store) SetDesired(ctx context.Context, id sandbox.ID, d sandbox.Desired, ifGeneration uint64) (sandbox.Record, error) {
	return s.update(ctx, id, func(r *sandbox.Record, _ time.Time) error { return r.SetDesired(d, ifGeneration) })
}

// SetGone implements sandbox.Intents.
func (s *Store) SetGone(ctx context.Context, id sandbox.ID, reason string) (sandbox.Record, error) {
	return s.update(ctx, id, func(r *sandbox.Record, now time.Time) error {
		r.SetGone(reason, now)
		return nil
	})
}

// Renew implements sandbox.Intents.
func (s *Store) Renew(ctx context.Context, id sandbox.ID, at time.Time) (sandbox.Record, error) {
	return s.update(ctx, id, func(r *sandbox.Record, now time.Time) error { return r.Renew(at, now) })
}

// PatchMetadata implements sandbox.Intents.
func (s *Store) PatchMetadata(ctx context.Context, id sandbox.ID, patch map[string]*string) (sandbox.Record, error) {
	return s.update(ctx, id, func(r *sandbox.Record, _ time.Time) error {
		had := r.Intent.Metadata
		if err := r.PatchMetadata(patch); err != nil {
			return err
		}
		if len(had) == 0 && len(r.Intent.Metadata) == 0 {
			// No metadata and empty metadata are the same: this is no change.
			r.Intent.Metadata = had
		}
		return nil
	})
}
