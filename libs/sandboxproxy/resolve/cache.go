package resolve

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"opensandbox/libs/sandbox"
)

// entry is what is known of one sandbox. The hint is looked at when the entry is used, so that no goroutine waits for it.
type entry struct {
	shared[view]
	hint   <-chan struct{}
	cancel func()
	// used is guarded by cache.mu.
	used time.Time
}

// poll takes in a hint that has come since the entry was last used.
func (e *entry) poll() {
	select {
	case <-e.hint:
		e.outdate()
	default:
	}
}

// cache holds at most size entries; the one that was not used for longest goes first. Each entry holds one subscription.
type cache struct {
	hints sandbox.Hints

	mu      sync.Mutex
	entries *simplelru.LRU[sandbox.ID, *entry]
}

// newCache fails if size is not positive.
func newCache(size int, hints sandbox.Hints) (*cache, error) {
	entries, err := simplelru.NewLRU(size, func(_ sandbox.ID, e *entry) { e.cancel() })
	if err != nil {
		return nil, err
	}
	return &cache{hints: hints, entries: entries}, nil
}

// of returns the entry of a sandbox. A new one has subscribed and knows nothing: subscribe first, then read.
func (c *cache) of(id sandbox.ID) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries.Get(id)
	if !ok {
		e = &entry{}
		e.hint, e.cancel = c.hints.Subscribe(sandbox.RecordTopic(id))
		c.entries.Add(id, e)
	}
	e.used = time.Now()
	return e
}

// outdate makes the next use of a sandbox's entry read.
func (c *cache) outdate(id sandbox.ID) {
	c.mu.Lock()
	e, ok := c.entries.Peek(id)
	c.mu.Unlock()
	if ok {
		e.outdate()
	}
}

// drop forgets e, if it is still the entry of id.
func (c *cache) drop(id sandbox.ID, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now, ok := c.entries.Peek(id); ok && now == e {
		c.entries.Remove(id)
	}
}

// sweep forgets what was not used since before.
func (c *cache) sweep(before time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		_, e, ok := c.entries.GetOldest()
		if !ok || !e.used.Before(before) {
			return
		}
		c.entries.RemoveOldest()
	}
}

// len returns the number of entries.
func (c *cache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries.Len()
}

// clear forgets everything.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries.Purge()
}
