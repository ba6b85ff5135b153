package app

import (
	"runtime"
	"testing"

	"opensandbox/libs/executor"
)

// The engine may be on another machine, with another number of processors.
func TestConcurrencyFollowsTheEngine(t *testing.T) {
	t.Parallel()
	for cpus, want := range map[int]int{3: 12, 0: 4 * runtime.NumCPU()} {
		if got := defaultConcurrency(executor.Facts{CPUs: cpus}); got != want {
			t.Errorf("%d processors: %d at once, want %d", cpus, got, want)
		}
	}
}
