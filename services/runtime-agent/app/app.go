// Package app is the runtime agent as a part that a program is wired from: it drives one container engine to what the store says.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"opensandbox/libs/agentmetrics"
	"opensandbox/libs/executor"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/steploop"
	"opensandbox/libs/telemetry"
	"opensandbox/libs/wakeup"
	"opensandbox/services/runtime-agent/internal/beat"
	"opensandbox/services/runtime-agent/internal/converge"
	"opensandbox/services/runtime-agent/internal/enginewatch"
	"opensandbox/services/runtime-agent/internal/history"
	"opensandbox/services/runtime-agent/internal/inventory"
	"opensandbox/services/runtime-agent/internal/mirror"
	"opensandbox/services/runtime-agent/internal/recovery"
	"opensandbox/services/runtime-agent/internal/worker"
)

// Config of an agent.
type Config struct {
	// Node is the name of this node.
	Node string
	// StateDir holds the lock of the node, the notes of its last registration and its last renewal, and the mirror of its records.
	StateDir string
	// Host is where clients reach the leased ports; empty: the host of the server. Address is host:port of the internal HTTP API; empty: none.
	Host, Address string
	// Labels are facts about the node that a placement may ask for.
	Labels map[string]string
	// Capacity and MaxSandboxes bound what is placed here; zero means no bound.
	Capacity     sandbox.Resources
	MaxSandboxes int
	// PortMin and PortMax bound the leased ports, both inclusive.
	PortMin, PortMax int
	// Concurrency bounds the creates and removals that run at once; 0 takes four for each processor of the engine's machine.
	Concurrency int
	// RetainFailed is how long a failed create is shown.
	RetainFailed time.Duration
	// ReadyTimeout bounds the wait for the daemon inside a started sandbox; 0 takes 30 s.
	ReadyTimeout time.Duration
	// NodeLostAfter is how long this node may be unreachable before the scheduler gives its sandboxes up: the agent stops them shortly before.
	// 0 means that the store belongs to this process alone, so that nobody else can give anything up, or be the agent of the node.
	NodeLostAfter time.Duration
}

// Store is what an agent needs of the store.
type Store interface {
	sandbox.Observations
	sandbox.Secrets
	sandbox.Queries
	sandbox.Recoveries
	sandbox.Hints
	node.Registry
}

// Deps of an agent.
type Deps struct {
	Store    Store
	Executor executor.Executor
	// Token returns the access token of an incarnation.
	Token func(id sandbox.ID, epoch uint64) string
	// Unseal opens what travels sealed beside a record; nil: sandboxes with credentials for a registry fail here.
	Unseal func(id sandbox.ID, sealed []byte) ([]byte, error)
	Log    *slog.Logger
	// Registry takes the metrics, and Tracers the spans; nil: there are none.
	Registry prometheus.Registerer
	Tracers  trace.TracerProvider
	// Memory is what the node remembers of the store by itself; nil: the state directory.
	Memory Memory
	// Clock is what the age of the lease is measured by; nil takes the time since boot.
	Clock func() time.Time
	// Boot returns which start of the machine this is, and the time since then, suspension included; nil asks the kernel.
	Boot func() (id string, up time.Duration)
}

// defaultConcurrency is how many creates and removals run at once by default: the engine's rate does not rise beyond four for each
// processor, while each single one takes longer.
func defaultConcurrency(of executor.Facts) int {
	if of.CPUs > 0 {
		return 4 * of.CPUs
	}
	return 4 * runtime.NumCPU()
}

// Agent drives one engine. Use Start.
type Agent struct {
	cfg       Config
	deps      Deps
	lock      *os.File
	node      node.Node
	engineID  string
	engine    executor.Executor
	clock     func() time.Time
	lease     *converge.Lease
	note      noter
	conv      *converge.Converger
	worker    *worker.Worker
	watch     *enginewatch.Watch
	mirror    *mirror.Mirror
	recovery  *recovery.Guard
	inventory *inventory.Inventory
	history   history.History
}

// Start takes the node: it locks the state directory, finds out which engine this is and registers. It waits for a store that is away, and
// stops what runs here if that is for too long. The caller must run its Parts, and Close it.
func Start(ctx context.Context, cfg Config, deps Deps) (*Agent, error) {
	if cfg.ReadyTimeout <= 0 {
		cfg.ReadyTimeout = 30 * time.Second
	}
	a := newAgent(cfg, deps)
	var err error
	if a.lock, err = lockDir(cfg.StateDir); err != nil {
		return nil, err
	}
	if err := a.start(ctx); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func newAgent(cfg Config, deps Deps) *Agent {
	if deps.Boot == nil {
		deps.Boot = boots
	}
	a := &Agent{cfg: cfg, deps: deps, clock: deps.Clock}
	if a.clock == nil {
		a.clock = sinceBoot()
	}
	return a
}

func (a *Agent) start(ctx context.Context) error {
	metrics, err := agentmetrics.New(a.deps.Registry)
	if err != nil {
		return err
	}
	work := telemetry.Work(a.deps.Tracers)
	a.engine = metrics.Engine(a.deps.Executor, func(ctx context.Context, name string) (context.Context, func(error)) { return work(ctx, "", name) })
	if a.engineID, err = a.engine.EngineID(ctx); err != nil {
		return fmt.Errorf("ask the container engine who it is: %w", err)
	}
	facts, err := describe(ctx, a.engine)
	if err != nil {
		return fmt.Errorf("ask the container engine what it has: %w", err)
	}
	if a.cfg.Concurrency <= 0 {
		a.cfg.Concurrency = defaultConcurrency(facts)
	}
	a.takeUp(ctx)
	if a.deps.Memory == nil {
		a.deps.Memory = disk{a.cfg.StateDir}
	}
	a.recovery = recovery.New(recovery.Config{Node: a.cfg.Node, RetainFailed: a.cfg.RetainFailed, Clock: a.clock, Log: a.deps.Log}, a.deps.Store, a.engine, a.deps.Memory)
	if a.node, err = a.keepRegistering(ctx, facts); err != nil {
		return err
	}
	a.recovery.Registered(a.node.Session)
	if _, err := a.recovery.Step(ctx); err != nil {
		a.deps.Log.WarnContext(ctx, "cannot tell the store what this node has; trying on", "error", err) // until then nothing of it is touched
	}
	if _, err := a.note.Step(ctx); err != nil {
		a.deps.Log.WarnContext(ctx, "cannot note the renewal of the lease", "error", err)
	}
	if a.mirror, err = mirror.Open(mirrorDir(a.cfg.StateDir), a.cfg.Node, a.deps.Store, a.recovery.Believes); err != nil {
		return err
	}
	cfg := convergeConfig(a.cfg, a.deps, a.node.Session)
	cfg.Lease, cfg.Clock = a.lease, a.clock
	news := &wakeup.Hub{}
	deps := converge.Deps{
		Store: a.deps.Store, Executor: a.engine, Gate: metrics.Gate(converge.NewTurns(a.cfg.Concurrency)), GiveUp: worker.GiveUp(a.deps.Store, news),
		Cleaned: a.cleaned, Each: sideBySide, Observe: metrics, Work: converge.StartWork(work), Recovery: a.recovery,
	}
	deps.Stopped = func(refs []executor.Ref) error { return noteStopped(a.cfg.StateDir, refs) }
	if deps.WasStopped, err = wasStopped(a.cfg.StateDir); err != nil {
		a.deps.Log.WarnContext(ctx, "the note of what was stopped cannot be read; it is ignored", "error", err)
	}
	if d, ok := executor.As[executor.Describer](a.engine); ok {
		a.inventory = inventory.New(d, a.deps.Store, a.cfg.Node, a.node.Session)
		deps.Pulled = a.inventory.Pulled
	}
	a.conv = converge.New(cfg, deps)
	a.worker = worker.New(a.cfg.Node, a.conv, a.deps.Store, metrics, news, a.deps.Log)
	watcher, _ := executor.As[executor.Watcher](a.engine)
	a.watch = enginewatch.New(watcher, a.worker, a.conv, converge.NewComparer(a.conv), &a.history, a.deps.Log)
	return nil
}

// describe returns the facts of an engine that can tell them.
func describe(ctx context.Context, e executor.Executor) (executor.Facts, error) {
	d, ok := executor.As[executor.Describer](e)
	if !ok {
		return executor.Facts{}, nil
	}
	return d.Describe(ctx)
}

// sideBySide calls do for 0 to n-1 at once and waits for all. The calls wait for their turns inside.
func sideBySide(n int, do func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { do(i) })
	}
	all.Wait()
}

// cleaned forgets a sandbox of which nothing is left. An entry of the mirror that stays is found at the next start.
func (a *Agent) cleaned(id sandbox.ID) {
	a.recovery.Cleaned(id)
	if err := a.mirror.Remove(id); err != nil {
		a.deps.Log.Warn("cannot remove from the mirror", "sandbox", id, "error", err)
	}
}

func convergeConfig(cfg Config, deps Deps, session uint64) converge.Config {
	return converge.Config{
		Node: cfg.Node, Session: session, RetainFailed: cfg.RetainFailed, ReadyTimeout: cfg.ReadyTimeout,
		PortMin: cfg.PortMin, PortMax: cfg.PortMax, Token: deps.Token, Unseal: deps.Unseal, Log: deps.Log,
	}
}

// EngineAway reports whether the engine could not be reached when it was last tried.
func (a *Agent) EngineAway() bool { return a.watch.Away() }

// Ready returns nil while the agent reaches its engine and its store, else which of them it does not reach.
func (a *Agent) Ready() error {
	if a.EngineAway() {
		return errors.New("the container engine does not answer")
	}
	if a.clock().Sub(a.lease.Sent()) > node.LeaseTime {
		return errors.New("the store does not answer: the lease of the node is over")
	}
	return nil
}

// Part is one of the blocking functions that make up an agent.
type Part struct {
	Name string
	Run  func(context.Context) error
}

// Parts returns what has to run, in the order in which to start it. Each returns nil after its context has ended; an error means
// that the agent must stop.
func (a *Agent) Parts() []Part {
	log := a.deps.Log
	compare := steploop.Loop{Name: "compare", Step: a.watch.Step, Hint: a.watch.Hint(), MaxSleep: enginewatch.CompareEvery, Backoff: time.Second, Log: log}
	mirrored := steploop.Loop{Name: "mirror", Step: a.mirror.Step, MaxSleep: mirror.Interval, Log: log}
	guard := steploop.Loop{Name: "cut-off", Step: beat.Guard{CutOff: a.conv.CutOff, Clock: a.clock}.Step, MaxSleep: beat.GuardEvery, Backoff: beat.GuardEvery, Log: log}
	note := steploop.Loop{Name: "note of the lease", Step: a.note.Step, MaxSleep: noteEvery, Backoff: noteEvery, Log: log}
	parts := []Part{
		{"agent lease", a.keepLease},
		{"agent note", note.Run},
		{"agent cut-off", guard.Run},
		{"agent mirror", mirrored.Run},
		{"agent recovery", a.keepMark},
		{"agent worker", a.worker.Run},
		{"agent compare", compare.Run},
		{"agent engine watch", a.watch.Run},
	}
	if i := a.inventory; i != nil {
		images := steploop.Loop{Name: "inventory", Step: i.Step, Hint: i.Hint(), MaxSleep: inventory.Every, Backoff: 5 * time.Second, Log: log}
		parts = append(parts, Part{"agent inventory", images.Run})
	}
	return parts
}

// keepMark watches how far the store has come, and notes it on the disk.
func (a *Agent) keepMark(ctx context.Context) error {
	err := steploop.Loop{Name: "recovery", Step: a.recovery.Step, MaxSleep: recovery.Every, Backoff: recovery.Every, Log: a.deps.Log}.Run(ctx)
	a.recovery.Close(context.WithoutCancel(ctx))
	return err
}

// keepLease renews the lease until ctx ends, or until the node is not this process's any more.
func (a *Agent) keepLease(ctx context.Context) error {
	rollCall, cancel := a.deps.Store.Subscribe(sandbox.TopicRollCall)
	defer cancel()
	b := beat.Beat{
		Registry: guardedRegistry{a.deps.Store, a.recovery}, Node: a.node.Name, Session: a.node.Session, Lease: a.lease, RollCall: rollCall, Clock: a.clock, Log: a.deps.Log,
	}
	if err := b.Run(ctx); err != nil {
		return a.dismissed(ctx, err)
	}
	return nil
}

// Close gives the state directory back. The parts must have ended.
func (a *Agent) Close() {
	if a.mirror != nil {
		_ = a.mirror.Close() // every line of it is written at once
		a.mirror = nil
	}
	if a.lock != nil {
		_ = a.lock.Close() // the lock goes with the descriptor
		a.lock = nil
	}
}

// lockDir makes dir and takes the lock in it, which ends with the process however that ends.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "agent.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("state directory %s is in use by another agent: %w", dir, err)
	}
	return f, nil
}
