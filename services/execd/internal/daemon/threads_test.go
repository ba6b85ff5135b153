package daemon

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReserveThreads(t *testing.T) {
	const n = 20
	reserveThreads(n)
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
	for name, tt := range map[string]struct {
		file, limit string
		want        int
	}{
		"version 2":         {"pids.max", "100\n", 25},
		"version 1":         {"pids/pids.max", "100\n", 25},
		"a large limit":     {"pids.max", "4096\n", mostReserved},
		"no limit":          {"pids.max", "max\n", mostReserved},
		"something else":    {"other", "100\n", mostReserved},
		"hardly any at all": {"pids.max", "3\n", 0},
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
			if got := threadsToReserve(root); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}
