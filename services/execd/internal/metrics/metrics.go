// Package metrics reads the processor and memory figures of the machine from /proc, with the meaning they have in OpenSandbox
// 1.1.1: usage of the whole machine, and the number of processors that this sandbox may use.
package metrics

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// window is the shortest time over which processor usage is measured: twenty ticks of the kernel's clock.
	window = 200 * time.Millisecond
	// fresh is how long an earlier reading can serve as the start of a window; with one, a call does not wait.
	fresh = 5 * time.Second
)

// Sample is one reading.
type Sample struct {
	CPUCount    float64 `json:"cpu_count"`
	CPUUsedPct  float64 `json:"cpu_used_pct"`
	MemTotalMiB float64 `json:"mem_total_mib"`
	MemUsedMiB  float64 `json:"mem_used_mib"`
	// Timestamp in Unix milliseconds.
	Timestamp int64 `json:"timestamp"`
}

// Sampler reads on demand; between calls it does nothing. It may be used concurrently.
type Sampler struct {
	proc, cgroup string
	cpus         int

	mu   sync.Mutex
	last reading

	reads sync.Mutex // See readFile.
}

type reading struct {
	at          time.Time
	busy, total uint64
}

// New returns a Sampler over the trees that are mounted at proc and cgroup.
func New(proc, cgroup string) *Sampler {
	return &Sampler{proc: proc, cgroup: cgroup, cpus: runtime.NumCPU()}
}

// Sample waits at most 200 ms, and not at all when the last call was between 200 ms and 5 s ago.
func (s *Sampler) Sample(ctx context.Context) (Sample, error) {
	total, used, err := s.memory()
	if err != nil {
		return Sample{}, err
	}
	pct, err := s.usage(ctx)
	if err != nil {
		return Sample{}, err
	}
	const mib = 1 << 20
	return Sample{
		CPUCount: float64(s.count()), CPUUsedPct: pct, MemTotalMiB: float64(total) / mib, MemUsedMiB: float64(used) / mib,
		Timestamp: time.Now().UnixMilli(),
	}, nil
}

func (s *Sampler) usage(ctx context.Context) (float64, error) {
	now, err := s.read()
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	from := s.last
	s.mu.Unlock()
	if age := now.at.Sub(from.at); age < window || age > fresh {
		from = now
		t := time.NewTimer(window)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-t.C:
		}
		if now, err = s.read(); err != nil {
			return 0, err
		}
	}
	s.mu.Lock()
	s.last = now
	s.mu.Unlock()
	return percent(from, now), nil
}

func percent(from, to reading) float64 {
	if to.total <= from.total || to.busy < from.busy {
		return 0
	}
	return min(100, 100*float64(to.busy-from.busy)/float64(to.total-from.total))
}

// readFile reads one file at a time: each is a matter of microseconds, in which every one of many clients would keep a thread of this process.
func (s *Sampler) readFile(path string) ([]byte, error) {
	s.reads.Lock()
	defer s.reads.Unlock()
	return os.ReadFile(path)
}

// read takes the first line of /proc/stat. Guest time is part of user time already; waiting for disks is not work.
func (s *Sampler) read() (reading, error) {
	data, err := s.readFile(filepath.Join(s.proc, "stat"))
	if err != nil {
		return reading{}, fmt.Errorf("processor figures: %w", err)
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[0] != "cpu" {
		return reading{}, errors.New("processor figures: unknown form of /proc/stat")
	}
	r := reading{at: time.Now()}
	for i, f := range fields[1:min(len(fields), 9)] { // user nice system idle iowait irq softirq steal
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return reading{}, fmt.Errorf("processor figures: %w", err)
		}
		r.total += n
		if i != 3 && i != 4 {
			r.busy += n
		}
	}
	return r, nil
}

// memory returns bytes. Used is everything that is neither free nor a cache.
func (s *Sampler) memory() (total, used uint64, err error) {
	data, err := s.readFile(filepath.Join(s.proc, "meminfo"))
	if err != nil {
		return 0, 0, fmt.Errorf("memory figures: %w", err)
	}
	kib := map[string]uint64{}
	for line := range strings.Lines(string(data)) {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) == 0 {
			continue
		}
		if n, err := strconv.ParseUint(fields[0], 10, 64); err == nil {
			kib[name] = n
		}
	}
	total = kib["MemTotal"] << 10
	if total == 0 {
		return 0, 0, errors.New("memory figures: no MemTotal in /proc/meminfo")
	}
	idle := (kib["MemFree"] + kib["Buffers"] + kib["Cached"] + kib["SReclaimable"]) << 10
	return total, total - min(idle, total), nil
}

// count returns the processors this sandbox may use: a limit of its control group counts in whole processors, rounded down, at
// least one.
func (s *Sampler) count() int {
	limit := s.cpuLimit()
	if limit <= 0 {
		return s.cpus
	}
	return min(s.cpus, max(1, int(limit)))
}

// cpuLimit returns the limit in processors, 0 when there is none. Version 2 of the control groups is tried first.
func (s *Sampler) cpuLimit() float64 {
	if data, err := s.readFile(filepath.Join(s.cgroup, "cpu.max")); err == nil {
		quota, period, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
		return ratio(quota, period)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	for _, dir := range []string{"cpu", "cpu,cpuacct"} {
		quota, err := s.readFile(filepath.Join(s.cgroup, dir, "cpu.cfs_quota_us"))
		if err != nil {
			continue
		}
		period, err := s.readFile(filepath.Join(s.cgroup, dir, "cpu.cfs_period_us"))
		if err != nil {
			continue
		}
		return ratio(string(quota), string(period))
	}
	return 0
}

func ratio(quota, period string) float64 {
	q, errQ := strconv.ParseFloat(strings.TrimSpace(quota), 64)
	p, errP := strconv.ParseFloat(strings.TrimSpace(period), 64)
	if errQ != nil || errP != nil || q <= 0 || p <= 0 {
		return 0
	}
	return q / p
}
