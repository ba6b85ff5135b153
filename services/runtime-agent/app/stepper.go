package app

import (
	"context"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/converge"
	"opensandbox/services/runtime-agent/internal/recovery"
)

// Disk is what a simulated state directory keeps from one start of the agent to the next.
type Disk struct {
	// Renewed is when the last renewal that succeeded was sent; zero: there was none.
	Renewed time.Time
	// Stopped is what was stopped because the node was cut off, until that is reported.
	Stopped []executor.Ref
}

// Stepper is an agent without its loops, for a simulator that decides what runs when. One value is one start of the agent.
type Stepper struct {
	conv    *converge.Converger
	compare *converge.Comparer
	node    node.Node
	lease   *converge.Lease
	disk    *Disk
	guard   *recovery.Guard
}

// NewStepper registers the node and returns its Stepper. ReadyTimeout must be set. Whatever runs the simulator knows that an earlier start of
// the same node is dead. The lease counts by d.Clock, from the last renewal that disk knows of; before anything else, everything is stopped if
// that was too long ago. A simulator whose store is away is to call NewStepper again, about once a second. d.Memory must be set.
func NewStepper(ctx context.Context, cfg Config, d Deps, disk *Disk) (*Stepper, error) {
	c := convergeConfig(cfg, d, 0)
	c.Lease, c.Clock = converge.NewLease(cfg.NodeLostAfter, disk.Renewed), d.Clock
	stopped := func(refs []executor.Ref) error { disk.Stopped = refs; return nil }
	early := converge.New(c, converge.Deps{Executor: d.Executor, Stopped: stopped, WasStopped: disk.Stopped})
	if err := early.CutOff(ctx, d.Clock()); err != nil {
		d.Log.DebugContext(ctx, "cannot stop the sandboxes of a node that is cut off", "error", err)
	}
	engine, err := d.Executor.EngineID(ctx)
	if err != nil {
		return nil, err
	}
	facts, err := describe(ctx, d.Executor)
	if err != nil {
		return nil, err
	}
	sent := d.Clock()
	guard := recovery.New(recovery.Config{Node: cfg.Node, RetainFailed: cfg.RetainFailed, Clock: d.Clock, Log: d.Log}, d.Store, d.Executor, d.Memory)
	if _, err := guard.Look(ctx); err != nil {
		return nil, err
	}
	r := registration(cfg, engine, facts)
	r.TakeOver = true
	n, err := guardedRegistry{d.Store, guard}.Register(ctx, r)
	if err != nil {
		return nil, err
	}
	c.Session = n.Session
	guard.Registered(n.Session)
	if _, err := guard.Step(ctx); err != nil {
		return nil, err
	}
	conv := converge.New(c, converge.Deps{Store: d.Store, Executor: d.Executor, Stopped: stopped, WasStopped: disk.Stopped, Cleaned: guard.Cleaned, Recovery: guard})
	s := &Stepper{conv: conv, compare: converge.NewComparer(conv), node: n, lease: c.Lease, disk: disk, guard: guard}
	s.Renewed(sent)
	return s, nil
}

// Renewed notes a renewal of the lease that has succeeded and was sent at a time.
func (s *Stepper) Renewed(sent time.Time) {
	s.lease.Renewed(sent)
	s.disk.Renewed = s.lease.Sent()
}

// Renew renews the lease of the node; it must be called a few times within each, and after a hint to sandbox.TopicRollCall.
func (s *Stepper) Renew(ctx context.Context, registry node.Registry) error {
	return guardedRegistry{registry, s.guard}.RenewLease(ctx, s.node.Name, s.node.Session)
}

// CutOff stops everything if the node is cut off at now, and does nothing else. It is to be called about once a second.
func (s *Stepper) CutOff(ctx context.Context, now time.Time) error { return s.conv.CutOff(ctx, now) }

// Recover looks whether the store has gone back, and tells it what the node has if it waits for that. It must be called every second.
func (s *Stepper) Recover(ctx context.Context) error {
	_, err := s.guard.Step(ctx)
	return err
}

// Believes reports whether records that were read from the store just now may replace what the node remembers.
func (s *Stepper) Believes(ctx context.Context, read []sandbox.Record) (bool, error) {
	return s.guard.Believes(ctx, read)
}

// Session returns the session of this start.
func (s *Stepper) Session() uint64 { return s.node.Session }

// Step moves one sandbox a step closer to its record. done means that nothing is left to do until something changes; otherwise the
// next step is due after again.
func (s *Stepper) Step(ctx context.Context, now time.Time, id sandbox.ID) (again time.Duration, done bool, err error) {
	out, err := s.conv.Step(ctx, now, id)
	return out.Again, out.Done, err
}

// Compare compares the engine with the store and returns the ids that need a step, and when to compare again at the latest.
func (s *Stepper) Compare(ctx context.Context, now time.Time) ([]sandbox.ID, time.Time, error) {
	return s.compare.Compare(ctx, now)
}

// EngineAway notes a time in which the engine could not be reached.
func (s *Stepper) EngineAway(from, to time.Time) { s.conv.EngineAway(from, to) }
