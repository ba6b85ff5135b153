package sandbox

import (
	"fmt"
	"strconv"
	"strings"

	"opensandbox/libs/fault"
)

// This file is what stores say when a node has no room, so that all say the same.

// Lack returns what is free of a capacity when want does not fit, and -1 when it fits. A capacity of 0 has no bound.
func Lack(used, want, capacity int64) int64 {
	if capacity == 0 || want == 0 {
		return -1
	}
	if free := max(capacity-used, 0); want > free {
		return free
	}
	return -1
}

// TooMany says that a node has its share of sandboxes.
func TooMany(count, bound int) string {
	return fmt.Sprintf("sandboxes: %d of %d", count, bound)
}

// ShortCPU says how much processor was wanted and is free, in milli-CPUs.
func ShortCPU(want, free int64) string {
	return fmt.Sprintf("cpu: %s wanted, %s free", cores(want), cores(free))
}

// ShortMemory says how much memory was wanted and is free, in bytes.
func ShortMemory(want, free int64) string {
	return fmt.Sprintf("memory: %s wanted, %s free", size(want), size(free))
}

// ShortPorts says that a range has too few free ports.
func ShortPorts(n, low, high int) string {
	return fmt.Sprintf("ports: %d wanted, fewer free in %d-%d", n, low, high)
}

func cores(milli int64) string { return strconv.FormatFloat(float64(milli)/1000, 'f', -1, 64) }

// size writes bytes in the largest unit that leaves nothing behind the point, so that no two different amounts look alike.
func size(bytes int64) string {
	for _, u := range []struct {
		name  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if bytes != 0 && bytes%u.bytes == 0 {
			return fmt.Sprintf("%d %s", bytes/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%d B", bytes)
}

// ErrNoCapacity returns the error of a placement for which no candidate fits. short says for each candidate what it lacks.
func ErrNoCapacity(id ID, short []string) error {
	text := "no node is available"
	if len(short) > 0 {
		text = "no node has room: " + strings.Join(short, "; ")
	}
	return fault.New(fault.Unavailable, text).WithCode(ReasonNoCapacity).About(string(id))
}
