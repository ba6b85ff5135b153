package simulation

import (
	"flag"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var (
	schedules = flag.Int("schedules", 5000, "how many schedules to simulate")
	seed      = flag.Uint64("seed", 0, "simulate this one schedule only")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// each runs seeds on all processors until one returns false.
func each(from, to uint64, do func(seed uint64) bool) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	next, stop := from, false
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				mu.Lock()
				s := next
				next++
				over := stop || s >= to
				mu.Unlock()
				if over {
					return
				}
				if !do(s) {
					mu.Lock()
					stop = true
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
}

func TestSchedules(t *testing.T) {
	if *seed != 0 {
		r := Run(*seed, Variant{})
		if r.Err != nil {
			t.Fatalf("seed %d: %v", *seed, r.Err)
		}
		t.Logf("%+v", r)
		return
	}
	var mu sync.Mutex
	var total Result
	var worst time.Duration
	began := time.Now()
	each(1, uint64(*schedules)+1, func(s uint64) bool {
		r := Run(s, Variant{})
		mu.Lock()
		defer mu.Unlock()
		total.Steps += r.Steps
		total.Crashes += r.Crashes
		total.Sandboxes += r.Sandboxes
		worst = max(worst, r.Lateness)
		switch {
		case r.Err != nil:
			t.Errorf("seed %d: %v", s, r.Err)
		case r.Sandboxes < 5 || r.Steps < 50 || r.Crashes < 1:
			t.Errorf("seed %d is too small: %d sandboxes, %d steps, %d crashes", s, r.Sandboxes, r.Steps, r.Crashes)
		}
		return !t.Failed()
	})
	t.Logf("%d schedules: %d sandboxes, %d crashes, %d steps, latest decision %v after its deadline, in %v", *schedules, total.Sandboxes, total.Crashes, total.Steps, worst, time.Since(began).Round(time.Second))
}

func TestSameSeedSameRun(t *testing.T) {
	t.Parallel()
	for s := uint64(1); s <= 20; s++ {
		a, b := Run(s, Variant{}), Run(s, Variant{})
		if a.Digest != b.Digest || a.Steps != b.Steps {
			t.Errorf("seed %d ran differently: %d steps, digest %x; then %d, %x", s, a.Steps, a.Digest, b.Steps, b.Digest)
		}
	}
}

// withinSeeds is how many schedules may pass before a broken variant is noticed.
const withinSeeds = 1000

func TestBrokenVariantsAreCaught(t *testing.T) {
	t.Parallel()
	for _, v := range BrokenVariants() {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var caught Result
			each(1, withinSeeds+1, func(s uint64) bool {
				r := Run(s, v)
				mu.Lock()
				defer mu.Unlock()
				if r.Err != nil && caught.Err == nil {
					caught = r
				}
				return caught.Err == nil
			})
			if caught.Err == nil {
				t.Fatalf("%d schedules did not notice it", withinSeeds)
			}
			first, _, _ := strings.Cut(caught.Err.Error(), "\n")
			t.Logf("seed %d: %s", caught.Seed, first)
		})
	}
}
