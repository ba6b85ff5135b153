package app

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/steploop"
	"opensandbox/services/runtime-agent/internal/beat"
	"opensandbox/services/runtime-agent/internal/converge"
)

// renewedFile holds when the lease of the node was last renewed, for an agent that is started while the store is away.
const renewedFile = "renewed.json"

// renewal is a moment by the time since boot, which goes on while no agent runs and which nobody sets.
type renewal struct {
	Boot string `json:"bootId"`
	// Up is the time since boot at which the renewal was sent.
	Up time.Duration `json:"sinceBootNanoseconds"`
}

// noteEvery is how often the last renewal is written down. A note that is older than the renewal makes the next agent act earlier by so much.
const noteEvery = 3 * time.Second

// noter writes the last renewal down when it is a new one.
type noter struct {
	path  string
	lease *converge.Lease
	clock func() time.Time
	boot  func() (string, time.Duration)
	noted time.Time
}

// Step has the shape of a loop's step. It must not be called concurrently.
func (n *noter) Step(context.Context) (time.Time, error) {
	sent := n.lease.Sent()
	if sent.Equal(n.noted) {
		return time.Time{}, nil
	}
	id, up := n.boot()
	err := writeJSON(n.path, renewal{Boot: id, Up: up - n.clock().Sub(sent)})
	if err == nil {
		n.noted = sent
	}
	return time.Time{}, err
}

// lastRenewal returns when the last renewal that this directory knows of was sent, by the clock of the lease. Without a note, or with one from
// before the machine was started, it is now: the lease counts from this start of the agent. The containers have stopped with the machine, and
// none of ours has a restart policy, so there is nothing that could have run on all the time.
func (a *Agent) lastRenewal() (time.Time, error) {
	now := a.clock()
	b, err := os.ReadFile(filepath.Join(a.cfg.StateDir, renewedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return now, nil
	}
	var r renewal
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	id, up := a.deps.Boot()
	if err != nil || r.Boot == "" || r.Boot != id {
		return now, err
	}
	return now.Add(-max(0, up-r.Up)), nil
}

// takeUp begins the lease where the last agent left it.
func (a *Agent) takeUp(ctx context.Context) {
	sent, err := a.lastRenewal()
	if err != nil {
		a.deps.Log.WarnContext(ctx, "the note of the last renewal cannot be read; the lease counts from now on", "error", err)
	}
	a.lease = converge.NewLease(a.cfg.NodeLostAfter, sent)
	a.note = noter{path: filepath.Join(a.cfg.StateDir, renewedFile), lease: a.lease, clock: a.clock, boot: a.deps.Boot}
}

// WhileAway calls open, which waits for the store, and until it returns sees to it that what runs on this node is stopped when the node has
// been cut off for too long, counted from the last renewal of an earlier agent. The store of d is not used. It takes the state directory for
// that time, and fails if another agent has it.
func WhileAway(ctx context.Context, cfg Config, d Deps, open func(context.Context) error) error {
	a := newAgent(cfg, d)
	a.engine = d.Executor
	var err error
	if a.lock, err = lockDir(cfg.StateDir); err != nil {
		return err
	}
	defer a.Close()
	a.takeUp(ctx)
	return a.guarded(ctx, open)
}

// guarded calls do, and applies the rule of a node that is cut off at once and until do returns.
func (a *Agent) guarded(ctx context.Context, do func(context.Context) error) error {
	if a.cfg.NodeLostAfter == 0 {
		return do(ctx)
	}
	was, err := wasStopped(a.cfg.StateDir)
	if err != nil {
		a.deps.Log.WarnContext(ctx, "the note of what was stopped cannot be read; it is ignored", "error", err)
	}
	conv := converge.New(converge.Config{Node: a.cfg.Node, Lease: a.lease, Clock: a.clock, Log: a.deps.Log}, converge.Deps{
		Executor: a.engine, Each: sideBySide, WasStopped: was,
		Stopped: func(refs []executor.Ref) error { return noteStopped(a.cfg.StateDir, refs) },
	})
	if err := conv.CutOff(ctx, a.clock()); err != nil {
		a.deps.Log.WarnContext(ctx, "cannot stop the sandboxes of a node that is cut off; trying on", "error", err)
	}
	look := beat.Guard{CutOff: conv.CutOff, Clock: a.clock}
	guard := steploop.Loop{Name: "cut-off", Step: look.Step, MaxSleep: beat.GuardEvery, Backoff: beat.GuardEvery, Log: a.deps.Log}
	guarding, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = guard.Run(guarding) }) // it returns nil, after its context has ended
	defer running.Wait()
	defer stop()
	return do(ctx)
}

// registerRetry is the pause between two attempts to register with a store that is away.
const registerRetry = time.Second

// keepRegistering registers as soon as the store can be reached. Only a store that others use can be away.
func (a *Agent) keepRegistering(ctx context.Context, facts executor.Facts) (n node.Node, err error) {
	err = a.guarded(ctx, func(ctx context.Context) error {
		for told := false; ; told = true {
			sent := a.clock()
			n, err = a.register(ctx, facts)
			if err == nil {
				a.lease.Renewed(sent)
				return nil
			}
			if a.cfg.NodeLostAfter == 0 || ctx.Err() != nil || !fault.Is(err, fault.Unavailable) {
				return err
			}
			if !told {
				a.deps.Log.WarnContext(ctx, "cannot register the node; trying on", "node", a.cfg.Node, "error", err)
			}
			select {
			case <-ctx.Done():
				return err
			case <-time.After(registerRetry):
			}
		}
	})
	return n, err
}
