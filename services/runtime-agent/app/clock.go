package app

import (
	"os"
	"strings"
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

// boots returns the id that the kernel gave to this start of the machine (random(4)), empty if it cannot be read, and the time since then.
func boots() (id string, up time.Duration) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", boot()
	}
	return strings.TrimSpace(string(b)), boot()
}

func boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
