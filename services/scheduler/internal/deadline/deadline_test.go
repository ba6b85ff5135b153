package deadline

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"

	"opensandbox/libs/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// fakeStore has due sandboxes, the first of which is due at next, and then one that is due at later.
type fakeStore struct {
	due         int
	asked       []time.Time
	next, later time.Time
	clock       time.Time
	broken      error
}

func (f *fakeStore) ExpireDue(_ context.Context, notAfter time.Time, max int) ([]sandbox.ID, error) {
	f.asked = append(f.asked, notAfter)
	n := min(f.due, max)
	if f.clock.Before(f.next) {
		n = 0
	}
	f.due -= n
	return make([]sandbox.ID, n), f.broken
}

func (f *fakeStore) NextDeadline(context.Context) (time.Time, bool, error) {
	if f.due > 0 {
		return f.next, true, nil
	}
	return f.later, !f.later.IsZero(), nil
}

func (f *fakeStore) Now(context.Context) (time.Time, error) { return f.clock, nil }

type counted struct {
	count int
	late  []time.Duration
}

func (c *counted) Expired(count int, late time.Duration) {
	c.count += count
	c.late = append(c.late, late)
}

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func step(t *testing.T, f *fakeStore) (time.Time, *counted) {
	t.Helper()
	c := &counted{}
	wake, err := New(f, c, slog.New(slog.DiscardHandler)).Step(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	return wake, c
}

func TestStep(t *testing.T) {
	t.Parallel()
	f := &fakeStore{due: 2*batch + 3, next: now.Add(-time.Second), later: now.Add(time.Minute), clock: now.Add(7 * time.Second)} // it is the store's clock that tells how late it was
	wake, c := step(t, f)
	if !wake.Equal(f.later) {
		t.Errorf("wake at %v, want %v", wake, f.later)
	}
	if f.due != 0 || len(f.asked) != 3 || !f.asked[0].Equal(now) {
		t.Errorf("%d left after %d calls with %v", f.due, len(f.asked), f.asked)
	}
	if c.count != 2*batch+3 || len(c.late) != 3 || c.late[0] != f.clock.Sub(f.next) {
		t.Errorf("told of %+v", c)
	}
}

func TestWakes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		store fakeStore
		want  time.Time
		asked int
	}{
		"nothing is left":           {fakeStore{clock: now}, time.Time{}, 0},
		"nothing is due":            {fakeStore{later: now.Add(time.Millisecond), clock: now}, now.Add(time.Millisecond), 0},
		"the next is near":          {fakeStore{due: 1, next: now, later: now.Add(time.Millisecond), clock: now}, now.Add(breath), 1},
		"the store is behind":       {fakeStore{due: 1, next: now, clock: now.Add(-100 * time.Millisecond)}, now.Add(100 * time.Millisecond), 1},
		"the store is a bit behind": {fakeStore{due: 1, next: now, clock: now.Add(-1)}, now.Add(behind), 1},
		"the store is far behind":   {fakeStore{due: 1, next: now, clock: now.Add(-time.Hour)}, now.Add(lag), 1},
	} {
		if wake, _ := step(t, &tc.store); !wake.Equal(tc.want) || len(tc.store.asked) != tc.asked {
			t.Errorf("%s: wake at %v after asking %d times; want %v after %d", name, wake, len(tc.store.asked), tc.want, tc.asked)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	f := &fakeStore{due: 1, next: now, clock: now, broken: errors.New("away")}
	if _, err := New(f, &counted{}, slog.New(slog.DiscardHandler)).Step(t.Context(), now); !errors.Is(err, f.broken) {
		t.Errorf("Step = %v, want the store's error", err)
	}
}
