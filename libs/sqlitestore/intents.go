package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
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
		held, err := t.held(n)
		if err != nil {
			return err
		}
		if held != nil {
			out = held.Clone()
			return nil
		}
		if n.Key.Set() {
			_, err := t.stmts.keyPut.ExecContext(t.ctx, n.Tenant, n.Key.Name, n.Key.Hash, string(n.ID), t.now.Add(sandbox.KeepKey).UnixMicro())
			if err != nil {
				return err
			}
		}
		if n.Secret != nil {
			if _, err := t.stmts.secretPut.ExecContext(t.ctx, string(n.ID), n.Secret); err != nil {
				return err
			}
		}
		r := sandbox.NewRecord(n, t.now, sandbox.OriginOf(ctx))
		r.NotBefore(t.recovery.Mark.Incarnation)
		out, err = t.save(nil, r)
		return err
	})
	if err != nil {
		return sandbox.Record{}, err
	}
	return out, nil
}

// held returns the record that the key of a create leads to, or nil if it leads to none.
func (t *tx) held(n sandbox.New) (*sandbox.Record, error) {
	if !n.Key.Set() {
		return nil, nil
	}
	var hash, id string
	err := t.stmts.key.QueryRowContext(t.ctx, n.Tenant, n.Key.Name, t.now.UnixMicro()).Scan(&hash, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r, err := t.load(sandbox.ID(id))
	if fault.Is(err, fault.NotFound) {
		return nil, sandbox.ErrKeySpent(sandbox.ID(id))
	}
	if err != nil {
		return nil, err
	}
	repeats, err := r.Repeats(n.Key, hash)
	if err != nil || !repeats {
		return nil, err
	}
	return r, nil
}

// Accept implements sandbox.Intents.
func (s *Store) Accept(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return s.update(ctx, "accept", id, func(_ *tx, r *sandbox.Record) error { return r.Accept() })
}

// SetDesired implements sandbox.Intents.
func (s *Store) SetDesired(ctx context.Context, id sandbox.ID, d sandbox.Desired, ifGeneration uint64) (sandbox.Record, error) {
	return s.update(ctx, "set desired", id, func(_ *tx, r *sandbox.Record) error { return r.SetDesired(d, ifGeneration, sandbox.OriginOf(ctx)) })
}

// SetGone implements sandbox.Intents.
func (s *Store) SetGone(ctx context.Context, id sandbox.ID, reason string) (sandbox.Record, error) {
	return s.update(ctx, "set gone", id, func(t *tx, r *sandbox.Record) error {
		r.SetGone(reason, t.now, sandbox.OriginOf(ctx))
		return nil
	})
}

// Renew implements sandbox.Intents.
func (s *Store) Renew(ctx context.Context, id sandbox.ID, tenant string, at time.Time) (sandbox.Record, error) {
	return s.update(ctx, "renew", id, func(t *tx, r *sandbox.Record) error {
		if !r.OwnedBy(tenant) {
			return sandbox.ErrNotFound(id)
		}
		return r.Renew(at, t.now)
	})
}

// Extend implements sandbox.Intents.
func (s *Store) Extend(ctx context.Context, id sandbox.ID, at time.Time) (sandbox.Record, error) {
	return s.update(ctx, "extend", id, func(t *tx, r *sandbox.Record) error { return r.Extend(at, t.now) })
}

// PatchMetadata implements sandbox.Intents.
func (s *Store) PatchMetadata(ctx context.Context, id sandbox.ID, tenant string, patch map[string]*string) (sandbox.Record, error) {
	return s.update(ctx, "patch metadata", id, func(_ *tx, r *sandbox.Record) error {
		if !r.OwnedBy(tenant) {
			return sandbox.ErrNotFound(id)
		}
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
