//go:build chaos

// Package chaos runs the split services for people's worst day: two apis, two schedulers, two routers, two agents on two engines and a Redis
// with a replica and sentinels, under load, while everything is killed, stopped, cut off and started anew in an order that a seed gives. Every
// call is recorded. In the end the history of each sandbox must be one that the promises allow, and nothing may be left.
package chaos

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var (
	seedFlag   = flag.Uint64("seed", 0, "seed of load and faults; 0: a new one, which is printed")
	forFlag    = flag.Duration("for", 60*time.Second, "how long faults happen")
	outFlag    = flag.String("out", "", "directory of report, history and logs; empty: that of the test")
	workerFlag = flag.Int("workers", 6, "sandboxes that are worked on at a time")
	slackFlag  = flag.Duration("slack", 90*time.Second, "bound of every lateness beyond what the faults that overlap it explain")
)

// patience bounds every wait for something that must happen by itself; three minutes are for a machine that is much slower than it should be.
const patience = 3 * time.Minute

// conditions are those of a run.
type conditions struct {
	seed    uint64
	length  time.Duration
	workers int
	// slack is the flag; patience is how long what must go may take to go.
	slack, patience time.Duration
	// lives, if it is not 0, says that nothing is killed, and how many sandboxes must at least have come to their end.
	lives int
	// broken is the promise that all processes break.
	broken string
	out    string
}

func given(t *testing.T) conditions {
	t.Helper()
	c := conditions{seed: *seedFlag, length: *forFlag, workers: *workerFlag, slack: *slackFlag, patience: patience, out: *outFlag}
	if c.seed == 0 {
		c.seed = rand.Uint64()
	}
	if c.out == "" {
		c.out = t.TempDir()
	}
	return c
}

// TestChaos is the run. Its bounds are long: it fails by what happened, not by how fast the machine is.
func TestChaos(t *testing.T) {
	v := given(t).run(t)
	for _, name := range v.names {
		for _, what := range v.failed[name] {
			t.Errorf("%s: %s", name, what)
		}
	}
}

// run returns what the checks say. What keeps it from checking ends the test.
func (c conditions) run(t *testing.T) *verdicts {
	t.Helper()
	if err := os.MkdirAll(c.out, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d, for %s, output in %s", c.seed, c.length, c.out)
	history, err := newHistory(filepath.Join(c.out, "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer history.close()
	p := startPlatform(t, c.out, c.broken)
	watch := p.watchEngines(t)
	load := startLoad(p, history, c)
	began := time.Now()
	faults := newFaults(t, p, watch, c.seed)
	if c.lives > 0 {
		time.Sleep(c.length)
		eventually(t, "enough sandboxes have come to their end", func() bool { return int(load.lived.Load()) >= c.lives })
	} else {
		faults.run(began.Add(c.length))
	}
	load.end()
	p.healed(t)

	v := &verdicts{}
	p.clear(t, load, c.patience, v)
	p.remains(t, c.patience, v)
	seen := watch.end()
	checkHistories(history, faults.list, v)
	checkWatched(history, seen, faults.list, v)
	checkFailed(history, seen, faults.list, v)
	lateness := measure(history, seen, faults.list, c.slack, v)
	r := report{seed: c.seed, began: began, ended: time.Now(), history: history, faults: faults.list, verdicts: v, lateness: lateness}
	if err := os.WriteFile(filepath.Join(c.out, "report.md"), []byte(r.markdown()), 0o644); err != nil {
		t.Error(err)
	}
	t.Log("\n" + r.markdown())
	return v
}
