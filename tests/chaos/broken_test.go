//go:build chaos

package chaos

import (
	"flag"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var brokenFlag = flag.String("broken", "", "which of the broken builds is tried; empty: all of them")

// brokenBuilds are the promises that the programs of a sabotaged build can break (package sabotage), one at a time, and the check that must notice.
var brokenBuilds = []struct{ promise, check string }{
	{"lost-renewal", "history"},
	{"lost-patch", "history"},
	{"stale-read", "history"},
	{"ignored-key", "keys"},
	{"early-deadline", "history"},
	{"early-kill", "early"},
	{"late-deadline", "lateness"},
	{"failed-start", "failed"},
	{"second-container", "epoch"},
	{"kept-container", "containers"},
	{"kept-volume", "volumes"},
	{"kept-network", "networks"},
	{"kept-file", "files"},
	{"kept-port", "keys and ports"},
	{"kept-secret", "keys and ports"},
	{"kept-deadline", "keys and ports"},
	{"kept-key", "keys and ports"},
}

// What a run of a broken build takes: no faults happen, which could excuse it, so that what is left and what is late is soon known. The whole build
// is run under the same conditions, and no check may say anything about it.
const (
	brokenLength   = 8 * time.Second
	brokenLives    = 12
	brokenSlack    = 30 * time.Second
	brokenPatience = 45 * time.Second
)

// TestBrokenBuilds shows that each check notices what it is for.
func TestBrokenBuilds(t *testing.T) {
	base := given(t)
	base.length, base.slack, base.patience, base.lives = brokenLength, brokenSlack, brokenPatience, brokenLives
	if *brokenFlag == "" {
		t.Run("whole", func(t *testing.T) {
			c := base
			c.out = filepath.Join(base.out, "whole")
			if v := c.run(t); len(v.failed) > 0 {
				t.Errorf("no promise is broken, and yet: %v", v.failed)
			}
		})
	}
	tried := 0
	for _, b := range brokenBuilds {
		if *brokenFlag != "" && *brokenFlag != b.promise {
			continue
		}
		tried++
		t.Run(b.promise, func(t *testing.T) {
			c := base
			c.out, c.broken = filepath.Join(base.out, b.promise), b.promise
			v := c.run(t)
			if len(v.failed[b.check]) == 0 {
				t.Errorf("the check %q has not noticed; failed: %v", b.check, v.failed)
				return
			}
			var others []string
			for _, name := range v.names {
				if len(v.failed[name]) > 0 && name != b.check {
					others = append(others, name)
				}
			}
			slices.Sort(others)
			t.Logf("%s: caught by %q, %d times, such as: %s; others that failed: %q", b.promise, b.check, len(v.failed[b.check]), v.failed[b.check][0], others)
		})
	}
	if tried == 0 {
		t.Errorf("there is no broken build %q", *brokenFlag)
	}
}
