package placement

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"opensandbox/libs/sandbox"
)

// Two schedulers that look at the same sandboxes come to place different ones, and one that is alone again places all.
func TestRivalsShare(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	records := func() (out []sandbox.Record) {
		for i := range 40 {
			out = append(out, sandbox.Record{ID: sandbox.ID(fmt.Sprint("s", i)), CreatedAt: now})
		}
		return out
	}
	a, b, random := &rivals{}, &rivals{}, rand.New(rand.NewPCG(1, 2))
	rounds := 0
	for ; rounds < 50; rounds++ {
		mine, _ := a.share(records(), now)
		theirs, _ := b.share(records(), now)
		taken := map[sandbox.ID]bool{}
		for _, r := range mine {
			taken[r.ID] = true
		}
		twice := 0
		for _, r := range theirs {
			if taken[r.ID] {
				twice++
			}
		}
		if rounds > 0 && twice == 0 && len(mine)+len(theirs) == 40 {
			break
		}
		// Whoever is slower with some meets the other one.
		a.met(twice/2, now, random)
		b.met(twice-twice/2, now, random)
	}
	if rounds == 50 {
		t.Error("they still place the same sandboxes")
	}
	if mine, left := a.share(records(), now.Add(time.Second)); len(mine) != 40 || left != 0 {
		t.Errorf("%d are left to others that do not place them", left)
	}
	if mine, left := a.share(records(), now.Add(rivalFor+time.Second)); len(mine) != 40 || left != 0 {
		t.Errorf("%d are left to others that were not noticed for long", left)
	}
}
