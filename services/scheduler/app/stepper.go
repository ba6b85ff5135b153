package app

import (
	"context"
	"math/rand/v2"
	"time"

	"opensandbox/libs/schedulermetrics"
	"opensandbox/libs/telemetry"
	"opensandbox/services/scheduler/internal/deadline"
	"opensandbox/services/scheduler/internal/nodeloss"
	"opensandbox/services/scheduler/internal/placement"
	"opensandbox/services/scheduler/internal/reconcile"
	"opensandbox/services/scheduler/internal/recovery"
)

// Hearing is how long a scheduler that has just started waits at most for an agent before it ends anything.
const Hearing = recovery.Hearing

// Stepper is a scheduler without its loops, for a simulator that decides what runs when. It does all its work in the goroutine of the
// caller. Its methods must not be called concurrently with themselves.
type Stepper struct {
	place  *placement.Placer
	expire *deadline.Expirer
	repair *reconcile.Reconciler
	giveUp *nodeloss.GiverUp
	watch  *recovery.Watch
}

// NewStepper returns a Stepper that measures nothing. random decides between nodes that are about equally good.
func NewStepper(cfg Config, d Deps, random *rand.Rand) *Stepper {
	return newStepper(cfg, d, random, nil, 1)
}

func newStepper(cfg Config, d Deps, random *rand.Rand, m *schedulermetrics.Metrics, parallel int) *Stepper {
	watch := recovery.New(d.Store, cfg.NodeLostAfter <= 0, d.Log)
	return &Stepper{
		watch: watch,
		place: placement.New(placement.Config{
			Wait: cfg.PlacementWait, RetainFailed: cfg.RetainFailed, Ports: cfg.Ports, DefaultRequest: cfg.DefaultRequest, Parallel: parallel,
		}, placement.Deps{Store: d.Store, Random: random, Trace: telemetry.Work(d.Tracers), Metrics: m, Recovery: watch, Log: d.Log}),
		expire: deadline.New(d.Store, m, d.Log),
		repair: reconcile.New(d.Store, m, d.Log),
		giveUp: nodeloss.New(nodeloss.Config{LostAfter: cfg.NodeLostAfter, RetainFailed: cfg.RetainFailed}, d.Store, m, d.Log),
	}
}

// Place gives what is unplaced to nodes and returns when to try again at the latest, by the store's clock.
func (s *Stepper) Place(ctx context.Context) (time.Time, error) {
	wake, err := s.place.Step(ctx)
	if err != nil {
		return wake, err
	}
	// A store that goes back behind what was just placed must be known by that.
	return wake, s.watch.Look(ctx)
}

// Expire ends what is due at now, a time that has not jumped ahead, and returns the next deadline, by the same clock.
func (s *Stepper) Expire(ctx context.Context, now time.Time) (time.Time, error) {
	guarded, pause, err := s.watch.MayEnd(ctx)
	if err != nil || pause > 0 {
		return now.Add(pause), err
	}
	return s.expire.Step(guarded, now)
}

// Repair does what processes that died have left undone and returns when the next repair is due, by the store's clock.
func (s *Stepper) Repair(ctx context.Context) (time.Time, error) {
	guarded, pause, err := s.watch.MayEnd(ctx)
	if err != nil || pause > 0 {
		return time.Time{}, err
	}
	return s.repair.Step(guarded)
}

// GiveUp gives up the sandboxes of nodes that are lost and returns when the next node will be, by the clock of now. That clock must never
// jump, and must go on while the process is stopped. GiveUp must be called every second: each gap, and each error, puts off what it does.
func (s *Stepper) GiveUp(ctx context.Context, now time.Time) (time.Time, error) {
	// It looks each second whatever happens, because it believes only what it has watched; the store itself refuses a loss during a recovery.
	return s.giveUp.Step(s.watch.Guard(ctx), now)
}
