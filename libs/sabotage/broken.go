//go:build sabotage

package sabotage

import (
	"context"
	"os"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
)

// BrokenVariable names the environment variable with the one promise that a process breaks, so that a test can show that it would notice.
const BrokenVariable = "SABOTAGE_BROKEN"

// The broken promises.
const (
	// LostRenewal acknowledges renewals that it does not write.
	LostRenewal = "lost-renewal"
	// LostPatch acknowledges patches of metadata that it does not write.
	LostPatch = "lost-patch"
	// EarlyDeadline writes deadlines that are ten seconds before those it acknowledges.
	EarlyDeadline = "early-deadline"
	// IgnoredKey takes every create for one without an idempotency key.
	IgnoredKey = "ignored-key"
	// KeptContainer says that it has removed what it leaves.
	KeptContainer = "kept-container"
)

// Broken returns next without the promise about the store that this process breaks; next itself if there is none.
func Broken(next Ports) Ports {
	switch promise := os.Getenv(BrokenVariable); promise {
	case LostRenewal, LostPatch, EarlyDeadline, IgnoredKey:
		return brokenStore{next, promise}
	}
	return next
}

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

// BrokenExecutor returns next without the promise about the engine that this process breaks; next itself if there is none.
func BrokenExecutor(next executor.Executor) executor.Executor {
	if os.Getenv(BrokenVariable) == KeptContainer {
		return brokenExecutor{next}
	}
	return next
}

type brokenExecutor struct{ executor.Executor }

// Unwrap returns what is broken, for executor.As.
func (b brokenExecutor) Unwrap() executor.Executor { return b.Executor }

func (b brokenExecutor) Remove(context.Context, executor.Ref) error { return nil }
