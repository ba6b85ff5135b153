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
	brokenFlag = flag.String("broken", "", "name of the broken build that must be caught; its programs are run")
	workerFlag = flag.Int("workers", 6, "sandboxes that are worked on at a time")
	slackFlag  = flag.Duration("slack", 90*time.Second, "bound of every lateness beyond what the faults that overlap it explain")
)

// TestChaos is the run. Its bounds are long: it fails by what happened, not by how fast the machine is.
func TestChaos(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	out := *outFlag
	if out == "" {
		out = t.TempDir()
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d, for %s, output in %s", seed, *forFlag, out)

	history, err := newHistory(filepath.Join(out, "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer history.close()
	p := startPlatform(t, out, *brokenFlag)
	watch := p.watchEngines(t)
	load := startLoad(p, history, seed, *workerFlag)
	began := time.Now()
	faults := newFaults(t, p, watch, seed)
	faults.run(began.Add(*forFlag))
	load.end()
	p.healed(t)

	v := &verdicts{}
	p.clear(t, load, v)
	p.remains(t, v)
	seen := watch.end()
	checkHistories(history, faults.list, v)
	checkWatched(history, seen, faults.list, v)
	lateness := measure(history, seen, faults.list, *slackFlag, v)
	r := report{seed: seed, began: began, ended: time.Now(), history: history, faults: faults.list, verdicts: v, lateness: lateness}
	if err := os.WriteFile(filepath.Join(out, "report.md"), []byte(r.markdown()), 0o644); err != nil {
		t.Error(err)
	}
	t.Log("\n" + r.markdown())
	v.conclude(t, *brokenFlag)
}
