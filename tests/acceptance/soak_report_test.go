//go:build e2e

package acceptance

import (
	"encoding/csv"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// write keeps all samples, and a report in words, where OPENSANDBOX_TEST_SOAK_OUT says.
func (k *soak) write(rows []verdict) {
	t := k.s.t
	t.Helper()
	dir := os.Getenv("OPENSANDBOX_TEST_SOAK_OUT")
	if dir == "" {
		return
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, k.name+".md"), []byte(k.words(rows)), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, k.name+".csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := csv.NewWriter(f)
	lines := [][]string{{"seconds", "phase", "of", "what", "amount"}}
	for _, s := range k.samples {
		for _, q := range sortedQuantities(s.amounts) {
			lines = append(lines, []string{fmt.Sprintf("%.1f", s.at.Seconds()), s.phase, q.of, string(q.what), strconv.FormatFloat(s.amounts[q], 'f', -1, 64)})
		}
	}
	if err := out.WriteAll(lines); err != nil {
		t.Fatal(err)
	}
	t.Logf("report and samples are in %s", dir)
}

func sortedQuantities(in amounts) []quantity {
	return slices.SortedFunc(maps.Keys(in), func(a, b quantity) int { return strings.Compare(a.String(), b.String()) })
}

// words is the report.
func (k *soak) words(rows []verdict) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n%s, %d processors, engine %s. The load lasted %v; %d looks.\n\n", k.name, time.Now().UTC().Format("2006-01-02 15:04 MST"), runtime.NumCPU(),
		docker(k.s.t, "version", "-f", "{{.Server.Version}}"), k.load.took.Round(time.Second), len(k.samples))
	done := k.load.done()
	b.WriteString("| requests | went well |\n|---|---|\n")
	for _, what := range slices.Sorted(maps.Keys(done)) {
		fmt.Fprintf(&b, "| %s | %d |\n", what, done[what])
	}
	failed := 0
	for _, u := range k.load.users {
		failed += len(u.failed)
	}
	fmt.Fprintf(&b, "| failed | %d |\n\n", failed)
	k.processTable(&b, rows)
	b.WriteString("\n| | before | most | after | allowed | |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		if _, process := k.admin[r.of]; !process {
			word := "as before"
			if !r.holds() {
				word = "**left behind**"
			} else if r.after > r.before {
				word = r.reason
			}
			fmt.Fprintf(&b, "| %v | %s | %s | %s | %s | %s |\n", r.quantity, r.what.show(r.before), r.what.show(r.peak), r.what.show(r.after), r.what.show(r.most), word)
		}
	}
	return b.String()
}

// processTable has a line for each process and a column for each measure: before → after (most).
func (k *soak) processTable(b *strings.Builder, rows []verdict) {
	columns := []measure{residentMemory, liveHeap, descriptors, goroutines, threads}
	b.WriteString("Before → after the load (most during it):\n\n| process |")
	for _, c := range columns {
		fmt.Fprintf(b, " %s |", c)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, p := range k.s.programs {
		fmt.Fprintf(b, "| %s |", p.name)
		for _, c := range columns {
			i := slices.IndexFunc(rows, func(v verdict) bool { return v.quantity == quantity{p.name, c} })
			mark := ""
			if !rows[i].holds() {
				mark = " **too much**"
			}
			fmt.Fprintf(b, " %s → %s (%s)%s |", c.show(rows[i].before), c.show(rows[i].after), c.show(rows[i].peak), mark)
		}
		b.WriteString("\n")
	}
}
