// Package history keeps the last events of an engine in memory, for people who ask what has become of a sandbox.
package history

import (
	"container/list"
	"slices"
	"sync"

	"opensandbox/libs/executor"
)

// Bounds of a History. An event takes about 200 bytes with its places in the lists.
const (
	// PerSandbox keeps one that is paused and resumed all day from pushing out the others.
	PerSandbox = 50
	Total      = 10_000
)

// History is a list of the last events. The zero value is ready. Safe for concurrent use.
type History struct {
	mu sync.Mutex
	// all holds events, of those of each incarnation; both oldest first.
	all list.List
	of  map[executor.Ref][]*list.Element
}

// Add adds an event, and forgets the oldest one where there are too many.
func (h *History) Add(e executor.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[executor.Ref][]*list.Element{}
	}
	switch {
	case len(h.of[e.Ref]) >= PerSandbox:
		h.forgetFirst(e.Ref)
	case h.all.Len() >= Total:
		h.forgetFirst(h.all.Front().Value.(executor.Event).Ref)
	}
	h.of[e.Ref] = append(h.of[e.Ref], h.all.PushBack(e))
}

// forgetFirst forgets the oldest event of an incarnation. The oldest of all is the oldest of its own.
func (h *History) forgetFirst(r executor.Ref) {
	of := h.of[r]
	h.all.Remove(of[0])
	if len(of) == 1 {
		delete(h.of, r)
		return
	}
	h.of[r] = slices.Delete(of, 0, 1)
}

// Last returns up to n last events of an incarnation, oldest first.
func (h *History) Last(r executor.Ref, n int) []executor.Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	of := h.of[r]
	var out []executor.Event
	for _, e := range of[len(of)-min(max(n, 0), len(of)):] {
		out = append(out, e.Value.(executor.Event))
	}
	return out
}
