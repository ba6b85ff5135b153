//go:build sabotage

package sabotage

import (
	"context"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Executor returns next with its steps sabotaged. What next can beyond the port is found with executor.As.
func (s *Saboteur) Executor(next executor.Executor) Engine { return Engine{next, s} }

// Engine sabotages the steps of an Executor. It has the methods of all powers, as executor.As wants it.
type Engine struct {
	next executor.Executor
	by   *Saboteur
}

var (
	_ executor.Pauser    = Engine{}
	_ executor.LogReader = Engine{}
	_ executor.Watcher   = Engine{}
	_ executor.Describer = Engine{}
)

// Unwrap returns what is sabotaged.
func (e Engine) Unwrap() executor.Executor { return e.next }

func (e Engine) EnsureImage(ctx context.Context, img executor.Image, progress func(string)) error {
	return act(e.by, ExecutorEnsureImage, func() error { return e.next.EnsureImage(ctx, img, progress) })
}

func (e Engine) Create(ctx context.Context, p executor.Plan) error {
	return act(e.by, ExecutorCreate, func() error { return e.next.Create(ctx, p) })
}

func (e Engine) Start(ctx context.Context, p executor.Plan) error {
	return act(e.by, ExecutorStart, func() error { return e.next.Start(ctx, p) })
}

func (e Engine) Kill(ctx context.Context, r executor.Ref) error {
	return act(e.by, ExecutorKill, func() error { return e.next.Kill(ctx, r) })
}

func (e Engine) Remove(ctx context.Context, r executor.Ref) error {
	return act(e.by, ExecutorRemove, func() error { return e.next.Remove(ctx, r) })
}

func (e Engine) Pause(ctx context.Context, r executor.Ref) error {
	return power(e, func(p executor.Pauser) error {
		return act(e.by, ExecutorPause, func() error { return p.Pause(ctx, r) })
	})
}

func (e Engine) Unpause(ctx context.Context, r executor.Ref) error {
	return power(e, func(p executor.Pauser) error {
		return act(e.by, ExecutorUnpause, func() error { return p.Unpause(ctx, r) })
	})
}

// The rest reads.

func (e Engine) EngineID(ctx context.Context) (string, error) { return e.next.EngineID(ctx) }

func (e Engine) Inspect(ctx context.Context, id sandbox.ID) (executor.Instance, error) {
	return e.next.Inspect(ctx, id)
}

func (e Engine) List(ctx context.Context) ([]executor.Instance, error) { return e.next.List(ctx) }

func (e Engine) Ready(ctx context.Context, in executor.Instance) error { return e.next.Ready(ctx, in) }

func (e Engine) Tail(ctx context.Context, r executor.Ref, n int) (lines []string, err error) {
	err = power(e, func(l executor.LogReader) error {
		lines, err = l.Tail(ctx, r, n)
		return err
	})
	return lines, err
}

func (e Engine) Watch(ctx context.Context, ready func(), fn func(executor.Event)) error {
	return power(e, func(w executor.Watcher) error { return w.Watch(ctx, ready, fn) })
}

func (e Engine) Describe(ctx context.Context) (f executor.Facts, err error) {
	err = power(e, func(d executor.Describer) error {
		f, err = d.Describe(ctx)
		return err
	})
	return f, err
}

// power uses what the engine inside can beyond the port. executor.As keeps callers from asking for what it cannot.
func power[T any](e Engine, use func(T) error) error {
	p, ok := executor.As[T](e.next)
	if !ok {
		return fault.New(fault.Unsupported, "this runtime cannot do that")
	}
	return use(p)
}
