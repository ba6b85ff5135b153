package app

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot returns a clock that runs steadily, also while the machine is suspended (clock_gettime(2), CLOCK_BOOTTIME): nobody sets it, and
// a node that slept is not taken for one that has just renewed its lease.
func sinceBoot() func() time.Time {
	begin, base := time.Now(), boot()
	if base == 0 {
		return time.Now // cannot happen on a kernel that Go runs on
	}
	return func() time.Time { return begin.Round(0).Add(boot() - base) }
}

func boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
