package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"opensandbox/libs/sandbox"
)

// waiting are sandboxes that wait since now.
func waiting(n int, now time.Time) (out []sandbox.Record) {
	for i := range n {
		out = append(out, sandbox.Record{ID: sandbox.ID(fmt.Sprint("s", i)), CreatedAt: now})
	}
	return out
}

// Two schedulers that look at the same sandboxes come to place different ones, stay so while neither meets the other any more, and one that
// is alone again places all.
func TestRivalsShare(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a, b, random := &rivals{}, &rivals{}, rand.New(rand.NewPCG(1, 2))
	apart := 0
	for i := range 50 {
		now = now.Add(time.Second)
		mine, _ := a.share(waiting(40, now), true, now)
		theirs, _ := b.share(waiting(40, now), true, now)
		stale := [2]map[sandbox.ID]bool{{}, {}}
		for _, r := range mine {
			if slices.ContainsFunc(theirs, func(o sandbox.Record) bool { return o.ID == r.ID }) {
				stale[random.IntN(2)][r.ID] = true
			}
		}
		a.met(mine, stale[0], now, random)
		b.met(theirs, stale[1], now, random)
		if len(mine)+len(theirs) == 40 {
			apart++
		} else if apart > 0 {
			t.Fatalf("round %d: %d and %d of 40 after they had shared", i, len(mine), len(theirs))
		}
		// What each has left to the other is gone by the next round.
		a.share(nil, true, now)
		b.share(nil, true, now)
	}
	if apart < 20 {
		t.Errorf("they shared in %d of 50 rounds", apart)
	}
	if mine, left := a.share(waiting(40, now), true, now.Add(time.Second)); len(mine) != 40 || left != 0 {
		t.Errorf("%d are left to others that do not place them", left)
	}
	if mine, left := a.share(waiting(40, now), true, now.Add(rivalFor+2*time.Second)); len(mine) != 40 || left != 0 {
		t.Errorf("%d are left to others that were not noticed for long", left)
	}
}

// A rival that has now and then been faster, because patience had ended, is no reason to change over.
func TestFewClashesChangeNothing(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	v, random := &rivals{}, rand.New(rand.NewPCG(1, 2))
	records := waiting(100, now)
	stale := map[sandbox.ID]bool{}
	for i := range records {
		if v.owns(records[i].ID) && len(stale) < 10 || !v.owns(records[i].ID) {
			stale[records[i].ID] = true
		}
	}
	for range 100 {
		if v.met(records, stale, now, random); v.half != 0 {
			t.Fatal("changed over")
		}
	}
	if v.last != now {
		t.Error("the rival was not noticed")
	}
}
