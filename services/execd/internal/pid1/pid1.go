// Package pid1 runs the sandbox's entry point as an init process does: it starts it, passes signals on, and when it ends takes
// everything else down with it.
package pid1

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"opensandbox/services/execd/internal/environ"
	"opensandbox/services/execd/internal/reap"
)

const (
	// Grace is the longest time between SIGTERM and SIGKILL for what the entry point leaves behind.
	Grace = 10 * time.Second
	// StopGrace is how long the entry point may go on after a SIGTERM to the sandbox. With StopRest and the last words of the daemon it is
	// within the 10 s that engines give a container before they kill all of it at once.
	StopGrace = 8 * time.Second
	// StopRest is what everything else then gets at least between SIGTERM and SIGKILL; it gets what the entry point has left of StopGrace too.
	StopRest = time.Second
	// killWait is how long killed processes may take to disappear; one that hangs in the kernel is left to the kernel.
	killWait = time.Second

	exitNotFound      = 127 // As shells answer.
	exitNotExecutable = 126
)

// Forwarded are the signals that go to the entry point's process group.
var Forwarded = []os.Signal{
	syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH,
}

// StartError says why an entry point could not be started.
type StartError struct {
	// Code is the exit status for the sandbox: 127 when nothing was found, 126 when it cannot be executed.
	Code int
	err  error
}

// Error describes the failure in one line.
func (e *StartError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *StartError) Unwrap() error { return e.err }

// Workload is a started entry point.
type Workload struct {
	reaper *reap.Reaper
	proc   *reap.Process
	root   bool // This process is PID 1 of its namespace.
}

// Adopt makes this process the one that orphans below it are handed to. PID 1 is that by nature.
func Adopt() error {
	if os.Getpid() == 1 {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the reaper of orphans: %w", err)
	}
	return nil
}

// Start runs argv in a process group of its own with our stdout and stderr and an empty stdin. No shell is involved; a single
// element that holds a blank is split into words, as OpenSandbox 1.1.1 does. The error is a *StartError.
func Start(reaper *reap.Reaper, argv, env []string) (*Workload, error) {
	if len(argv) == 1 && strings.ContainsAny(argv[0], " \t\n") {
		words, err := Split(argv[0])
		if err != nil {
			return nil, &StartError{exitNotFound, fmt.Errorf("entry point %q: %w", argv[0], err)}
		}
		argv = words
	}
	if len(argv) == 0 || argv[0] == "" {
		return nil, &StartError{exitNotFound, errors.New("entry point is empty")}
	}
	file, err := environ.LookPath(argv[0], "", environ.In(env))
	if err != nil {
		return nil, startError(argv[0], err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, startError(argv[0], err)
	}
	defer null.Close()
	proc, err := reaper.StartEntryPoint(file, argv, &syscall.ProcAttr{
		Env: env, Files: []uintptr{null.Fd(), 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return nil, startError(argv[0], fmt.Errorf("%q: %w", argv[0], err))
	}
	return &Workload{reaper: reaper, proc: proc, root: os.Getpid() == 1}, nil
}

// startError chooses the exit status. The text begins with the quoted name already.
func startError(name string, err error) error {
	code := exitNotExecutable
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		code = exitNotFound
	}
	if !strings.HasPrefix(err.Error(), strconv.Quote(name)) {
		err = fmt.Errorf("%q: %w", name, err)
	}
	return &StartError{code, fmt.Errorf("entry point %w", err)}
}

// Done is closed when the entry point has ended.
func (w *Workload) Done() <-chan struct{} { return w.proc.Done() }

// ExitCode is the status of the ended entry point: its own, or 128 + n after signal n.
func (w *Workload) ExitCode() int { return reap.ExitCode(w.proc.Status()) }

// Signal passes a signal on to the entry point's group.
func (w *Workload) Signal(sig os.Signal) {
	if s, ok := sig.(syscall.Signal); ok {
		w.reaper.SignalGroup(w.proc, s)
	}
}

// Kill ends the entry point's group at once.
func (w *Workload) Kill() { w.reaper.SignalGroup(w.proc, syscall.SIGKILL) }

// Sweep ends every process that is left: SIGTERM, at most grace, SIGKILL. It returns as soon as nothing is left, and reports
// whether there was anything. No new process can be started from here on.
func (w *Workload) Sweep(grace time.Duration) bool {
	w.reaper.Refuse()
	if !w.reaper.Collect() {
		return false
	}
	w.signalRest(syscall.SIGTERM)
	if w.empty(grace) {
		return true
	}
	w.signalRest(syscall.SIGKILL)
	w.empty(killWait)
	return true
}

// empty waits until no child is left; orphans become children as their parents end.
func (w *Workload) empty(limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	for {
		if !w.reaper.Collect() {
			return true
		}
		select {
		case <-w.reaper.Reaped():
		case <-t.C:
			return !w.reaper.Collect()
		}
	}
}

// signalRest reaches everything else in the sandbox. Only PID 1 may address "everything": elsewhere that would include strangers.
func (w *Workload) signalRest(sig syscall.Signal) {
	if w.root {
		_ = syscall.Kill(-1, sig)
		return
	}
	for _, pid := range descendants(os.Getpid()) {
		_ = syscall.Kill(pid, sig)
	}
}

// descendants returns the processes below pid.
func descendants(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// The name in parentheses may hold anything, so the fields are counted from its end: state, parent.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 2 {
			continue
		}
		if parent, err := strconv.Atoi(string(fields[1])); err == nil {
			children[parent] = append(children[parent], id)
		}
	}
	var out []int
	for queue := children[pid]; len(queue) > 0; queue = queue[1:] {
		out = append(out, queue[0])
		queue = append(queue, children[queue[0]]...)
	}
	return out
}
