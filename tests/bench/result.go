package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// result is one measured thing.
type result struct {
	Section string `json:"section"`
	Name    string `json:"name"`
	// Samples are in milliseconds, or in Unit.
	Samples []float64 `json:"samples"`
	Unit    string    `json:"unit"`
	OK      int       `json:"ok"`
	Tried   int       `json:"tried"`
	Note    string    `json:"note,omitempty"`
}

func (b *bench) add(r result) result {
	if r.Unit == "" {
		r.Unit = "ms"
	}
	if r.Tried == 0 {
		r.Tried, r.OK = len(r.Samples), len(r.Samples)
	}
	b.results = append(b.results, r)
	fmt.Fprintf(os.Stderr, "  %s\n", r.row())
	return r
}

// p returns a percentile of the samples.
func (r result) p(percent float64) float64 {
	if len(r.Samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(r.Samples))
	return s[min(len(s)-1, int(percent/100*float64(len(s))))]
}

func (r result) row() string {
	return fmt.Sprintf("| %s | %s | %.2f | %.2f | %.2f | %.2f | %s | %d/%d | %s |", r.Section, r.Name, r.p(50), r.p(95), r.p(99), r.p(100), r.Unit, r.OK, r.Tried, r.Note)
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// timed runs do and returns how long it took.
func timed(do func() error) (float64, error) {
	began := time.Now()
	err := do()
	return ms(time.Since(began)), err
}

// report writes the table and all samples.
func (b *bench) report() error {
	var doc strings.Builder
	fmt.Fprintf(&doc, "%s\n\n| section | what | p50 | p95 | p99 | max | unit | ok | note |\n|---|---|---|---|---|---|---|---|---|\n", machine())
	for _, r := range b.results {
		doc.WriteString(r.row() + "\n")
	}
	fmt.Print(doc.String())
	raw, err := json.MarshalIndent(b.results, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(b.out, "samples.json"), raw, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.out, "report.md"), []byte(doc.String()), 0o644)
}

// machine describes what the figures belong to.
func machine() string {
	ask := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).Output()
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(string(out))
	}
	return fmt.Sprintf("%d processors, Linux %s, Docker %s, %s, %s", runtime.NumCPU(), ask("uname", "-r"), ask("docker", "version", "-f", "{{.Server.Version}}"), runtime.Version(), time.Now().UTC().Format("2006-01-02"))
}
