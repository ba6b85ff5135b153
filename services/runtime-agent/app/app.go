// Package app is the runtime agent as a part that a program is wired from: it drives one container engine to what the store says.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/steploop"
	"opensandbox/services/runtime-agent/internal/beat"
	"opensandbox/services/runtime-agent/internal/converge"
	"opensandbox/services/runtime-agent/internal/enginewatch"
	"opensandbox/services/runtime-agent/internal/mirror"
	"opensandbox/services/runtime-agent/internal/worker"
)

// Config of an agent.
type Config struct {
	// Node is the name of this node.
	Node string
	// StateDir holds the lock of the node and the mirror of its records.
	StateDir string
	// Capacity and MaxSandboxes bound what is placed here; zero means no bound.
	Capacity     sandbox.Resources
	MaxSandboxes int
	// PortMin and PortMax bound the leased ports, both inclusive.
	PortMin, PortMax int
	// Concurrency bounds the creates and removals that run at once; 0 takes DefaultConcurrency.
	Concurrency int
	// RetainFailed is how long a failed create is shown.
	RetainFailed time.Duration
	// ReadyTimeout bounds the wait for the daemon inside a started sandbox; 0 takes 30 s.
	ReadyTimeout time.Duration
}

// Store is what an agent needs of the store.
type Store interface {
	sandbox.Observations
	sandbox.Queries
	sandbox.Hints
	node.Registry
}

// Deps of an agent.
type Deps struct {
	Store    Store
	Executor executor.Executor
	// Token returns the access token of an incarnation.
	Token func(id sandbox.ID, epoch uint64) string
	Log   *slog.Logger
}

// DefaultConcurrency is how many creates and removals run at once by default: the engine's rate does not rise beyond four for each
// processor, while each single one takes longer.
func DefaultConcurrency() int { return 4 * runtime.NumCPU() }

// Agent drives one engine. Use Start.
type Agent struct {
	cfg    Config
	deps   Deps
	lock   *os.File
	node   node.Node
	conv   *converge.Converger
	worker *worker.Worker
	watch  *enginewatch.Watch
	mirror *mirror.Mirror
}

// Start takes the node: it locks the state directory, finds out which engine this is and registers. The caller must Run it, or
// Close it.
func Start(ctx context.Context, cfg Config, deps Deps) (*Agent, error) {
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = DefaultConcurrency()
	}
	if cfg.ReadyTimeout <= 0 {
		cfg.ReadyTimeout = 30 * time.Second
	}
	a := &Agent{cfg: cfg, deps: deps}
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

func (a *Agent) start(ctx context.Context) error {
	engine, err := a.deps.Executor.EngineID(ctx)
	if err != nil {
		return fmt.Errorf("ask the container engine who it is: %w", err)
	}
	a.node, err = a.deps.Store.Register(ctx, node.Registration{
		Name: a.cfg.Node, EngineID: engine, Capacity: a.cfg.Capacity, MaxSandboxes: a.cfg.MaxSandboxes,
		PortMin: a.cfg.PortMin, PortMax: a.cfg.PortMax, TakeOver: true,
	})
	if err != nil {
		return fmt.Errorf("register node %q: %w", a.cfg.Node, err)
	}
	if a.mirror, err = mirror.Open(filepath.Join(a.cfg.StateDir, "mirror"), a.cfg.Node, a.deps.Store); err != nil {
		return err
	}
	a.conv = converge.New(convergeConfig(a.cfg, a.deps, a.node.Session), converge.Deps{
		Store: a.deps.Store, Executor: a.deps.Executor, Gate: converge.NewTurns(a.cfg.Concurrency), GiveUp: worker.GiveUp(a.deps.Store), Cleaned: a.unmirror,
	})
	a.worker = worker.New(a.cfg.Node, a.conv, a.deps.Store, a.deps.Log)
	watcher, _ := a.deps.Executor.(executor.Watcher)
	a.watch = enginewatch.New(watcher, a.worker, a.conv, converge.NewComparer(a.conv), a.deps.Log)
	return nil
}

// unmirror takes a sandbox of which nothing is left out of the mirror. A file that stays is found at the next start.
func (a *Agent) unmirror(id sandbox.ID) {
	if err := a.mirror.Remove(id); err != nil {
		a.deps.Log.Warn("cannot remove from the mirror", "sandbox", id, "error", err)
	}
}

func convergeConfig(cfg Config, deps Deps, session uint64) converge.Config {
	return converge.Config{
		Node: cfg.Node, Session: session, RetainFailed: cfg.RetainFailed, ReadyTimeout: cfg.ReadyTimeout,
		PortMin: cfg.PortMin, PortMax: cfg.PortMax, Token: deps.Token, Log: deps.Log,
	}
}

// EngineAway reports whether the engine could not be reached when it was last tried.
func (a *Agent) EngineAway() bool { return a.watch.Away() }

// Part is one of the blocking functions that make up an agent.
type Part struct {
	Name string
	Run  func(context.Context) error
}

// Parts returns what has to run, in the order in which to start it. Each returns nil after its context has ended; an error means
// that the agent must stop.
func (a *Agent) Parts() []Part {
	compare := steploop.Loop{Name: "compare", Step: a.watch.Step, Hint: a.watch.Hint(), MaxSleep: enginewatch.CompareEvery, Backoff: time.Second, Log: a.deps.Log}
	mirrored := steploop.Loop{Name: "mirror", Step: a.mirror.Step, MaxSleep: mirror.Interval, Log: a.deps.Log}
	lease := beat.Beat{Registry: a.deps.Store, Node: a.node.Name, Session: a.node.Session, Log: a.deps.Log}
	return []Part{
		{"agent lease", lease.Run},
		{"agent mirror", mirrored.Run},
		{"agent worker", a.worker.Run},
		{"agent compare", compare.Run},
		{"agent engine watch", a.watch.Run},
	}
}

// Close gives the state directory back. The parts must have ended.
func (a *Agent) Close() {
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
