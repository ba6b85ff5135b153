// Package app is the scheduler as a part that a program is wired from. Any number may run at once: everything it does is a guarded
// step of the store, so none of them leads.
package app

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/steploop"
	"opensandbox/services/scheduler/internal/deadline"
	"opensandbox/services/scheduler/internal/placement"
	"opensandbox/services/scheduler/internal/reconcile"
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
}

// Store is what a scheduler needs of the store.
type Store interface {
	sandbox.Intents
	sandbox.Placements
	sandbox.Deadlines
	sandbox.Queries
	sandbox.Hints
	Nodes(ctx context.Context) ([]node.Node, error)
}

// Deps of a scheduler.
type Deps struct {
	Store Store
	Log   *slog.Logger
}

// maxSleep bounds the time between two looks of each loop when no hint comes.
const maxSleep = time.Second

// Part is one of the blocking functions that make up a scheduler.
type Part struct {
	Name string
	Run  func(context.Context) error
}

// Parts returns what has to run. Each returns nil after its context has ended.
func Parts(cfg Config, d Deps) []Part {
	clock := deadline.NewSlewedClock(time.Now, sinceBoot)
	s := NewStepper(cfg, d, rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())))
	expire := func(ctx context.Context) (time.Time, error) {
		now, lag := clock.Now()
		if lag > time.Second {
			d.Log.WarnContext(ctx, "the machine's clock has jumped ahead; deadlines follow slowly", "lag", lag)
		}
		wake, err := s.Expire(ctx, now)
		if !wake.IsZero() {
			wake = wake.Add(lag) // the loop sleeps by the wall clock
		}
		return wake, err
	}
	return []Part{
		{"scheduler placement", loop("placement", s.Place, sandbox.TopicPlacement, d)},
		{"scheduler deadlines", loop("deadlines", expire, sandbox.TopicDeadline, d)},
		{"scheduler repair", loop("repair", s.Repair, sandbox.TopicDeadline, d)},
	}
}

func loop(name string, step steploop.Step, topic sandbox.Topic, d Deps) func(context.Context) error {
	return func(ctx context.Context) error {
		hint, cancel := d.Store.Subscribe(topic)
		defer cancel()
		return steploop.Loop{Name: name, Step: step, Hint: hint, MaxSleep: maxSleep, Log: d.Log}.Run(ctx)
	}
}

// sinceBoot returns the time since boot, suspension included (clock_gettime(2), CLOCK_BOOTTIME).
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0 // cannot happen on a kernel that Go runs on; 0 makes deadlines late, never early
	}
	return time.Duration(ts.Nano())
}

// NewSlewedClock returns the clock that deadlines are judged by: a wall clock that advances at most 1.1 times as fast as the time since boot.
func NewSlewedClock(wall func() time.Time, boot func() time.Duration) *deadline.SlewedClock {
	return deadline.NewSlewedClock(wall, boot)
}

// Stepper is a scheduler without its loops, for a simulator that decides what runs when.
type Stepper struct {
	place  *placement.Placer
	expire *deadline.Expirer
	repair *reconcile.Reconciler
}

// NewStepper returns a Stepper. random decides between equal nodes.
func NewStepper(cfg Config, d Deps, random *rand.Rand) *Stepper {
	return &Stepper{
		place:  placement.New(d.Store, placement.Config{Wait: cfg.PlacementWait, RetainFailed: cfg.RetainFailed, Ports: cfg.Ports, DefaultRequest: cfg.DefaultRequest}, random, d.Log),
		expire: deadline.New(d.Store, d.Log),
		repair: reconcile.New(d.Store, d.Log),
	}
}

// Place gives what is unplaced to nodes and returns when to try again at the latest.
func (s *Stepper) Place(ctx context.Context) (time.Time, error) { return s.place.Step(ctx) }

// Expire ends what is due at now, a time that has not jumped ahead, and returns the next deadline.
func (s *Stepper) Expire(ctx context.Context, now time.Time) (time.Time, error) {
	return s.expire.Step(ctx, now)
}

// Repair does what processes that died have left undone and returns when the next repair is due.
func (s *Stepper) Repair(ctx context.Context) (time.Time, error) { return s.repair.Step(ctx) }
