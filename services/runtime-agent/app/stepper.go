package app

import (
	"context"
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/converge"
)

// Stepper is an agent without its loops, for a simulator that decides what runs when. One value is one start of the agent.
type Stepper struct {
	conv    *converge.Converger
	compare *converge.Comparer
	node    node.Node
	lease   *converge.Lease
}

// NewStepper registers the node and returns its Stepper. ReadyTimeout must be set. Whatever runs the simulator knows that an earlier start of
// the same node is dead. The lease counts from now on by d.Clock; without one, from the first call of Renewed.
func NewStepper(ctx context.Context, cfg Config, d Deps) (*Stepper, error) {
	engine, err := d.Executor.EngineID(ctx)
	if err != nil {
		return nil, err
	}
	facts, err := describe(ctx, d.Executor)
	if err != nil {
		return nil, err
	}
	var sent time.Time
	if d.Clock != nil {
		sent = d.Clock()
	}
	r := registration(cfg, engine, facts)
	r.TakeOver = true
	n, err := d.Store.Register(ctx, r)
	if err != nil {
		return nil, err
	}
	c := convergeConfig(cfg, d, n.Session)
	c.Lease, c.Clock = converge.NewLease(cfg.NodeLostAfter, sent), d.Clock
	conv := converge.New(c, converge.Deps{Store: d.Store, Executor: d.Executor})
	return &Stepper{conv: conv, compare: converge.NewComparer(conv), node: n, lease: c.Lease}, nil
}

// Renewed notes a renewal of the lease that has succeeded and was sent at a time.
func (s *Stepper) Renewed(sent time.Time) { s.lease.Renewed(sent) }

// CutOff stops everything if the node is cut off at now, and does nothing else. It is to be called about once a second.
func (s *Stepper) CutOff(ctx context.Context, now time.Time) error { return s.conv.CutOff(ctx, now) }

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
