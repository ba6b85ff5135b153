// Package wakeup carries the hints of a store inside one process, and knows which hints follow from a change of a record.
//
// It starts no goroutine and keeps nothing about a topic that nobody listens to.
package wakeup

import (
	"sync"

	"opensandbox/libs/sandbox"
)

// Hub hands hints from writers to subscribers of the same process. The zero value is ready. All methods may be called
// concurrently.
type Hub struct {
	mu     sync.Mutex
	topics map[sandbox.Topic]map[*subscription]struct{}
}

// subscription is a pointer to a non-empty struct, so that each one is a key of its own.
type subscription struct{ c chan struct{} }

var _ sandbox.Hints = (*Hub)(nil)

// Subscribe returns a channel that holds at most one hint, however many changes there were since it was last read. It is never
// closed. cancel may be called more than once.
func (h *Hub) Subscribe(t sandbox.Topic) (changed <-chan struct{}, cancel func()) {
	s := &subscription{c: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.topics == nil {
		h.topics = make(map[sandbox.Topic]map[*subscription]struct{})
	}
	if h.topics[t] == nil {
		h.topics[t] = make(map[*subscription]struct{})
	}
	h.topics[t][s] = struct{}{}
	return s.c, func() { h.drop(t, s) }
}

func (h *Hub) drop(t sandbox.Topic, s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.topics[t], s)
	if len(h.topics[t]) == 0 {
		delete(h.topics, t)
	}
}

// Publish gives a hint to each subscriber of each topic that has not got one waiting. It never blocks. Call it after the commit.
func (h *Hub) Publish(topics ...sandbox.Topic) {
	if len(topics) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range topics {
		for s := range h.topics[t] {
			select {
			case s.c <- struct{}{}:
			default:
			}
		}
	}
}

// PublishAll gives a hint to every subscriber, for when hints may have been missed.
func (h *Hub) PublishAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, subs := range h.topics {
		for s := range subs {
			select {
			case s.c <- struct{}{}:
			default:
			}
		}
	}
}

// Topics returns how many topics have a subscriber, for tests and metrics.
func (h *Hub) Topics() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.topics)
}
