package sqlitestore

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"opensandbox/libs/sandbox"
)

// cacheSize bounds the decoded records in memory: at 2 to 3 KB each, about 40 MB.
const cacheSize = 16384

// cache keeps decoded records. It is right because this process is the only writer: each commit goes through it. Records in it
// are never changed; who gives one away clones it.
type cache struct {
	mu sync.Mutex
	// commits counts; a record that was read before the last commit is not put in, because that commit may have changed it.
	commits uint64
	records *simplelru.LRU[sandbox.ID, *sandbox.Record]
}

func newCache(size int) (*cache, error) {
	records, err := simplelru.NewLRU[sandbox.ID, *sandbox.Record](size, nil)
	if err != nil {
		return nil, err
	}
	return &cache{records: records}, nil
}

// get returns the record, or nil, and the count for fill.
func (c *cache) get(id sandbox.ID) (*sandbox.Record, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, _ := c.records.Get(id)
	return r, c.commits
}

// count returns the count for fill.
func (c *cache) count() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commits
}

// fill puts in a record that was read after count was, unless there was a commit since.
func (c *cache) fill(r *sandbox.Record, count uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.commits == count {
		c.records.Add(r.ID, r)
	}
}

// commit takes in what a transaction has changed.
func (c *cache) commit(saved map[sandbox.ID]*sandbox.Record, forgotten []sandbox.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.commits++
	for id, r := range saved {
		c.records.Add(id, r)
	}
	for _, id := range forgotten {
		c.records.Remove(id)
	}
}
