package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMakeThreads(t *testing.T) {
	const n = 20
	makeThreads(n)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	if len(threads) < n {
		t.Errorf("got %d threads, want at least %d", len(threads), n)
	}
}

func TestThreadsToReserve(t *testing.T) {
	t.Parallel()
	const none = 100_000
	for name, tt := range map[string]struct {
		file, limit string
		perUser     uint64
		want        int
	}{
		"version 2":         {"pids.max", "100\n", none, 25},
		"version 1":         {"pids/pids.max", "100\n", none, 25},
		"a large limit":     {"pids.max", "4096\n", none, mostReserved},
		"no limit":          {"pids.max", "max\n", none, mostReserved},
		"something else":    {"other", "100\n", none, mostReserved},
		"few for the user":  {"pids.max", "4096\n", 1024, 8},
		"no limit of both":  {"pids.max", "max\n", unix.RLIM_INFINITY, mostReserved},
		"hardly any at all": {"pids.max", "3\n", none, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), tt.file)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(tt.limit), 0o600); err != nil {
				t.Fatal(err)
			}
			root := file[:len(file)-len(tt.file)]
			if got := threadsToReserve(root, tt.perUser); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}
