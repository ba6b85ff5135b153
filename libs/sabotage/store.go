//go:build sabotage

package sabotage

import (
	"context"
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Ports are those of a store.
type Ports interface {
	sandbox.Store
	node.Registry
}

// Store returns next with its steps sabotaged.
func (s *Saboteur) Store(next Ports) Ports { return store{reads{next}, nodes{next, s}, next, s} }

// store sabotages the steps of a sandbox.Store.
type store struct {
	reads
	nodes
	next sandbox.Store
	by   *Saboteur
}

func (s store) Insert(ctx context.Context, n sandbox.New) (sandbox.Record, error) {
	return take(s.by, StoreInsert, func() (sandbox.Record, error) { return s.next.Insert(ctx, n) })
}

func (s store) Accept(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return take(s.by, StoreAccept, func() (sandbox.Record, error) { return s.next.Accept(ctx, id) })
}

func (s store) SetDesired(ctx context.Context, id sandbox.ID, d sandbox.Desired, ifGeneration uint64) (sandbox.Record, error) {
	return take(s.by, StoreSetDesired, func() (sandbox.Record, error) { return s.next.SetDesired(ctx, id, d, ifGeneration) })
}

func (s store) SetGone(ctx context.Context, id sandbox.ID, reason string) (sandbox.Record, error) {
	return take(s.by, StoreSetGone, func() (sandbox.Record, error) { return s.next.SetGone(ctx, id, reason) })
}

func (s store) Renew(ctx context.Context, id sandbox.ID, tenant string, at time.Time) (sandbox.Record, error) {
	return take(s.by, StoreRenew, func() (sandbox.Record, error) { return s.next.Renew(ctx, id, tenant, at) })
}

func (s store) Extend(ctx context.Context, id sandbox.ID, at time.Time) (sandbox.Record, error) {
	return take(s.by, StoreExtend, func() (sandbox.Record, error) { return s.next.Extend(ctx, id, at) })
}

func (s store) PatchMetadata(ctx context.Context, id sandbox.ID, tenant string, patch map[string]*string) (sandbox.Record, error) {
	return take(s.by, StorePatchMetadata, func() (sandbox.Record, error) { return s.next.PatchMetadata(ctx, id, tenant, patch) })
}

func (s store) Place(ctx context.Context, p sandbox.PlaceRequest) (sandbox.Record, error) {
	return take(s.by, StorePlace, func() (sandbox.Record, error) { return s.next.Place(ctx, p) })
}

func (s store) FailUnplaced(ctx context.Context, id sandbox.ID, f sandbox.Failure) (sandbox.Record, error) {
	return take(s.by, StoreFailUnplaced, func() (sandbox.Record, error) { return s.next.FailUnplaced(ctx, id, f) })
}

func (s store) Lose(ctx context.Context, l sandbox.Loss) (sandbox.Record, error) {
	return take(s.by, StoreLose, func() (sandbox.Record, error) { return s.next.Lose(ctx, l) })
}

// ExpireDue is called all the time. It is a step when something is due.
func (s store) ExpireDue(ctx context.Context, notAfter time.Time, max int) ([]sandbox.ID, error) {
	if s.due(ctx, notAfter) {
		s.by.reach(StoreExpireDue, Before)
	}
	ids, err := s.next.ExpireDue(ctx, notAfter, max)
	if len(ids) > 0 {
		s.by.reach(StoreExpireDue, After)
	}
	return ids, err
}

func (s store) due(ctx context.Context, notAfter time.Time) bool {
	if s.by.dir == "" {
		return false
	}
	first, any, err := s.next.NextDeadline(ctx)
	if err != nil || !any || first.After(notAfter) {
		return false
	}
	now, err := s.next.Now(ctx)
	return err == nil && !first.After(now)
}

// Purge is called all the time. It is a step when it has forgotten something.
func (s store) Purge(ctx context.Context, age time.Duration, max int) (int, error) {
	n, err := s.next.Purge(ctx, age, max)
	if n > 0 {
		s.by.reach(StorePurge, After)
	}
	return n, err
}

func (s store) Report(ctx context.Context, r sandbox.Report) (sandbox.Record, error) {
	return take(s.by, StoreReport(r.State), func() (sandbox.Record, error) { return s.next.Report(ctx, r) })
}

func (s store) SwapPort(ctx context.Context, p sandbox.PortSwap) (sandbox.Record, error) {
	return take(s.by, StoreSwapPort, func() (sandbox.Record, error) { return s.next.SwapPort(ctx, p) })
}

func (s store) Cleaned(ctx context.Context, c sandbox.Cleaned) error {
	return act(s.by, StoreCleaned, func() error { return s.next.Cleaned(ctx, c) })
}

func (s store) Mirrored(ctx context.Context, node string, versions map[sandbox.ID]uint64) error {
	return act(s.by, StoreMirrored, func() error { return s.next.Mirrored(ctx, node, versions) })
}

func (s store) Recover(ctx context.Context, c sandbox.Claim) (sandbox.Recovery, error) {
	return take(s.by, StoreRecover, func() (sandbox.Recovery, error) { return s.next.Recover(ctx, c) })
}

func (s store) Sight(ctx context.Context, g sandbox.Sighting) (sandbox.Record, error) {
	return take(s.by, StoreSight, func() (sandbox.Record, error) { return s.next.Sight(ctx, g) })
}

func (s store) Reported(ctx context.Context, node string, session uint64) (sandbox.Recovery, error) {
	return take(s.by, StoreReported, func() (sandbox.Recovery, error) { return s.next.Reported(ctx, node, session) })
}

func (s store) Settle(ctx context.Context) (sandbox.Recovery, error) {
	return take(s.by, StoreSettle, func() (sandbox.Recovery, error) { return s.next.Settle(ctx) })
}

func (s store) CallRoll(ctx context.Context) error {
	return act(s.by, StoreCallRoll, func() error { return s.next.CallRoll(ctx) })
}
