// Package app is the scheduler as a part that a program is wired from. Any number may run at once: everything it does is a guarded
// step of the store, so none of them leads.
package app

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/schedulermetrics"
	"opensandbox/services/scheduler/internal/renewintent"
)

// Config of a scheduler.
type Config struct {
	// PlacementWait is how long a sandbox may wait for room before its create fails.
	PlacementWait time.Duration
	// RetainFailed is how long a failed create is shown.
	RetainFailed time.Duration
	// DefaultRequest is reserved for a sandbox that asks for no reservation.
	DefaultRequest sandbox.Resources
	// Ports are the container ports that each sandbox gets a port of the node for.
	Ports []int
	// NodeLostAfter is how long the lease of a node must have been over before its sandboxes are given up. 0 switches that off, for a
	// process whose only node is in it; removed nodes are given up all the same.
	NodeLostAfter time.Duration
	// RenewIntent is about sandboxes that are renewed by being used.
	RenewIntent RenewIntent
}

// RenewIntent says how the intents of Deps.Intents are handled.
type RenewIntent struct {
	// Workers is how many are handled at once; less than 1 means 1.
	Workers int
	// MinInterval is the shortest time between two renewals of one sandbox; 0 for a queue whose producers see to it.
	MinInterval time.Duration
}

// Store is what a scheduler needs of the store.
type Store interface {
	sandbox.Intents
	sandbox.Placements
	sandbox.Losses
	sandbox.Deadlines
	sandbox.Queries
	sandbox.Recoveries
	sandbox.Hints
	OnNode(ctx context.Context, node string) ([]sandbox.Record, error)
	Nodes(ctx context.Context) ([]node.Node, error)
	Forget(ctx context.Context, name string) error
}

// IntentSource is a queue of renew intents: IntentQueue, or what RedisIntents returns.
type IntentSource = renewintent.Queue

// Deps of a scheduler.
type Deps struct {
	Store Store
	// Intents are handled if it is not nil.
	Intents IntentSource
	// Registry and Tracers may be nil.
	Registry prometheus.Registerer
	Tracers  trace.TracerProvider
	Log      *slog.Logger
}

// Scheduler is one replica. Use New.
type Scheduler struct {
	cfg     Config
	deps    Deps
	metrics *schedulermetrics.Metrics
	steps   *Stepper
	pulse   *pulse
	// boot is the time since boot; tests replace it.
	boot func() time.Duration
}

// parallel is how many sandboxes are placed at once: enough to hide the round trips to a store that is busy, or on another machine.
const parallel = 32

// New registers the metrics and returns a Scheduler whose Parts have to be run.
func New(cfg Config, d Deps) (*Scheduler, error) {
	metrics, err := schedulermetrics.New(d.Registry)
	if err != nil {
		return nil, err
	}
	p := &pulse{Store: d.Store}
	d.Store = p
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	steps := newStepper(cfg, d, random, metrics, parallel)
	return &Scheduler{cfg: cfg, deps: d, metrics: metrics, steps: steps, pulse: p, boot: sinceBoot}, nil
}

// Ready returns nil while the scheduler reaches the store, else why it is not ready. It may be called concurrently.
func (s *Scheduler) Ready() error { return s.pulse.ready(time.Now()) }
