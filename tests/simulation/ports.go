package simulation

import (
	"context"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// fullStore is all that the control plane needs of a store.
type fullStore interface {
	sandbox.Store
	node.Registry
}

// call is one use of a port by a thread: others may run before it and after it, and the process may crash at either point, so that
// both "not done" and "done, but the caller does not know" are tried.
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

// storePort is the store as the running thread sees it.
type storePort struct {
	w *world
	s fullStore
	// after is called behind each write, to check what must always hold.
	after func()
}

var _ fullStore = storePort{}

func write[T any](p storePort, name string, do func() (T, error)) (T, error) {
	return call(p.w.current, name, func() (T, error) {
		v, err := do()
		p.after()
		return v, err
	})
}

func (p storePort) Insert(ctx context.Context, n sandbox.New) (sandbox.Record, error) {
	return write(p, "Insert", func() (sandbox.Record, error) { return p.s.Insert(ctx, n) })
}

func (p storePort) Accept(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return write(p, "Accept", func() (sandbox.Record, error) { return p.s.Accept(ctx, id) })
}

func (p storePort) SetDesired(ctx context.Context, id sandbox.ID, d sandbox.Desired, g uint64) (sandbox.Record, error) {
	return write(p, "SetDesired", func() (sandbox.Record, error) { return p.s.SetDesired(ctx, id, d, g) })
}

func (p storePort) SetGone(ctx context.Context, id sandbox.ID, reason string) (sandbox.Record, error) {
	return write(p, "SetGone", func() (sandbox.Record, error) { return p.s.SetGone(ctx, id, reason) })
}

func (p storePort) Renew(ctx context.Context, id sandbox.ID, at time.Time) (sandbox.Record, error) {
	return write(p, "Renew", func() (sandbox.Record, error) { return p.s.Renew(ctx, id, at) })
}

func (p storePort) PatchMetadata(ctx context.Context, id sandbox.ID, m map[string]*string) (sandbox.Record, error) {
	return write(p, "PatchMetadata", func() (sandbox.Record, error) { return p.s.PatchMetadata(ctx, id, m) })
}

func (p storePort) Unplaced(ctx context.Context, max int) ([]sandbox.Record, error) {
	return call(p.w.current, "Unplaced", func() ([]sandbox.Record, error) { return p.s.Unplaced(ctx, max) })
}

func (p storePort) Place(ctx context.Context, r sandbox.PlaceRequest) (sandbox.Record, error) {
	return write(p, "Place", func() (sandbox.Record, error) { return p.s.Place(ctx, r) })
}

func (p storePort) FailUnplaced(ctx context.Context, id sandbox.ID, f sandbox.Failure) (sandbox.Record, error) {
	return write(p, "FailUnplaced", func() (sandbox.Record, error) { return p.s.FailUnplaced(ctx, id, f) })
}

func (p storePort) ExpireDue(ctx context.Context, notAfter time.Time, max int) ([]sandbox.ID, error) {
	return write(p, "ExpireDue", func() ([]sandbox.ID, error) { return p.s.ExpireDue(ctx, notAfter, max) })
}

func (p storePort) NextDeadline(ctx context.Context) (time.Time, bool, error) {
	p.w.current.yield()
	return p.s.NextDeadline(ctx)
}

func (p storePort) Attention(ctx context.Context, max int) ([]sandbox.Record, time.Time, error) {
	p.w.current.yield()
	return p.s.Attention(ctx, max)
}

func (p storePort) Purge(ctx context.Context, age time.Duration, max int) (int, error) {
	return p.s.Purge(ctx, age, max)
}

func (p storePort) Work(ctx context.Context, n string, max int) ([]sandbox.ID, error) {
	return call(p.w.current, "Work", func() ([]sandbox.ID, error) { return p.s.Work(ctx, n, max) })
}

func (p storePort) OnNode(ctx context.Context, n string) ([]sandbox.Record, error) {
	return call(p.w.current, "OnNode", func() ([]sandbox.Record, error) { return p.s.OnNode(ctx, n) })
}

func (p storePort) Report(ctx context.Context, r sandbox.Report) (sandbox.Record, error) {
	return write(p, "Report", func() (sandbox.Record, error) { return p.s.Report(ctx, r) })
}

func (p storePort) SwapPort(ctx context.Context, s sandbox.PortSwap) (sandbox.Record, error) {
	return write(p, "SwapPort", func() (sandbox.Record, error) { return p.s.SwapPort(ctx, s) })
}

func (p storePort) Cleaned(ctx context.Context, c sandbox.Cleaned) error {
	_, err := write(p, "Cleaned", func() (struct{}, error) { return struct{}{}, p.s.Cleaned(ctx, c) })
	return err
}

func (p storePort) Unmirrored(ctx context.Context, n string, max int) ([]sandbox.Record, error) {
	return p.s.Unmirrored(ctx, n, max)
}

func (p storePort) Mirrored(ctx context.Context, n string, v map[sandbox.ID]uint64) error {
	return p.s.Mirrored(ctx, n, v)
}

func (p storePort) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	p.w.current.yield()
	return p.s.Get(ctx, id)
}

func (p storePort) List(ctx context.Context, q sandbox.Query) (sandbox.Page, error) {
	p.w.current.yield()
	return p.s.List(ctx, q)
}

func (p storePort) Incarnation(ctx context.Context) (time.Time, error) { return p.s.Incarnation(ctx) }
func (p storePort) Now(ctx context.Context) (time.Time, error)         { return p.s.Now(ctx) }

func (p storePort) Subscribe(topic sandbox.Topic) (<-chan struct{}, func()) {
	return p.s.Subscribe(topic)
}

func (p storePort) Register(ctx context.Context, r node.Registration) (node.Node, error) {
	return write(p, "Register", func() (node.Node, error) { return p.s.Register(ctx, r) })
}

func (p storePort) RenewLease(ctx context.Context, name string, session uint64) error {
	return act(p.w.current, "RenewLease", func() error { return p.s.RenewLease(ctx, name, session) })
}

func (p storePort) Release(ctx context.Context, name string, session uint64) error {
	return act(p.w.current, "Release", func() error { return p.s.Release(ctx, name, session) })
}

func (p storePort) SetDraining(ctx context.Context, name string, on bool) error {
	return act(p.w.current, "SetDraining", func() error { return p.s.SetDraining(ctx, name, on) })
}

func (p storePort) Nodes(ctx context.Context) ([]node.Node, error) {
	p.w.current.yield()
	return p.s.Nodes(ctx)
}

// enginePort is an engine as the running thread sees it.
type enginePort struct {
	w *world
	e simulatedEngine
	// after is called behind each change.
	after func()
}

// simulatedEngine is an executor with all its powers but events, which the simulator delivers itself.
type simulatedEngine interface {
	executor.Executor
	executor.Pauser
	executor.LogReader
}

var _ simulatedEngine = enginePort{}

func (p enginePort) change(name string, do func() error) error {
	return act(p.w.current, name, func() error {
		err := do()
		p.after()
		return err
	})
}

func (p enginePort) EngineID(ctx context.Context) (string, error) { return p.e.EngineID(ctx) }

func (p enginePort) EnsureImage(ctx context.Context, img string, progress func(string)) error {
	var told []string
	err := act(p.w.current, "EnsureImage", func() error {
		return p.e.EnsureImage(ctx, img, func(s string) { told = append(told, s) })
	})
	for _, s := range told {
		progress(s)
	}
	return err
}

func (p enginePort) Create(ctx context.Context, plan executor.Plan) error {
	return p.change("Create", func() error { return p.e.Create(ctx, plan) })
}

func (p enginePort) Start(ctx context.Context, plan executor.Plan) error {
	return p.change("Start", func() error { return p.e.Start(ctx, plan) })
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
	return p.change("Remove", func() error { return p.e.Remove(ctx, r) })
}

func (p enginePort) Pause(ctx context.Context, r executor.Ref) error {
	return p.change("Pause", func() error { return p.e.Pause(ctx, r) })
}

func (p enginePort) Unpause(ctx context.Context, r executor.Ref) error {
	return p.change("Unpause", func() error { return p.e.Unpause(ctx, r) })
}

func (p enginePort) Tail(ctx context.Context, r executor.Ref, n int) ([]string, error) {
	return p.e.Tail(ctx, r, n)
}
