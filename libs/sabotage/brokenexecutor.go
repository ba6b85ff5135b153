//go:build sabotage

package sabotage

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
)

// wholeEngine has all powers, so that what is wrapped around it has them, too.
type wholeEngine interface {
	executor.Executor
	executor.Pauser
	executor.LogReader
	executor.Watcher
	executor.Describer
}

type brokenExecutor struct {
	wholeEngine
	promise, stateDir string

	mu sync.Mutex
	// starts counts the starts, and last is the sandbox that was started last.
	starts int
	last   executor.Ref
	kept   []any
}

// Unwrap returns what is broken, for executor.As.
func (b *brokenExecutor) Unwrap() executor.Executor { return b.wholeEngine }

func (b *brokenExecutor) Create(ctx context.Context, p executor.Plan) error {
	if err := b.keep(p); err != nil {
		return err
	}
	return b.wholeEngine.Create(ctx, p)
}

// keep holds on to what nobody gives back.
func (b *brokenExecutor) keep(p executor.Plan) error {
	switch b.promise {
	case KeptFile:
		return os.WriteFile(filepath.Join(b.stateDir, string(p.ID)+".kept"), nil, 0o600)
	case KeptMemory:
		b.hold(bytes.Repeat([]byte("kept"), 1<<18))
	case KeptDescriptor:
		f, err := os.Open(os.DevNull)
		if err != nil {
			return err
		}
		b.hold(f)
	case KeptGoroutine:
		go func() { select {} }()
	case KeptThread:
		go func() {
			runtime.LockOSThread()
			select {}
		}()
	}
	return nil
}

func (b *brokenExecutor) hold(what any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept = append(b.kept, what)
}

func (b *brokenExecutor) Start(ctx context.Context, p executor.Plan) error {
	former, n := b.next(p.Ref)
	if b.promise == FailedStart && n%3 == 0 {
		return fault.New(fault.Invalid, "the container cannot be started").WithCode(executor.CodeStart)
	}
	if err := b.wholeEngine.Start(ctx, p); err != nil {
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
	return b.wholeEngine.Remove(ctx, r)
}
