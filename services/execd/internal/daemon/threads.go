package daemon

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

const (
	// mostRunning bounds the threads that run Go code at once. Where nothing else limits them they would be as many as the host has processors.
	mostRunning = 8
	// mostReserved is how many threads exist from the start: those that run, and those that wait in the kernel. 200 clients at once made the
	// daemon have up to 26 threads with searches, lists or uploads, and 76 with downloads, on a machine with ten times the load that it has processors for.
	mostReserved = 64
	// reservedShare is the part of a small limit of processes that they may take: a quarter.
	reservedShare = 4

	cgroupRoot = "/sys/fs/cgroup"
)

// reserveThreads makes n threads while they can still be had. Later the commands of the sandbox may have taken all that its limit of processes
// leaves, and a Go program that the kernel refuses a thread ends. The runtime keeps threads that have nothing to do.
func reserveThreads(n int) {
	if runtime.GOMAXPROCS(0) > mostRunning {
		runtime.GOMAXPROCS(mostRunning)
	}
	var all, over sync.WaitGroup
	all.Add(n)
	for range n {
		over.Go(func() {
			runtime.LockOSThread() // One that waits keeps its thread from all others.
			defer runtime.UnlockOSThread()
			all.Done()
			all.Wait()
		})
	}
	over.Wait()
}

// threadsToReserve looks at the limit of processes, which counts threads, in the tree of control groups at root, of either version.
func threadsToReserve(root string) int {
	for _, file := range []string{"pids.max", "pids/pids.max"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			continue
		}
		if limit, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil { // It is "max" where there is none.
			return min(limit/reservedShare, mostReserved)
		}
	}
	return mostReserved
}
