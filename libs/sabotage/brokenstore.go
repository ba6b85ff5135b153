//go:build sabotage

package sabotage

import (
	"context"
	"sync"
	"time"

	"opensandbox/libs/sandbox"
)

type brokenStore struct {
	Ports
	promise string
}

// early is how much too early EarlyDeadline ends a sandbox.
const early = 10 * time.Second

func (b brokenStore) Renew(ctx context.Context, id sandbox.ID, tenant string, at time.Time) (sandbox.Record, error) {
	var r sandbox.Record
	var err error
	switch b.promise {
	case LostRenewal:
		r, err = b.Get(ctx, id)
	case EarlyDeadline:
		r, err = b.Ports.Renew(ctx, id, tenant, at.Add(-early))
	default:
		return b.Ports.Renew(ctx, id, tenant, at)
	}
	r.Intent.ExpiresAt = at
	return r, err
}

func (b brokenStore) PatchMetadata(ctx context.Context, id sandbox.ID, tenant string, patch map[string]*string) (sandbox.Record, error) {
	if b.promise == LostPatch {
		return b.Get(ctx, id)
	}
	return b.Ports.PatchMetadata(ctx, id, tenant, patch)
}

func (b brokenStore) Insert(ctx context.Context, n sandbox.New) (sandbox.Record, error) {
	if b.promise == IgnoredKey {
		n.Key = sandbox.Key{}
	}
	return b.Ports.Insert(ctx, n)
}

func (b brokenStore) ExpireDue(ctx context.Context, notAfter time.Time, max int) ([]sandbox.ID, error) {
	if b.promise == LateDeadline {
		return nil, nil
	}
	return b.Ports.ExpireDue(ctx, notAfter, max)
}

// staleFor is how long StaleRead shows what it has read before.
const staleFor = 2 * time.Second

// reading is what was read of a record, and when.
type reading struct {
	sandbox.Intent
	at time.Time
}

type staleReads struct {
	Ports
	mu   sync.Mutex
	last map[string]reading
}

func (s *staleReads) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	r, err := s.Ports.Get(ctx, id)
	if err != nil {
		return r, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	former, ok := s.last[string(id)]
	if !ok || time.Since(former.at) > staleFor {
		former = reading{r.Clone().Intent, time.Now()}
		s.last[string(id)] = former
	}
	r.Intent.ExpiresAt, r.Intent.Metadata = former.ExpiresAt, former.Metadata
	return r, nil
}
