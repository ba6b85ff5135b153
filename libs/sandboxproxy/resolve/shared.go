package resolve

import (
	"context"
	"sync"
	"time"
)

// shared is one value that is kept elsewhere. However many callers need it at once, one of them reads it and all take the result.
type shared[V any] struct {
	mu sync.Mutex
	// wanted is raised when what is known must be read again; readFor is what it was when the read that gave value began.
	wanted, readFor uint64
	known           bool
	value           V
	// at is when the read that gave value began.
	at     time.Time
	flight *flight[V]
}

// flight is a read in progress. value and err are set before done is closed.
type flight[V any] struct {
	done  chan struct{}
	need  uint64
	value V
	err   error
}

// outdate makes the next get read, even if a read is in progress: that one may have seen the state before the change.
func (s *shared[V]) outdate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted++
}

// last returns what is known, how old or outdated it may be, and when its read began.
func (s *shared[V]) last() (v V, at time.Time, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.value, s.at, s.known
}

// get returns a value that is at most maxAge old and not outdated, reading it if needed. The read goes on when the caller that
// does it gives up, because others may wait for it; read bounds its own time. A caller that waits for another's read gives up with
// its own context, and then gets that context's error.
func (s *shared[V]) get(ctx context.Context, maxAge time.Duration, read func(context.Context) (V, error)) (V, error) {
	s.mu.Lock()
	need := s.wanted
	for {
		if s.known && s.readFor >= need && time.Since(s.at) <= maxAge {
			defer s.mu.Unlock()
			return s.value, nil
		}
		f := s.flight
		if f == nil {
			return s.fly(ctx, read)
		}
		s.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		}
		if f.need >= need {
			return f.value, f.err
		}
		s.mu.Lock()
	}
}

// fly reads. It is called with the lock held and returns without it.
func (s *shared[V]) fly(ctx context.Context, read func(context.Context) (V, error)) (V, error) {
	f := &flight[V]{done: make(chan struct{}), need: s.wanted, err: errReadPanicked}
	s.flight = f
	began := time.Now()
	s.mu.Unlock()
	defer func() { // also when read panics: those who wait must not wait for ever
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flight = nil
		if f.err == nil {
			s.known, s.value, s.at, s.readFor = true, f.value, began, f.need
		}
		close(f.done)
	}()
	f.value, f.err = read(context.WithoutCancel(ctx))
	return f.value, f.err
}
