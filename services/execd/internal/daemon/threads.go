package daemon

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// mostRunning bounds the threads that run Go code at once. Where nothing else limits them they would be as many as the host has processors.
	mostRunning = 8
	// mostReserved is how many threads exist from the start: those that run, and those that wait in the kernel. 200 clients at once made the
	// daemon have up to 26 threads with searches, lists or uploads, and 76 with downloads, on a machine with ten times the load that it has processors for.
	mostReserved = 64
	// They may take a quarter of what the sandbox may have, and of what its user may have on the whole node a small part: others have sandboxes
	// with the same user.
	shareOfSandbox, shareOfUser = 4, 128

	cgroupRoot = "/sys/fs/cgroup"
)

// reserveThreads makes threads while they can still be had. Later the commands of the sandbox may have taken all that its limit of processes
// leaves, and a Go program that the kernel refuses a thread ends. The runtime keeps threads that have nothing to do.
func reserveThreads() {
	if runtime.GOMAXPROCS(0) > mostRunning {
		runtime.GOMAXPROCS(mostRunning)
	}
	makeThreads(threadsToReserve(cgroupRoot, processesPerUser()))
}

func makeThreads(n int) {
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

// threadsToReserve looks at the limits of processes, which count threads: that of the sandbox is in the tree of control groups at root, of either
// version, and perUser is that of its user.
func threadsToReserve(root string, perUser uint64) int {
	n := int(min(perUser/shareOfUser, mostReserved))
	for _, file := range []string{"pids.max", "pids/pids.max"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			continue
		}
		if limit, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil { // It is "max" where there is none.
			return min(limit/shareOfSandbox, n)
		}
	}
	return n
}

// processesPerUser is the limit of setrlimit(2).
func processesPerUser() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NPROC, &limit); err != nil {
		return unix.RLIM_INFINITY
	}
	return limit.Cur
}
