package app

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"opensandbox/libs/fault"
)

// freshFor is how long an answer of the store counts as reaching it. The loops ask at least each second.
const freshFor = 5 * time.Second

// pulse is a store that remembers when it last answered the question for its time, which the loop of node loss asks each second, and what
// it said.
type pulse struct {
	Store
	// at is when it answered, in nanoseconds since 1970 by this machine's clock; 0: never. offset is how far the store's clock was ahead.
	at, offset atomic.Int64
}

// Now implements Store.
func (p *pulse) Now(ctx context.Context) (time.Time, error) {
	asked := time.Now()
	theirs, err := p.Store.Now(ctx)
	if err == nil {
		ours := time.Now()
		p.offset.Store(int64(theirs.Sub(asked.Add(ours.Sub(asked) / 2))))
		p.at.Store(ours.UnixNano())
	}
	return theirs, err
}

// ahead returns how far the store's clock is ahead of this machine's; negative when it is behind.
func (p *pulse) ahead() time.Duration { return time.Duration(p.offset.Load()) }

// ready returns nil if the store has answered lately.
func (p *pulse) ready(now time.Time) error {
	at := p.at.Load()
	if at == 0 {
		return fault.New(fault.Unavailable, "the store has not been reached yet")
	}
	if age := now.Sub(time.Unix(0, at)); age > freshFor {
		return fault.Newf(fault.Unavailable, "the store has not been reached for %s", fmt.Sprint(age.Round(time.Second)))
	}
	return nil
}
