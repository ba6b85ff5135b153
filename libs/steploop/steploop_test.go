package steploop_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"opensandbox/libs/steploop"
)

func run(t *testing.T, l steploop.Loop, length time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	time.Sleep(length)
	synctest.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v, want nil after cancel", err)
	}
}

func TestStepsWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		run(t, steploop.Loop{Name: "t", MaxSleep: time.Second, Log: slog.New(slog.DiscardHandler), Step: func(context.Context) (time.Time, error) {
			at = append(at, time.Since(start))
			if len(at) == 1 {
				return time.Now().Add(300 * time.Millisecond), nil
			}
			return time.Time{}, nil
		}}, 1500*time.Millisecond)
		if want := []time.Duration{0, 300 * time.Millisecond, 1300 * time.Millisecond}; !slices.Equal(at, want) {
			t.Errorf("steps at %v, want %v", at, want)
		}
	})
}

func TestHintWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hint := make(chan struct{}, 1)
		steps := 0
		time.AfterFunc(100*time.Millisecond, func() { hint <- struct{}{} })
		run(t, steploop.Loop{Name: "t", MaxSleep: time.Second, Hint: hint, Log: slog.New(slog.DiscardHandler), Step: func(context.Context) (time.Time, error) {
			steps++
			return time.Time{}, nil
		}}, 500*time.Millisecond)
		if steps != 2 {
			t.Errorf("%d steps, want 2", steps)
		}
	})
}

func TestFailuresAreRepeatedSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hint := make(chan struct{}, 1)
		hint <- struct{}{}
		steps := 0
		run(t, steploop.Loop{Name: "t", MaxSleep: time.Second, Hint: hint, Log: slog.New(slog.DiscardHandler), Step: func(context.Context) (time.Time, error) {
			steps++
			return time.Time{}, errors.New("away")
		}}, 600*time.Millisecond)
		if steps != 3 {
			t.Errorf("%d steps in 600 ms, want one each 250 ms and no early one by a hint", steps)
		}
	})
}
