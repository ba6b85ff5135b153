package deadline

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"opensandbox/libs/sandbox"
)

func TestSlewedClock(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	wall, boot := start, time.Duration(0)
	c := NewSlewedClock(func() time.Time { return wall }, func() time.Duration { return boot })
	advance := func(w, b time.Duration) time.Duration {
		wall, boot = wall.Add(w), boot+b
		now, lag := c.Now()
		if got := wall.Sub(now); got != lag {
			t.Errorf("lag %v, but the clock is %v behind", lag, got)
		}
		return now.Sub(start)
	}
	for _, step := range []struct {
		name       string
		wall, boot time.Duration
		want       time.Duration
	}{
		{"first look", 0, 0, 0},
		{"both run", time.Second, time.Second, time.Second},
		{"wall jumps an hour ahead", time.Hour + time.Second, time.Second, 2*time.Second + 100*time.Millisecond},
		{"catching up", 10 * time.Second, 10 * time.Second, 13*time.Second + 100*time.Millisecond},
		{"wall set back behind", -2 * time.Hour, time.Second, 12*time.Second - time.Hour},
	} {
		if got := advance(step.wall, step.boot); got != step.want {
			t.Errorf("%s: slewed clock at %v, want %v", step.name, got, step.want)
		}
	}
}

type fakeStore struct {
	due    int
	asked  []time.Time
	next   time.Time
	broken error
}

func (f *fakeStore) ExpireDue(_ context.Context, notAfter time.Time, max int) ([]sandbox.ID, error) {
	f.asked = append(f.asked, notAfter)
	n := min(f.due, max)
	f.due -= n
	return make([]sandbox.ID, n), f.broken
}

func (f *fakeStore) NextDeadline(context.Context) (time.Time, bool, error) {
	return f.next, !f.next.IsZero(), nil
}

func TestStep(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f := &fakeStore{due: 2*batch + 3, next: now.Add(time.Minute)}
	wake, err := New(f, slog.New(slog.DiscardHandler)).Step(t.Context(), now)
	if err != nil || !wake.Equal(f.next) {
		t.Errorf("Step = %v, %v; want %v", wake, err, f.next)
	}
	if f.due != 0 || len(f.asked) != 3 || !f.asked[0].Equal(now) {
		t.Errorf("%d left after %d calls with %v", f.due, len(f.asked), f.asked)
	}
	f.next = now.Add(-time.Second) // the store's clock is behind
	if wake, err = New(f, slog.New(slog.DiscardHandler)).Step(t.Context(), now); err != nil || !wake.After(now) {
		t.Errorf("Step = %v, %v; want a later time, not a busy loop", wake, err)
	}
	f.broken = errors.New("away")
	if _, err := New(f, slog.New(slog.DiscardHandler)).Step(t.Context(), now); !errors.Is(err, f.broken) {
		t.Errorf("Step = %v, want the store's error", err)
	}
}
