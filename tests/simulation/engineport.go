package simulation

import (
	"context"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
)

// enginePort is an engine as the running thread sees it.
type enginePort struct {
	w *world
	e simulatedEngine
	// after is called behind each change, and made behind each container.
	after func()
	made  func(executor.Ref)
}

// simulatedEngine is an executor with all its powers but events, which the simulator delivers itself.
type simulatedEngine interface {
	executor.Executor
	executor.Pauser
	executor.LogReader
}

var _ simulatedEngine = enginePort{}

// call is one use of an engine by a thread: others may run before it and after it, and the process may crash at either point, so that both
// "not done" and "done, but the caller does not know" are tried.
func call[T any](t *thread, name string, do func() (T, error)) (T, error) {
	t.yield()
	v, err := do()
	if err != nil {
		t.w.say(t.proc.name, "%s: %v", name, err)
	}
	t.yield()
	return v, err
}

func act(t *thread, name string, do func() error) error {
	_, err := call(t, name, func() (struct{}, error) { return struct{}{}, do() })
	return err
}

func (p enginePort) change(name string, do func() error) error {
	return act(p.w.current, name, func() error {
		err := do()
		p.after()
		p.spring(name)
		return err
	})
}

func (p enginePort) EngineID(ctx context.Context) (string, error) { return p.e.EngineID(ctx) }

func (p enginePort) EnsureImage(ctx context.Context, img executor.Image, progress func(string)) error {
	var told []string
	err := act(p.w.current, "EnsureImage", func() error {
		return p.e.EnsureImage(ctx, img, func(s string) { told = append(told, s) })
	})
	for _, s := range told {
		progress(s)
	}
	return err
}

// spring lets happen what was prepared for the moment after a change that is told to the store next.
func (p enginePort) spring(name string) {
	proc := p.w.current.proc
	if trap := proc.trap; trap != nil && (name == "Start" || name == "Pause" || name == "Unpause") {
		proc.trap = nil
		trap()
	}
}

// slow is a change that takes long now and then, before or after it is done. Kills do not.
func (p enginePort) slow(name string, do func() error) error {
	t := p.w.current
	pause := func() {
		if p.w.oneIn(30) {
			t.sleep(p.w.between(50*time.Millisecond, 4*time.Second), nil)
		}
	}
	pause()
	err := p.change(name, do)
	pause()
	return err
}

func (p enginePort) Create(ctx context.Context, plan executor.Plan) error {
	return p.slow("Create", func() error {
		err := p.e.Create(ctx, plan)
		if err == nil {
			p.made(plan.Ref)
		}
		return err
	})
}

func (p enginePort) Start(ctx context.Context, plan executor.Plan) error {
	return p.slow("Start", func() error { return p.e.Start(ctx, plan) })
}

func (p enginePort) Inspect(ctx context.Context, id sandbox.ID) (executor.Instance, error) {
	p.w.current.yield()
	return p.e.Inspect(ctx, id)
}

func (p enginePort) List(ctx context.Context) ([]executor.Instance, error) {
	return call(p.w.current, "List", func() ([]executor.Instance, error) { return p.e.List(ctx) })
}

func (p enginePort) Ready(ctx context.Context, in executor.Instance) error {
	p.w.current.yield()
	return p.e.Ready(ctx, in)
}

func (p enginePort) Kill(ctx context.Context, r executor.Ref) error {
	return p.change("Kill", func() error { return p.e.Kill(ctx, r) })
}

func (p enginePort) Remove(ctx context.Context, r executor.Ref) error {
	return p.slow("Remove", func() error { return p.e.Remove(ctx, r) })
}

func (p enginePort) Pause(ctx context.Context, r executor.Ref) error {
	return p.slow("Pause", func() error { return p.e.Pause(ctx, r) })
}

func (p enginePort) Unpause(ctx context.Context, r executor.Ref) error {
	return p.slow("Unpause", func() error { return p.e.Unpause(ctx, r) })
}

func (p enginePort) Tail(ctx context.Context, r executor.Ref, n int) ([]string, error) {
	return p.e.Tail(ctx, r, n)
}
