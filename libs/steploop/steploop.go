// Package steploop is the thin loop around a step function: it calls the step, then sleeps until the time that the step named,
// a hint, or the longest sleep that its owner allows. All decisions are in the step, which can therefore be driven by a simulator.
package steploop

import (
	"context"
	"log/slog"
	"time"
)

// Step does what is due now and returns when it wants to be called again at the latest; the zero time leaves that to the loop.
type Step func(ctx context.Context) (wakeAt time.Time, err error)

// Loop calls one step function from one goroutine.
type Loop struct {
	// Name is for logs.
	Name string
	Step Step
	// Hint wakes the loop early; nil means never.
	Hint <-chan struct{}
	// MaxSleep is the longest time between two steps. It is what makes the loop correct when hints are lost.
	MaxSleep time.Duration
	// Backoff is the pause after a failed step, so that a store that is away is not hammered. Default: MaxSleep/4.
	Backoff time.Duration
	Log     *slog.Logger
}

// Run steps until ctx ends, and returns nil then. Errors of a step are logged once when they begin and once when they are over,
// never returned: the next step may succeed.
func (l Loop) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	backoff := l.Backoff
	if backoff <= 0 {
		backoff = max(l.MaxSleep/4, time.Millisecond)
	}
	failing := false
	for {
		wakeAt, err := l.Step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		sleep := l.MaxSleep
		switch {
		case err != nil:
			if !failing {
				l.Log.WarnContext(ctx, "step failed; repeating until it succeeds", "loop", l.Name, "error", err)
			}
			failing, sleep = true, backoff
		case failing:
			l.Log.InfoContext(ctx, "step succeeds again", "loop", l.Name)
			failing = false
		}
		if !wakeAt.IsZero() && err == nil {
			sleep = min(sleep, time.Until(wakeAt))
		}
		hint := l.Hint
		if err != nil {
			hint = nil
		}
		timer.Reset(max(sleep, 0))
		select {
		case <-ctx.Done():
			return nil
		case <-hint:
		case <-timer.C:
		}
	}
}
