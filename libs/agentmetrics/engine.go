package agentmetrics

import (
	"context"
	"errors"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// StartSpan begins a span below that of ctx, and returns the function that ends it with the outcome. Without a span in ctx it begins none.
type StartSpan func(ctx context.Context, name string) (context.Context, func(error))

// engineOutcome returns the label for the error of an engine call, of a closed set.
func engineOutcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	switch fault.KindOf(err) {
	case fault.NotFound:
		return "notfound"
	case fault.Conflict:
		return "conflict"
	case fault.Invalid:
		return "invalid"
	case fault.Unavailable:
		return "unavailable"
	}
	return "error"
}

// Engine returns next with its calls measured, and with a span for each that is made under one; span may be nil. What next can beyond the
// port is found with executor.As. Watch is not measured: it lasts as long as the agent does.
func (m *Metrics) Engine(next executor.Executor, span StartSpan) executor.Executor {
	if m == nil && span == nil {
		return next
	}
	if span == nil {
		span = func(ctx context.Context, _ string) (context.Context, func(error)) { return ctx, func(error) {} }
	}
	return engine{next, m, span}
}

func (m *Metrics) called(operation string, began time.Time, err error) {
	if m != nil {
		m.engine.WithLabelValues(operation, engineOutcome(err)).Observe(time.Since(began).Seconds())
	}
}

// engine observes an Executor. It has the methods of all powers, as executor.As wants it.
type engine struct {
	executor.Executor
	m    *Metrics
	span StartSpan
}

var (
	_ executor.Pauser    = engine{}
	_ executor.LogReader = engine{}
	_ executor.Watcher   = engine{}
	_ executor.Describer = engine{}
)

// Unwrap returns what is observed.
func (e engine) Unwrap() executor.Executor { return e.Executor }

// observe makes one call.
func observe[T any](ctx context.Context, e engine, operation string, call func(context.Context) (T, error)) (T, error) {
	began := time.Now()
	ctx, end := e.span(ctx, "engine "+operation)
	out, err := call(ctx)
	end(err)
	e.m.called(operation, began, err)
	return out, err
}

func (e engine) act(ctx context.Context, operation string, call func(context.Context) error) error {
	_, err := observe(ctx, e, operation, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

func (e engine) EngineID(ctx context.Context) (string, error) {
	return observe(ctx, e, "engine_id", e.Executor.EngineID)
}

func (e engine) EnsureImage(ctx context.Context, img executor.Image, progress func(string)) error {
	return e.act(ctx, "ensure_image", func(ctx context.Context) error { return e.Executor.EnsureImage(ctx, img, progress) })
}

func (e engine) Create(ctx context.Context, p executor.Plan) error {
	return e.act(ctx, "create", func(ctx context.Context) error { return e.Executor.Create(ctx, p) })
}

func (e engine) Start(ctx context.Context, p executor.Plan) error {
	return e.act(ctx, "start", func(ctx context.Context) error { return e.Executor.Start(ctx, p) })
}

func (e engine) Inspect(ctx context.Context, id sandbox.ID) (executor.Instance, error) {
	return observe(ctx, e, "inspect", func(ctx context.Context) (executor.Instance, error) { return e.Executor.Inspect(ctx, id) })
}

func (e engine) List(ctx context.Context) ([]executor.Instance, error) {
	return observe(ctx, e, "list", e.Executor.List)
}

func (e engine) Ready(ctx context.Context, in executor.Instance) error {
	began := time.Now()
	err := e.Executor.Ready(ctx, in)
	if fault.Is(err, fault.Unavailable) {
		return err // "not yet", asked many times in each create; the stage "ready" has the time
	}
	e.m.called("ready", began, err)
	return err
}

func (e engine) Kill(ctx context.Context, r executor.Ref) error {
	return e.act(ctx, "kill", func(ctx context.Context) error { return e.Executor.Kill(ctx, r) })
}

func (e engine) Remove(ctx context.Context, r executor.Ref) error {
	return e.act(ctx, "remove", func(ctx context.Context) error { return e.Executor.Remove(ctx, r) })
}

func (e engine) Pause(ctx context.Context, r executor.Ref) error {
	return power(e, func(p executor.Pauser) error {
		return e.act(ctx, "pause", func(ctx context.Context) error { return p.Pause(ctx, r) })
	})
}

func (e engine) Unpause(ctx context.Context, r executor.Ref) error {
	return power(e, func(p executor.Pauser) error {
		return e.act(ctx, "unpause", func(ctx context.Context) error { return p.Unpause(ctx, r) })
	})
}

func (e engine) Tail(ctx context.Context, r executor.Ref, n int) (lines []string, err error) {
	err = power(e, func(l executor.LogReader) error {
		lines, err = observe(ctx, e, "tail", func(ctx context.Context) ([]string, error) { return l.Tail(ctx, r, n) })
		return err
	})
	return lines, err
}

func (e engine) Watch(ctx context.Context, ready func(), fn func(executor.Event)) error {
	return power(e, func(w executor.Watcher) error { return w.Watch(ctx, ready, fn) })
}

func (e engine) Describe(ctx context.Context) (f executor.Facts, err error) {
	err = power(e, func(d executor.Describer) error {
		f, err = observe(ctx, e, "describe", d.Describe)
		return err
	})
	return f, err
}

// power uses what the engine inside can beyond the port. executor.As keeps callers from asking for what it cannot.
func power[T any](e engine, use func(T) error) error {
	p, ok := executor.As[T](e.Executor)
	if !ok {
		return fault.New(fault.Unsupported, "this runtime cannot do that")
	}
	return use(p)
}
