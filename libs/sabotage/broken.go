//go:build sabotage

package sabotage

import (
	"os"
	"slices"

	"opensandbox/libs/executor"
)

// BrokenVariable names the environment variable with the one promise that a process breaks, so that a test can show that it would notice.
const BrokenVariable = "SABOTAGE_BROKEN"

// The broken promises about the store.
const (
	// LostRenewal acknowledges renewals that it does not write.
	LostRenewal = "lost-renewal"
	// LostPatch acknowledges patches of metadata that it does not write.
	LostPatch = "lost-patch"
	// EarlyDeadline writes deadlines that are ten seconds before those it acknowledges.
	EarlyDeadline = "early-deadline"
	// LateDeadline never ends a sandbox by its deadline.
	LateDeadline = "late-deadline"
	// IgnoredKey takes every create for one without an idempotency key.
	IgnoredKey = "ignored-key"
	// StaleRead shows deadlines and metadata as they were up to two seconds ago.
	StaleRead = "stale-read"
)

// The broken promises about what the store holds on Redis.
const (
	// KeptPort leaves the ports of a sandbox leased when the sandbox has ended.
	KeptPort = "kept-port"
	// KeptSecret leaves the credentials of a sandbox when it has ended.
	KeptSecret = "kept-secret"
	// KeptDeadline leaves a sandbox that has ended in the index of deadlines.
	KeptDeadline = "kept-deadline"
	// KeptKey leaves a key that is named after a sandbox which has ended.
	KeptKey = "kept-key"
)

// The broken promises about the engine.
const (
	// KeptContainer says that it has removed what it leaves, so that the ports of the sandbox are given free while the container has them.
	KeptContainer = "kept-container"
	// KeptVolume says that it has removed volumes that it leaves.
	KeptVolume = "kept-volume"
	// KeptNetwork makes a network for each sandbox and leaves it.
	KeptNetwork = "kept-network"
	// KeptFile makes a file for each sandbox in the directory of the agent and leaves it.
	KeptFile = "kept-file"
	// SecondContainer makes two containers for each epoch of a sandbox.
	SecondContainer = "second-container"
	// EarlyKill ends a sandbox when the next one is started.
	EarlyKill = "early-kill"
	// FailedStart fails every third start.
	FailedStart = "failed-start"
)

// The broken promises about the process itself. Each keeps something for every sandbox until the process ends.
const (
	// KeptMemory keeps a megabyte.
	KeptMemory = "kept-memory"
	// KeptDescriptor keeps a file open.
	KeptDescriptor = "kept-descriptor"
	// KeptGoroutine keeps a goroutine waiting.
	KeptGoroutine = "kept-goroutine"
	// KeptThread keeps a thread waiting.
	KeptThread = "kept-thread"
)

// broken returns the promise that this process breaks if it is one of some.
func broken(some ...string) (promise string, ok bool) {
	promise = os.Getenv(BrokenVariable)
	return promise, slices.Contains(some, promise)
}

// Broken returns next without the promise about the store that this process breaks; next itself if there is none.
func Broken(next Ports) Ports {
	switch promise, _ := broken(); promise {
	case LostRenewal, LostPatch, EarlyDeadline, LateDeadline, IgnoredKey:
		return brokenStore{next, promise}
	case StaleRead:
		return &staleReads{Ports: next, last: map[string]reading{}}
	}
	return next
}

// BreaksRedis reports whether BrokenRedis is of use in this process.
func BreaksRedis() bool {
	_, ok := broken(KeptPort, KeptSecret, KeptDeadline, KeptKey)
	return ok
}

// BrokenRedis returns next without the promise about Redis that this process breaks. do carries out a command on the server that has the records of
// the installation.
func BrokenRedis(next Ports, installation string, do Command) Ports {
	promise, _ := broken()
	return brokenRedis{next, promise, "osb:" + installation + ":{c0}:", do}
}

// BrokenExecutor returns next without the promise about the engine, or about the process, that this process breaks; next itself if there is none,
// or if it lacks one of the powers that Docker has. stateDir is the directory of the agent.
func BrokenExecutor(next executor.Executor, stateDir string) executor.Executor {
	whole, isWhole := next.(wholeEngine)
	promise, ok := broken(KeptContainer, KeptFile, EarlyKill, FailedStart, KeptMemory, KeptDescriptor, KeptGoroutine, KeptThread)
	if !ok || !isWhole {
		return next
	}
	return &brokenExecutor{wholeEngine: whole, promise: promise, stateDir: stateDir}
}
