package metrics

import "testing"

// FuzzSampler: whatever the kernel's files have in them, a figure is within what it can be, or there is none.
func FuzzSampler(f *testing.F) {
	f.Add("cpu 1 2 3 4 5 6 7 8 9 10\n", meminfo, "max 100000\n", "-1\n", "100000\n")
	f.Add("cpu  10 0 10 80 0 0\ncpu0 1\n", "MemTotal: 1 kB\nMemFree: 2 kB", "150000 100000", "", "")
	f.Add("cpu 18446744073709551615 1 1 1 1", "MemTotal: 18014398509481984 kB", "Inf 1", "NaN", "0")
	f.Fuzz(func(t *testing.T, stat, memory, limit, quota, period string) {
		files := map[string]string{"stat": stat, "meminfo": memory, "cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": period}
		if limit != "" {
			files["cpu.max"] = limit
		}
		dir := tree(t, files)
		s := New(dir, dir)
		if n := s.count(); n < 1 || n > s.cpus {
			t.Errorf("%d of %d processors", n, s.cpus)
		}
		if total, used, err := s.memory(); err == nil && (total == 0 || used > total) {
			t.Errorf("%d of %d bytes", used, total)
		}
		now, err := s.read()
		if err != nil {
			return
		}
		for _, pair := range [][2]reading{{{}, now}, {now, {}}, {now, now}} {
			if p := percent(pair[0], pair[1]); !(p >= 0 && p <= 100) {
				t.Errorf("from %+v to %+v: %v %%", pair[0], pair[1], p)
			}
		}
	})
}
