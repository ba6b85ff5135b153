package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"opensandbox/services/execd/internal/reap"
)

// ErrTimedOut is returned by RunJob when the time was over: the whole group of the job was killed.
var ErrTimedOut = errors.New("the time is over")

// Job is a process that another package has prepared. It is run like a command in the foreground, with three differences: both of
// its streams are one, in the order in which they were written; it cannot be asked about; and it ends when its reader leaves.
type Job struct {
	// ID is told to the sink.
	ID   string
	File string
	Argv []string
	Env  []string
	Dir  string
	// Inherit are open files that the process gets under the numbers from FirstFile (at least 3) on.
	Inherit   []*os.File
	FirstFile int
	// Timeout of 0 means none.
	Timeout time.Duration
}

// RunJob runs j and returns when it has ended and its output was delivered to the sink as "stdout". When ctx ends, the group of
// the job is killed, and the result tells of that. The error is ErrTimedOut, or says, before the sink heard anything, that nothing
// could be run at all: that of ctx if it ended before it was the job's turn.
func (m *Manager) RunJob(ctx context.Context, j *Job, sink Sink) (Result, error) {
	if !m.enter() {
		return Result{}, stopping(reap.ErrStopping)
	}
	defer m.workers.Done()
	run, err := m.launchJob(ctx, j, sink)
	if err != nil {
		return Result{}, err
	}
	sink.Started(run.id)
	if run.failed != nil {
		run.abandon()
		return Result{StartErr: fmt.Errorf("%s: %w", j.File, run.failed)}, nil
	}
	m.pump(run)
	late := m.endJob(ctx, run.rec, j.Timeout)
	run.leaderEnded()
	for _, p := range run.pumps {
		<-p.delivered
	}
	if late {
		return Result{}, ErrTimedOut
	}
	return m.result(run), nil
}

// startJob starts the process. Its record is in no list: only RunJob knows it.
func (m *Manager) startJob(j *Job, output uintptr) (*record, error) {
	null, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	defer syscall.Close(null)
	files := []uintptr{uintptr(null), output, output}
	for len(files) < j.FirstFile {
		files = append(files, ^uintptr(0)) // Closed in the child.
	}
	for _, f := range j.Inherit {
		files = append(files, f.Fd())
	}
	proc, err := m.cfg.Starter.Start(j.File, j.Argv, &syscall.ProcAttr{
		Dir: j.Dir, Env: j.Env, Sys: &syscall.SysProcAttr{Setpgid: true}, Files: files,
	})
	if err != nil {
		return nil, err
	}
	rec := &record{id: j.ID, started: time.Now(), proc: proc, finished: make(chan struct{})}
	m.workers.Go(func() { m.watch(rec, 0) })
	return rec, nil
}

// endJob waits for the end of a job, which it brings about when the time is over or ctx ends. It reports whether the time was over.
func (m *Manager) endJob(ctx context.Context, rec *record, timeout time.Duration) (late bool) {
	var expired <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-rec.finished:
		return false
	case <-expired:
		late = true
	case <-ctx.Done():
	}
	m.cfg.Starter.SignalGroup(rec.proc, syscall.SIGKILL)
	<-rec.finished
	return late
}
