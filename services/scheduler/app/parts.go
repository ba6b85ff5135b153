package app

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"opensandbox/libs/sandbox"
	"opensandbox/libs/steploop"
	"opensandbox/services/scheduler/internal/deadline"
	"opensandbox/services/scheduler/internal/renewintent"
)

// maxSleep bounds the time between two looks of each loop when no hint comes.
const maxSleep = time.Second

// Part is one of the blocking functions that make up a scheduler.
type Part struct {
	Name string
	Run  func(context.Context) error
}

// Parts returns what has to run. Each returns nil after its context has ended.
func (s *Scheduler) Parts() []Part {
	parts := []Part{
		{"scheduler placement", s.loop("placement", s.byStore(s.steps.Place), sandbox.TopicPlacement)},
		{"scheduler deadlines", s.loop("deadlines", s.expire(), sandbox.TopicDeadline)},
		{"scheduler repair", s.loop("repair", s.byStore(s.steps.Repair), sandbox.TopicDeadline)},
		{"scheduler node loss", s.loop("node loss", s.giveUp(), "")},
	}
	if s.deps.Intents != nil {
		consumer := renewintent.New(renewintent.Config{Workers: s.cfg.RenewIntent.Workers, MinInterval: s.cfg.RenewIntent.MinInterval},
			s.deps.Intents, s.deps.Store, s.metrics, s.deps.Log)
		parts = append(parts, Part{"scheduler renew intents", consumer.Run})
	}
	return parts
}

// loop runs a step whose times are by this machine's clock. Without a topic nothing but the time wakes it.
func (s *Scheduler) loop(name string, step steploop.Step, topic sandbox.Topic) func(context.Context) error {
	return func(ctx context.Context) error {
		var hint <-chan struct{}
		if topic != "" {
			changed, cancel := s.deps.Store.Subscribe(topic)
			defer cancel()
			hint = changed
		}
		return steploop.Loop{Name: name, Step: step, Hint: hint, MaxSleep: maxSleep, Log: s.deps.Log}.Run(ctx)
	}
}

// byStore turns the times of a step from the store's clock to this machine's: taken as they are, a store whose clock is behind would make
// the loop spin.
func (s *Scheduler) byStore(step steploop.Step) steploop.Step {
	return func(ctx context.Context) (time.Time, error) {
		wake, err := step(ctx)
		if !wake.IsZero() {
			wake = wake.Add(-s.pulse.ahead())
		}
		return wake, err
	}
}

// expire judges deadlines by a clock that does not jump ahead.
func (s *Scheduler) expire() steploop.Step {
	clock := NewSlewedClock(time.Now, s.boot)
	jumped := false
	return func(ctx context.Context) (time.Time, error) {
		now, lag := clock.Now()
		s.metrics.ClockLag(lag)
		if lag > time.Second && !jumped {
			s.deps.Log.WarnContext(ctx, "the machine's clock has jumped ahead; deadlines follow slowly", "lag", lag)
		}
		jumped = lag > time.Second
		wake, err := s.steps.Expire(ctx, now)
		if !wake.IsZero() {
			wake = wake.Add(lag) // the loop sleeps by the wall clock
		}
		return wake, err
	}
}

// giveUp judges the absence of nodes by the time since boot, which goes on while this process is stopped or the machine asleep.
func (s *Scheduler) giveUp() steploop.Step {
	var booted time.Time // whenever that was: only differences count
	return func(ctx context.Context) (time.Time, error) {
		now := booted.Add(s.boot())
		wake, err := s.steps.GiveUp(ctx, now)
		if !wake.IsZero() {
			wake = time.Now().Add(wake.Sub(now))
		}
		return wake, err
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
