package metrics

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// tree writes files below a temporary directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const meminfo = "MemTotal:  4096 kB\nMemFree: 1024 kB\nBuffers: 100 kB\nCached: 400 kB\nSReclaimable: 524 kB\n"

func TestSample(t *testing.T) {
	proc := tree(t, map[string]string{"meminfo": meminfo, "stat": "cpu 10 0 10 80 0 0 0 0 5 5\n"})
	synctest.Test(t, func(t *testing.T) {
		s := New(proc, "/nonexistent")
		go func() {
			time.Sleep(window / 2)
			_ = os.WriteFile(filepath.Join(proc, "stat"), []byte("cpu 20 5 15 150 5 3 1 1 9 9\n"), 0o644)
		}()
		began := time.Now()
		got, err := s.Sample(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.CPUUsedPct != 25 || got.MemTotalMiB != 4 || got.MemUsedMiB != 2 {
			t.Errorf("got %+v, want 25 %%, 4 MiB, 2 MiB used", got)
		}
		if waited := time.Since(began); waited != window {
			t.Errorf("the first call waited %s, want %s", waited, window)
		}
		time.Sleep(time.Second)
		began = time.Now()
		if _, err := s.Sample(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("the second call waited %s, %v; want no waiting", time.Since(began), err)
		}
		time.Sleep(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Sample(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error", err)
		}
	})
}

func TestBadTrees(t *testing.T) {
	t.Parallel()
	for _, files := range []map[string]string{
		{}, {"meminfo": meminfo}, {"meminfo": "x", "stat": "cpu 1 2 3 4 5"}, {"meminfo": meminfo, "stat": "nope"}, {"meminfo": meminfo, "stat": "cpu a b c d e"},
	} {
		if _, err := New(tree(t, files), "/nonexistent").Sample(t.Context()); err == nil {
			t.Errorf("%v was accepted", files)
		}
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		files map[string]string
		want  int
	}{
		{nil, 8},
		{map[string]string{"cpu.max": "max 100000\n"}, 8},
		{map[string]string{"cpu.max": "250000 100000\n"}, 2},
		{map[string]string{"cpu.max": "50000 100000\n"}, 1},
		{map[string]string{"cpu.max": "9900000 100000\n"}, 8},
		{map[string]string{"cpu.max": "broken"}, 8},
		{map[string]string{"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3},
		{map[string]string{"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8},
	} {
		s := New("/proc", tree(t, tt.files))
		s.cpus = 8
		if got := s.count(); got != tt.want {
			t.Errorf("%v: got %d, want %d", tt.files, got, tt.want)
		}
	}
}

func TestSystem(t *testing.T) {
	t.Parallel()
	const dev = "Inter-|   Receive                            |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes packets\n" +
		"    lo: 999 9 0 0 0 0 0 0 999 9 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 20 2 0 0 0 0 0 0\n  eth1:    5 1 0 0 0 0 0 0 6 2 0 0 0 0 0 0\n"
	const tcp = "  sl  local_address rem_address   st tx_queue\n   0: 0100007F:1F90 00000000:0000 0A 00000000\n   1: 0100007F:1F90 0100007F:1F91 01 00000000\n"
	s := New(tree(t, map[string]string{"1/stat": "", "20/stat": "", "self/stat": "", "net/dev": dev, "net/tcp": tcp, "net/tcp6": tcp, "net/udp": tcp}), "/nonexistent")
	got, err := s.System()
	if want := (System{Processes: 2, Received: 105, Sent: 26, TCP: 2, UDP: 2}); got != want || err != nil {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := New(t.TempDir(), "").System(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without files: got %v", err)
	}
	if real, err := New("/proc", "").System(); err != nil || real.Processes < 1 {
		t.Errorf("of this machine: %+v, %v", real, err)
	}
}
