package deadline

import "time"

// maxSlew is how much faster than the machine's uptime the slewed clock may run while it catches up.
const maxSlew = 1.1

// SlewedClock is a wall clock that cannot jump ahead: it advances at most 1.1 times as fast as the time since boot (which counts
// suspension), so that setting the machine's clock forward ends no sandbox. It follows a clock that is set back at once, since
// being late is the lesser harm. Not safe for concurrent use.
type SlewedClock struct {
	wall func() time.Time
	boot func() time.Duration

	last     time.Time
	lastBoot time.Duration
}

// NewSlewedClock returns a clock over a wall clock and the time since boot.
func NewSlewedClock(wall func() time.Time, boot func() time.Duration) *SlewedClock {
	return &SlewedClock{wall: wall, boot: boot}
}

// Now returns the slewed time and how far it is behind the wall clock.
func (c *SlewedClock) Now() (now time.Time, lag time.Duration) {
	wall, boot := c.wall(), c.boot()
	if c.last.IsZero() {
		c.last, c.lastBoot = wall, boot
		return wall, 0
	}
	limit := c.last.Add(time.Duration(float64(boot-c.lastBoot) * maxSlew))
	c.last, c.lastBoot = wall, boot
	if wall.After(limit) {
		c.last = limit
	}
	return c.last, wall.Sub(c.last)
}
