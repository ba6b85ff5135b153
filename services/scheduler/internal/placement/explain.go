package placement

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"opensandbox/libs/sandbox"
)

const (
	// explained is the most nodes that a text about missing room goes into.
	explained = Candidates
	// maxText bounds such a text, in bytes.
	maxText = 1000
	// noRoomText is how stores begin it.
	noRoomText = "no node has room"
)

// explain says for each node what was short. short is what the store said of the first nodes that it was asked for.
func (r ranking) explain(short string) string {
	told := min(Candidates, len(r.choices))
	lines := r.refused[:min(explained-told, len(r.refused))]
	text := strings.Join(lines, "; ")
	switch {
	case told == 0 && len(lines) == 0:
		return "no node is available"
	case told == 0:
		text = noRoomText + ": " + text
	case len(lines) == 0:
		text = short
	default:
		text = short + "; " + text
	}
	more := ""
	switch n := len(r.choices) + len(r.refused) - told - len(lines); n {
	case 0:
	case 1:
		more = "; and 1 more node"
	default:
		more = fmt.Sprintf("; and %d more nodes", n)
	}
	return shorten(text, maxText-len(more)) + more
}

// shorten cuts a text to at most max bytes, between two characters.
func shorten(s string, max int) string {
	const mark = "…"
	if len(s) <= max {
		return s
	}
	cut := max - len(mark)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + mark
}

// kindOf names all that decides whether a sandbox finds room.
func kindOf(spec *sandbox.Spec, want sandbox.Resources) string {
	var b strings.Builder
	add := func(s string) { b.WriteString(strconv.Itoa(len(s)) + ":" + s) }
	fmt.Fprintf(&b, "%d/%d/", want.CPU, want.Memory)
	add(spec.Needs.Platform)
	add(spec.Needs.Runtime)
	for _, key := range sortedKeys(spec.Needs.Labels) {
		add(key)
		add(spec.Needs.Labels[key])
	}
	return b.String()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
