//go:build chaos

package chaos

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// verdicts are the outcomes of the checks by name.
type verdicts struct {
	names  []string
	counts map[string][]string
	failed map[string][]string
	notes  []string
}

func (v *verdicts) of(name string) {
	if v.counts == nil {
		v.counts, v.failed = map[string][]string{}, map[string][]string{}
	}
	if !slices.Contains(v.names, name) {
		v.names = append(v.names, name)
	}
}

// fail says that an invariant does not hold.
func (v *verdicts) fail(check, format string, args ...any) {
	v.of(check)
	v.failed[check] = append(v.failed[check], fmt.Sprintf(format, args...))
}

// count says how much a check looked at.
func (v *verdicts) count(check string, n int, what string) {
	v.of(check)
	v.counts[check] = append(v.counts[check], fmt.Sprintf("%d %s", n, what))
}

// note is for what could not be decided.
func (v *verdicts) note(check, format string, args ...any) {
	v.of(check)
	v.notes = append(v.notes, check+": "+fmt.Sprintf(format, args...))
}

// span is from what should have happened at once until it was seen.
type span struct {
	what     string
	id       string
	from, to time.Time
}

// measure returns how late things were, and fails what the faults do not explain.
func measure(h *history, w *watch, faults []*fault, slack time.Duration, v *verdicts) map[string][]time.Duration {
	var spans []span
	calls := h.byID()
	for id, of := range calls {
		spans = append(spans, untilRunning(id, of)...)
	}
	for _, s := range w.seen {
		if s.gone.IsZero() {
			continue
		}
		of := calls[s.id]
		if due := latest(of, s.gone); !due.IsZero() && due.Before(s.gone) && !deletedBefore(of, due) {
			spans = append(spans, span{"deadline to container gone", s.id, due, s.gone})
			continue // also when it was deleted after that
		}
		if i := slices.IndexFunc(of, func(c *call) bool { return c.What == "delete" && c.ok() }); i >= 0 {
			spans = append(spans, span{"acknowledged delete to container gone", s.id, of[i].Ended, s.gone})
		}
	}
	out := map[string][]time.Duration{}
	for _, s := range spans {
		late := max(0, s.to.Sub(s.from))
		out[s.what] = append(out[s.what], late)
		if bound := slack + explained(s, faults); late > bound {
			v.fail("lateness", "%s: %s of sandbox %s, at most %s is explained", s.what, late.Round(time.Millisecond), s.id, bound.Round(time.Millisecond))
		}
	}
	v.count("lateness", len(spans), "waits, each bounded by the faults that overlap it")
	return out
}

// untilRunning is from the create to the first answer that says Running, if none said that something else became of it.
func untilRunning(id string, of []*call) []span {
	first := slices.IndexFunc(of, func(c *call) bool { return c.What == "create" })
	running := slices.IndexFunc(of, func(c *call) bool { return c.State == "Running" })
	if first < 0 || running < 0 {
		return nil
	}
	return []span{{"create to seen Running", id, of[first].Began, of[running].Ended}}
}

// healing is what a fault may still cost after it is over: the lease of an agent, the rebuilding of a store (a minute), connections that are
// found to be dead.
const healing = 60 * time.Second

// explained is how much of a span lies within faults and the time that is needed to heal from each.
func explained(s span, faults []*fault) time.Duration {
	var sum time.Duration
	covered := s.from
	for _, f := range faults {
		from, to := later(f.Began, covered), f.Ended.Add(healing)
		if to.After(s.to) {
			to = s.to
		}
		if to.After(from) {
			sum += to.Sub(from)
			covered = to
		}
	}
	return sum
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// report is what a run tells.
type report struct {
	seed         uint64
	began, ended time.Time
	history      *history
	faults       []*fault
	verdicts     *verdicts
	lateness     map[string][]time.Duration
}

// markdown writes the report.
func (r *report) markdown() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Chaos, %s\n", r.began.UTC().Format("2006-01-02"))
	p("Seed %d, %s of load and faults with healing and checks, %d calls, %d faults. %d processors, %s, %s.\n", r.seed, r.ended.Sub(r.began).Round(time.Second),
		len(r.history.calls), len(r.faults), runtime.NumCPU(), kernel(), runtime.Version())
	r.checks(p)
	r.calls(p)
	p("\n## Lateness\n\n| from what to what | n | p50 | p99 | max |\n|---|---|---|---|---|")
	for _, what := range slices.Sorted(maps.Keys(r.lateness)) {
		all := slices.Sorted(slices.Values(r.lateness[what]))
		p("| %s | %d | %s | %s | %s |", what, len(all), at(all, 50), at(all, 99), at(all, 100))
	}
	p("\nThe engines are looked at each %s.", lookEvery)
	p("\n## Faults\n\n| after | what | whom | for | |\n|---|---|---|---|---|")
	for _, f := range r.faults {
		p("| %s | %s | %s%s | %s | %s |", f.Began.Sub(r.began).Round(100*time.Millisecond), f.Kind, f.Target, f.ID, f.Ended.Sub(f.Began).Round(10*time.Millisecond), f.Said)
	}
	return b.String()
}

func (r *report) checks(p func(string, ...any)) {
	p("## Checks\n\n| check | verdict | looked at |\n|---|---|---|")
	for _, name := range r.verdicts.names {
		verdict := "holds"
		if n := len(r.verdicts.failed[name]); n > 0 {
			verdict = fmt.Sprintf("**%d times not**", n)
		}
		p("| %s | %s | %s |", name, verdict, strings.Join(r.verdicts.counts[name], "; "))
	}
	p("")
	for _, name := range r.verdicts.names {
		for _, what := range r.verdicts.failed[name] {
			p("- %s: %s", name, what)
		}
	}
	for _, what := range r.verdicts.notes {
		p("- %s", what)
	}
}

// outcomes are the columns of the table of calls.
var outcomes = []string{"done", "4xx", "5xx", "no answer"}

func (r *report) calls(p func(string, ...any)) {
	count := map[string]map[string]int{}
	for _, c := range r.history.calls {
		if count[c.What] == nil {
			count[c.What] = map[string]int{}
		}
		count[c.What][c.outcome()]++
	}
	p("\n## Calls\n\n| call | %s |\n|---|---|---|---|---|", strings.Join(outcomes, " | "))
	for _, what := range slices.Sorted(maps.Keys(count)) {
		line := "| " + what
		for _, o := range outcomes {
			line += fmt.Sprintf(" | %d", count[what][o])
		}
		p("%s |", line)
	}
}

// at is a percentile of what is sorted.
func at(all []time.Duration, percent int) time.Duration {
	return all[max(0, (len(all)*percent+99)/100-1)].Round(10 * time.Millisecond)
}

func kernel() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown system"
	}
	return "Linux " + strings.TrimSpace(string(text))
}
