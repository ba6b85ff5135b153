package sqlitestore

import (
	"context"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Insert implements sandbox.Intents.
func (s *Store) Insert(ctx context.Context, n sandbox.New) (sandbox.Record, error) {
	var out sandbox.Record
	err := s.do(ctx, "insert", func(t *tx) error {
		switch _, err := t.load(n.ID); {
		case err == nil:
			return fault.New(fault.Conflict, "a sandbox with this id exists").About(string(n.ID))
		case !fault.Is(err, fault.NotFound):
			return err
		}
		var err error
		out, err = t.save(nil, sandbox.NewRecord(n, t.now))
		return err
	})
	if err != nil {
		return sandbox.Record{}, err
	}
	return out, nil
}

// Accept implements sandbox.Intents.
func (s *Store) Accept(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return s.update(ctx, "accept", id, func(_ *tx, r *sandbox.Record) error { return r.Accept() })
}

// SetDesired implements sandbox.Intents.
func (s *Store) SetDesired(ctx context.Context, id sandbox.ID, d sandbox.Desired, ifGeneration uint64) (sandbox.Record, error) {
	return s.update(ctx, "set desired", id, func(_ *tx, r *sandbox.Record) error { return r.SetDesired(d, ifGeneration) })
}

// SetGone implements sandbox.Intents.
func (s *Store) SetGone(ctx context.Context, id sandbox.ID, reason string) (sandbox.Record, error) {
	return s.update(ctx, "set gone", id, func(t *tx, r *sandbox.Record) error {
		r.SetGone(reason, t.now)
		return nil
	})
}

// Renew implements sandbox.Intents.
func (s *Store) Renew(ctx context.Context, id sandbox.ID, at time.Time) (sandbox.Record, error) {
	return s.update(ctx, "renew", id, func(t *tx, r *sandbox.Record) error { return r.Renew(at, t.now) })
}

// PatchMetadata implements sandbox.Intents.
func (s *Store) PatchMetadata(ctx context.Context, id sandbox.ID, patch map[string]*string) (sandbox.Record, error) {
	return s.update(ctx, "patch metadata", id, func(_ *tx, r *sandbox.Record) error {
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
