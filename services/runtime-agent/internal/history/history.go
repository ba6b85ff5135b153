// Package history keeps the last events of an engine in memory, for people who ask what has become of a sandbox.
package history

import (
	"slices"
	"sync"

	"opensandbox/libs/executor"
)

// Bounds of a History. Events are about 100 bytes.
const (
	// PerSandbox keeps one that is paused and resumed all day from pushing out the others.
	PerSandbox = 50
	Total      = 10_000
)

// History is a list of the last events. The zero value is ready. Safe for concurrent use.
type History struct {
	mu     sync.Mutex
	events []executor.Event // oldest first
	count  map[executor.Ref]int
}

// Add adds an event, and forgets the oldest one where there are too many.
func (h *History) Add(e executor.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count == nil {
		h.count = map[executor.Ref]int{}
	}
	switch {
	case h.count[e.Ref] >= PerSandbox:
		h.drop(slices.IndexFunc(h.events, func(o executor.Event) bool { return o.Ref == e.Ref }))
	case len(h.events) >= Total:
		h.drop(0)
	}
	h.events = append(h.events, e)
	h.count[e.Ref]++
}

func (h *History) drop(i int) {
	r := h.events[i].Ref
	h.events = slices.Delete(h.events, i, i+1)
	if h.count[r]--; h.count[r] == 0 {
		delete(h.count, r)
	}
}

// Last returns up to n last events of an incarnation, oldest first.
func (h *History) Last(r executor.Ref, n int) []executor.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []executor.Event
	for i := len(h.events) - 1; i >= 0 && len(out) < min(n, h.count[r]); i-- {
		if h.events[i].Ref == r {
			out = append(out, h.events[i])
		}
	}
	slices.Reverse(out)
	return out
}
