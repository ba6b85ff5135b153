//go:build e2e && sabotage

package acceptance

import (
	"testing"
	"time"

	"opensandbox/libs/sabotage"
)

// TestSoakNoticesBrokenBuilds soaks programs that keep something of every sandbox, and demands that the soak says so. What they keep on engines,
// in stores and in files is left behind by the soak itself, in TestSoakSingle and TestSoakSplit.
func TestSoakNoticesBrokenBuilds(t *testing.T) {
	for promise, what := range map[string]measure{
		"none":                  "",
		sabotage.KeptMemory:     liveHeap,
		sabotage.KeptDescriptor: descriptors,
		sabotage.KeptGoroutine:  goroutines,
		sabotage.KeptThread:     threads,
	} {
		t.Run(promise, func(t *testing.T) {
			k := newSingleSoak(t, sabotage.BrokenVariable+"="+promise)
			if what != "" {
				k.returns = time.Second // It will not come back.
			}
			_, rows := k.lasts()
			noticed := what == ""
			for _, r := range rows {
				noticed = noticed || r.what == what && !r.holds()
			}
			if got := broken(rows); !noticed || what == "" && got != "" {
				t.Errorf("the soak finds %q, want %q", got, what)
			}
		})
	}
}
