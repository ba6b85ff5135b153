package usecase_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// faulty is a store that can be away for some of its methods, and notes what was called.
type faulty struct {
	*memstore.Store

	mu sync.Mutex
	// full says that those of away fail because the disk is full.
	full bool
	// away holds the methods that fail before they do anything, lost those that fail after they did it.
	away, lost map[string]bool
	calls      []string
}

func newFaulty(st *memstore.Store) *faulty {
	return &faulty{Store: st, away: map[string]bool{}, lost: map[string]bool{}}
}

var (
	errAway        = fault.New(fault.Unavailable, "the store is not available").RetryAfter(time.Second)
	errFull        = fault.New(fault.Unavailable, "full; nothing was changed").WithCode(sandbox.CodeStoreFull).RetryAfter(5 * time.Second)
	errUnconfirmed = fault.New(fault.Unavailable, "not confirmed").WithCode("STORE::UNCONFIRMED").RetryAfter(time.Second)
)

// goAway makes methods fail until comeBack.
func (f *faulty) goAway(methods ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range methods {
		f.away[m] = true
	}
}

func (f *faulty) comeBack() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.away)
	clear(f.lost)
}

// loseAnswers makes methods do their work and fail.
func (f *faulty) loseAnswers(methods ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range methods {
		f.lost[m] = true
	}
}

func (f *faulty) state(method string) (away, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, method)
	return f.away[method], f.lost[method]
}

func call[T any](f *faulty, method string, do func() (T, error)) (T, error) {
	var none T
	away, lost := f.state(method)
	if away && f.full {
		return none, errFull
	}
	if away {
		return none, errAway
	}
	out, err := do()
	if err == nil && lost {
		return none, errUnconfirmed
	}
	return out, err
}

func (f *faulty) Insert(ctx context.Context, n sandbox.New) (sandbox.Record, error) {
	return call(f, "Insert", func() (sandbox.Record, error) { return f.Store.Insert(ctx, n) })
}

func (f *faulty) Accept(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return call(f, "Accept", func() (sandbox.Record, error) { return f.Store.Accept(ctx, id) })
}

func (f *faulty) SetDesired(ctx context.Context, id sandbox.ID, d sandbox.Desired, ifGeneration uint64) (sandbox.Record, error) {
	return call(f, "SetDesired", func() (sandbox.Record, error) { return f.Store.SetDesired(ctx, id, d, ifGeneration) })
}

func (f *faulty) SetGone(ctx context.Context, id sandbox.ID, reason string) (sandbox.Record, error) {
	return call(f, "SetGone", func() (sandbox.Record, error) { return f.Store.SetGone(ctx, id, reason) })
}

func (f *faulty) Renew(ctx context.Context, id sandbox.ID, tenant string, at time.Time) (sandbox.Record, error) {
	return call(f, "Renew", func() (sandbox.Record, error) { return f.Store.Renew(ctx, id, tenant, at) })
}

func (f *faulty) PatchMetadata(ctx context.Context, id sandbox.ID, tenant string, patch map[string]*string) (sandbox.Record, error) {
	return call(f, "PatchMetadata", func() (sandbox.Record, error) { return f.Store.PatchMetadata(ctx, id, tenant, patch) })
}

func (f *faulty) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return call(f, "Get", func() (sandbox.Record, error) { return f.Store.Get(ctx, id) })
}

func (f *faulty) List(ctx context.Context, q sandbox.Query) (sandbox.Page, error) {
	return call(f, "List", func() (sandbox.Page, error) { return f.Store.List(ctx, q) })
}
