package httpapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"opensandbox/libs/sandbox"
	"opensandbox/services/api/internal/usecase"
)

// The reports are for people; nothing parses them. Values of the environment are never in them: they can be secrets under any name.

// report collects lines of "label: value".
type report struct{ strings.Builder }

func (r *report) line(label string, value any) { fmt.Fprintf(r, "%-14s %v\n", label+":", value) }

// filled is line for values that are not empty.
func (r *report) filled(label, value string) {
	if value != "" {
		r.line(label, value)
	}
}

// section lists items, each indented, below a title; without items there is none.
func (r *report) section(title string, items []string) {
	if len(items) == 0 {
		return
	}
	r.WriteString(title + ":\n")
	for _, i := range items {
		r.WriteString("  " + i + "\n")
	}
}

func inspectText(x *usecase.Examination) string {
	rec := &x.Record
	r := &report{}
	r.line("Sandbox", rec.ID)
	r.line("Image", rec.Spec.Image)
	if rec.Ended() {
		r.line("State", "ended")
	} else {
		r.line("State", x.Status.State)
	}
	r.filled("Reason", x.Status.Reason)
	r.filled("Message", x.Status.Message)
	if rec.Gone() && rec.Observed.State != "" { // why it came to this
		r.filled("Last report", strings.TrimSpace(fmt.Sprintf("%s %s %s", rec.Observed.State, rec.Observed.Reason, rec.Observed.Message)))
	}
	r.line("Created", stamp(rec.CreatedAt))
	r.filled("Expires", stamp(rec.Intent.ExpiresAt))
	r.filled("Ended", stamp(rec.EndedAt))
	if rec.Placement.Node != "" {
		r.line("Node", fmt.Sprintf("%s (placement %d)", rec.Placement.Node, rec.Placement.Epoch))
	}
	if x.Live != nil {
		liveLines(r, x.Live)
	} else if rec.Observed.ExitCode != nil {
		r.line("Exit code", *rec.Observed.ExitCode)
	}
	limits := rec.Spec.Limits
	var resources []string
	if limits.CPU > 0 {
		resources = append(resources, fmt.Sprintf("CPU: %.2f cores", float64(limits.CPU)/1000))
	}
	if limits.Memory > 0 {
		resources = append(resources, fmt.Sprintf("Memory: %.0f MiB", float64(limits.Memory)/(1<<20)))
	}
	r.section("Resources", resources)
	addresses := rec.Observed.Addresses
	if x.Live != nil {
		addresses = x.Live.Addresses
	}
	if addresses.ContainerIP != "" {
		r.section("Network", []string{addresses.ContainerIP})
	}
	var ports []string
	for _, inside := range slices.Sorted(maps.Keys(addresses.Ports)) {
		ports = append(ports, fmt.Sprintf("%d/tcp -> %d", inside, addresses.Ports[inside]))
	}
	r.section("Ports", ports)
	r.section("Metadata", pairs(rec.Intent.Metadata))
	r.section("Environment (values are not shown)", slices.Sorted(maps.Keys(rec.Spec.Env)))
	r.filled("Not known", x.Missing)
	return r.String()
}

func liveLines(r *report, in *usecase.Inspection) {
	r.line("Container", in.Phase)
	r.line("OOM killed", in.OOMKilled)
	if in.ExitCode != nil {
		r.line("Exit code", *in.ExitCode)
	}
	r.filled("Started", stamp(in.StartedAt))
	r.filled("Finished", stamp(in.FinishedAt))
}

func pairs(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return out
}

func logsText(lines []string) string {
	if len(lines) == 0 {
		return "(no logs)"
	}
	return strings.ToValidUTF8(strings.Join(lines, "\n"), "�")
}

// eventsText lists what happened, oldest first, at most limit lines, and says whether there was more.
func eventsText(x *usecase.Examination, limit int) (text string, more bool) {
	type entry struct {
		at   time.Time
		text string
	}
	rec := &x.Record
	entries := []entry{{rec.CreatedAt, "asked for"}}
	for _, e := range x.Events {
		what := "container " + e.Action
		if e.ExitCode != nil {
			what += fmt.Sprintf(", exit code %d", *e.ExitCode)
		}
		entries = append(entries, entry{e.At, what})
	}
	if o := rec.Observed; !o.At.IsZero() {
		entries = append(entries, entry{o.At, strings.TrimSpace(fmt.Sprintf("%s %s", o.State, o.Reason))})
	}
	if rec.Gone() {
		entries = append(entries, entry{rec.EndedAt, "removed: " + rec.Intent.Reason})
	}
	slices.SortStableFunc(entries, func(a, b entry) int {
		if a.at.IsZero() != b.at.IsZero() { // what is still going on comes last
			return b.at.Compare(a.at)
		}
		return a.at.Compare(b.at)
	})
	more = len(entries) > limit
	entries = entries[max(0, len(entries)-limit):]
	lines := make([]string, 0, len(entries)+1)
	for _, e := range entries {
		lines = append(lines, strings.TrimSpace(stamp(e.at)+" "+e.text))
	}
	if len(x.Events) == 0 {
		lines = append(lines, "(no notable events)")
	}
	if x.Missing != "" {
		lines = append(lines, "(not complete: "+x.Missing+")")
	}
	return strings.Join(lines, "\n"), more
}

func summaryText(id sandbox.ID, inspect, events, logs string) string {
	banner, rule := strings.Repeat("=", 72), strings.Repeat("-", 40)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nSandbox %s\n%s\n", banner, id, banner)
	for _, s := range []struct{ title, text string }{{"INSPECT", inspect}, {"EVENTS", events}, {"LOGS", logs}} {
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n", s.title, rule, strings.TrimRight(s.text, "\n"))
	}
	return b.String()
}
