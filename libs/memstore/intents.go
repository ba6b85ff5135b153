package memstore

import (
	"context"
	"slices"
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
		held, err := s.held(st, n)
		if err != nil {
			return err
		}
		if held != nil {
			out = held.Clone()
			return nil
		}
		r := sandbox.NewRecord(n, st.now, sandbox.OriginOf(ctx))
		r.NotBefore(s.made)
		out = s.put(st, r)
		if n.Secret != nil {
			s.secrets[n.ID] = slices.Clone(n.Secret)
		}
		if n.Key.Set() {
			s.keys[key{n.Tenant, n.Key.Name}] = keyed{hash: n.Key.Hash, id: n.ID, until: st.now.Add(sandbox.KeepKey)}
		}
		return nil
	})
	return out, err
}

// held returns the record that the key of a create leads to, or nil if it leads to none.
func (s *Store) held(st *step, n sandbox.New) (*sandbox.Record, error) {
	k, ok := s.keys[key{n.Tenant, n.Key.Name}]
	if !n.Key.Set() || !ok || !st.now.Before(k.until) {
		return nil, nil
	}
	e, ok := s.records[k.id]
	if !ok {
		return nil, sandbox.ErrKeySpent(k.id)
	}
	repeats, err := e.rec.Repeats(n.Key, k.hash)
	if err != nil || !repeats {
		return nil, err
	}
	return e.rec, nil
}

// Accept implements sandbox.Intents.
func (s *Store) Accept(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return s.update(ctx, id, func(r *sandbox.Record, _ time.Time) error { return r.Accept() })
}

// SetDesired implements sandbox.Intents.
func (s *Store) SetDesired(ctx context.Context, id sandbox.ID, d sandbox.Desired, ifGeneration uint64) (sandbox.Record, error) {
	return s.update(ctx, id, func(r *sandbox.Record, _ time.Time) error {
		return r.SetDesired(d, ifGeneration, sandbox.OriginOf(ctx))
	})
}

// SetGone implements sandbox.Intents.
func (s *Store) SetGone(ctx context.Context, id sandbox.ID, reason string) (sandbox.Record, error) {
	return s.update(ctx, id, func(r *sandbox.Record, now time.Time) error {
		r.SetGone(reason, now, sandbox.OriginOf(ctx))
		return nil
	})
}

// Renew implements sandbox.Intents.
func (s *Store) Renew(ctx context.Context, id sandbox.ID, tenant string, at time.Time) (sandbox.Record, error) {
	return s.update(ctx, id, func(r *sandbox.Record, now time.Time) error {
		if !r.OwnedBy(tenant) {
			return sandbox.ErrNotFound(id)
		}
		return r.Renew(at, now)
	})
}

// Extend implements sandbox.Intents.
func (s *Store) Extend(ctx context.Context, id sandbox.ID, at time.Time) (sandbox.Record, error) {
	return s.update(ctx, id, func(r *sandbox.Record, now time.Time) error { return r.Extend(at, now) })
}

// PatchMetadata implements sandbox.Intents.
func (s *Store) PatchMetadata(ctx context.Context, id sandbox.ID, tenant string, patch map[string]*string) (sandbox.Record, error) {
	return s.update(ctx, id, func(r *sandbox.Record, _ time.Time) error {
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
