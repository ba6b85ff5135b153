// Package reap starts processes and collects every child that ends, including orphans that the kernel hands to this process.
//
// There is exactly one caller of wait in the whole program, so an orphan collector and the code that waits for a command cannot
// take each other's exit statuses. Nothing else may start processes: os/exec would lose its children to this package.
package reap

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// ErrStopping is returned by Start after Refuse: the sandbox is shutting down.
var ErrStopping = errors.New("the sandbox is shutting down")

// Process is a child started by a Reaper.
type Process struct {
	// PID is also the process group when the child was started with Setpgid.
	PID    int
	done   chan struct{}
	status syscall.WaitStatus
}

// Done is closed after the child ended and was collected.
func (p *Process) Done() <-chan struct{} { return p.done }

// Status returns how the child ended. It is valid only after Done is closed.
func (p *Process) Status() syscall.WaitStatus { return p.status }

// Reaper owns all children of this process. Create one per process; its methods may be called concurrently.
type Reaper struct {
	signals chan os.Signal
	stop    chan struct{}
	stopped chan struct{}
	reaped  chan struct{}
	score   int // Of this process when memory runs out; see volunteer.

	// mu is held from fork until the pid is registered, and while a status is fetched: a child that ends at once cannot be
	// collected before it is known, and a pid cannot be signalled after it was collected (and perhaps given to someone else).
	mu      sync.Mutex
	live    map[int]*Process
	refused bool
}

// New starts the collecting goroutine, which ends with Close.
func New() *Reaper {
	r := &Reaper{
		signals: make(chan os.Signal, 1),
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		reaped:  make(chan struct{}, 1),
		score:   ownScore(),
		live:    map[int]*Process{},
	}
	signal.Notify(r.signals, syscall.SIGCHLD)
	go r.run()
	return r
}

// Close stops collecting and waits for the goroutine. Children stay as they are.
func (r *Reaper) Close() {
	signal.Stop(r.signals)
	close(r.stop)
	<-r.stopped
}

func (r *Reaper) run() {
	defer close(r.stopped)
	for {
		select {
		case <-r.signals:
			r.Collect()
		case <-r.stop:
			return
		}
	}
}

// Start runs the executable file for a client. When memory runs out, the kernel kills it before the entry point and this process. A bare errno is
// returned when the kernel refuses.
func (r *Reaper) Start(file string, argv []string, attr *syscall.ProcAttr) (*Process, error) {
	return r.start(file, argv, attr, commandFirst)
}

// StartEntryPoint is Start for the process that the sandbox lives as long as.
func (r *Reaper) StartEntryPoint(file string, argv []string, attr *syscall.ProcAttr) (*Process, error) {
	return r.start(file, argv, attr, entryPointFirst)
}

func (r *Reaper) start(file string, argv []string, attr *syscall.ProcAttr, first int) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refused {
		return nil, ErrStopping
	}
	pid, err := syscall.ForkExec(file, argv, attr)
	if err != nil {
		return nil, err
	}
	r.volunteer(pid, first)
	p := &Process{PID: pid, done: make(chan struct{})}
	r.live[pid] = p
	return p, nil
}

// Refuse makes every later Start fail with ErrStopping.
func (r *Reaper) Refuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = true
}

// SignalGroup signals the process group that p leads. It does nothing once p was collected: members that outlive their leader
// are reached with OrphanGroup.
func (r *Reaper) SignalGroup(p *Process, sig syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.live[p.PID]; ok {
		_ = syscall.Kill(-p.PID, sig)
	}
}

// OrphanGroup signals what is left of the group whose leader was p, and reports whether anything was left. Signal 0 only asks.
// The kernel does not reuse a number while a group has it, so this reaches strangers only if the group emptied and the number
// came round again since the last call.
func (r *Reaper) OrphanGroup(p *Process, sig syscall.Signal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return syscall.Kill(-p.PID, sig) == nil
}

// Reaped delivers a value after at least one child was collected since the last receive. It has one reader at a time.
func (r *Reaper) Reaped() <-chan struct{} { return r.reaped }

// Collect takes the status of every child that has ended and reports whether any child is left.
func (r *Reaper) Collect() (left bool) {
	for {
		pid, left := r.collectOne()
		if pid <= 0 {
			return left
		}
		select {
		case r.reaped <- struct{}{}:
		default:
		}
	}
}

func (r *Reaper) collectOne() (pid int, left bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	for errors.Is(err, syscall.EINTR) {
		pid, err = syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
	}
	if err != nil {
		return 0, false
	}
	if p, ok := r.live[pid]; ok {
		delete(r.live, pid)
		p.status = status
		close(p.done)
	}
	return pid, true
}

// ExitCode turns a status into a shell's view of it: the code, or 128 + n for a death by signal n.
func ExitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}
