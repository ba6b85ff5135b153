//go:build sabotage

package sabotage

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
)

type brokenExecutor struct {
	executor.Executor
	promise, stateDir string

	mu sync.Mutex
	// starts counts the starts, and last is the sandbox that was started last.
	starts int
	last   executor.Ref
}

// Unwrap returns what is broken, for executor.As.
func (b *brokenExecutor) Unwrap() executor.Executor { return b.Executor }

func (b *brokenExecutor) Create(ctx context.Context, p executor.Plan) error {
	if b.promise == KeptFile {
		if err := os.WriteFile(filepath.Join(b.stateDir, string(p.ID)+".kept"), nil, 0o600); err != nil {
			return err
		}
	}
	return b.Executor.Create(ctx, p)
}

func (b *brokenExecutor) Start(ctx context.Context, p executor.Plan) error {
	former, n := b.next(p.Ref)
	if b.promise == FailedStart && n%3 == 0 {
		return fault.New(fault.Invalid, "the container cannot be started").WithCode(executor.CodeStart)
	}
	if err := b.Executor.Start(ctx, p); err != nil {
		return err
	}
	if b.promise == EarlyKill && former.ID != "" && former != p.Ref {
		return b.Kill(ctx, former)
	}
	return nil
}

// next counts a start and returns the sandbox that was started before.
func (b *brokenExecutor) next(r executor.Ref) (former executor.Ref, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	former, b.last = b.last, r
	b.starts++
	return former, b.starts
}

func (b *brokenExecutor) Remove(ctx context.Context, r executor.Ref) error {
	if b.promise == KeptContainer {
		return nil
	}
	return b.Executor.Remove(ctx, r)
}
