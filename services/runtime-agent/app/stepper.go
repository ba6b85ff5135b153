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
}

// NewStepper registers the node and returns its Stepper. ReadyTimeout must be set.
func NewStepper(ctx context.Context, cfg Config, d Deps) (*Stepper, error) {
	engine, err := d.Executor.EngineID(ctx)
	if err != nil {
		return nil, err
	}
	n, err := d.Store.Register(ctx, node.Registration{
		Name: cfg.Node, EngineID: engine, Capacity: cfg.Capacity, MaxSandboxes: cfg.MaxSandboxes, PortMin: cfg.PortMin, PortMax: cfg.PortMax, TakeOver: true,
	})
	if err != nil {
		return nil, err
	}
	conv := converge.New(convergeConfig(cfg, d, n.Session), converge.Deps{Store: d.Store, Executor: d.Executor})
	return &Stepper{conv: conv, compare: converge.NewComparer(conv), node: n}, nil
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
