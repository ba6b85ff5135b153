// Package reaptest runs the tests of packages that start processes.
package reaptest

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"opensandbox/services/execd/internal/reap"
)

// Main runs the tests of a package and ends the process. reaper must be its only one: it collects every child. After it was closed, and what the
// package gives as last was called, no goroutine may be left.
func Main(m *testing.M, reaper *reap.Reaper, last ...func()) {
	code := m.Run()
	reaper.Close()
	for _, f := range last {
		f()
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			os.Stderr.WriteString(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}
