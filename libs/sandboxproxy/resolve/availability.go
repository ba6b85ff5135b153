package resolve

import (
	"sync/atomic"
	"time"
)

// availability remembers whether the last read of the store failed. Times are nanoseconds since began, which is set before the first use
// and carries the monotonic clock.
type availability struct {
	began  time.Time
	away   atomic.Bool
	leftAt atomic.Int64
	spoke  atomic.Int64
}

func (a *availability) isAway() bool { return a.away.Load() }

// left notes that the store did not answer, and reports whether that is news.
func (a *availability) left() bool {
	if a.away.Load() {
		return false
	}
	a.leftAt.Store(int64(time.Since(a.began)))
	return !a.away.Swap(true)
}

// heard notes that the store has answered, and reports whether that is news.
func (a *availability) heard() bool {
	a.spoke.Store(int64(time.Since(a.began)))
	return a.away.Load() && a.away.Swap(false)
}

// awayFor returns for how long the store has been away, if it is.
func (a *availability) awayFor() (bool, time.Duration) {
	return a.away.Load(), time.Since(a.began) - time.Duration(a.leftAt.Load())
}

// silentFor returns the time since the last answer.
func (a *availability) silentFor() time.Duration {
	return time.Since(a.began) - time.Duration(a.spoke.Load())
}
