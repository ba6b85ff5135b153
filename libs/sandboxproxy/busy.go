package sandboxproxy

import (
	"context"
	"sync"
)

// busy counts requests in progress. The zero value is ready.
type busy struct {
	mu   sync.Mutex
	n    int
	idle chan struct{}
}

func (b *busy) enter() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n++
}

func (b *busy) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.n--
	if b.n == 0 && b.idle != nil {
		close(b.idle)
		b.idle = nil
	}
}

// wait returns true as soon as there are no requests, or false when ctx ends before that.
func (b *busy) wait(ctx context.Context) bool {
	b.mu.Lock()
	if b.n == 0 {
		b.mu.Unlock()
		return true
	}
	if b.idle == nil {
		b.idle = make(chan struct{})
	}
	idle := b.idle
	b.mu.Unlock()
	select {
	case <-idle:
		return true
	case <-ctx.Done():
		return false
	}
}
