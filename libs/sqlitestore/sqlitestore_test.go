package sqlitestore

import (
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"opensandbox/libs/node"
	"opensandbox/libs/node/nodetest"
	"opensandbox/libs/sandbox/sandboxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	t.Parallel()
	sandboxtest.TestStore(t, func(t *testing.T, clock func() time.Time) sandboxtest.Store {
		return open(t, filepath.Join(t.TempDir(), "store.db"), WithClock(clock))
	})
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	nodetest.TestRegistry(t, func(t *testing.T, clock func() time.Time) node.Registry {
		return open(t, filepath.Join(t.TempDir(), "store.db"), WithClock(clock))
	})
}

// open opens a store that is closed at the end of the test.
func open(t testing.TB, path string, opts ...Option) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}
