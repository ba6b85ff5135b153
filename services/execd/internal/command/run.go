package command

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/reap"
)

const (
	// drainIdle is how long the pipes must be silent, after the command itself ended, before its answer is closed: output of a
	// child that it left behind is welcome, but nobody waits for it.
	drainIdle = 20 * time.Millisecond
	// drainMax ends the wait for left-over children that never fall silent: the drain window of OpenSandbox 1.1.1.
	drainMax = 200 * time.Millisecond
	// killGrace is the time between SIGTERM and SIGKILL of an interrupt, and killPoll the time between two looks, as in
	// OpenSandbox 1.1.1.
	killGrace = 3 * time.Second
	killPoll  = 50 * time.Millisecond
	killWait  = 150 * time.Millisecond
)

// Sink receives what happens to a command. Output is called from two goroutines; after it returned an error the rest of the
// output is thrown away while the command goes on. A call that takes longer than 20 ms makes the command's further output wait elsewhere.
type Sink interface {
	// Started tells the id, before any output.
	Started(id string)
	// Output delivers lines of "stdout" or "stderr" with their terminators. The slices are valid during the call only.
	Output(stream string, lines [][]byte) error
}

// Result is the end of a command.
type Result struct {
	// Took is the time from start to end; for a background command, the time to start it.
	Took time.Duration
	// Code is the exit code; -1 for a death by signal, and when output was lost that waited on a disk for a slow reader. It means nothing when StartErr is set.
	Code int
	// Problem is the end in words when Code is not 0.
	Problem string
	// StartErr says why the command could not be started.
	StartErr error
}

// Foreground runs a command and returns when it has ended and its output was delivered, or with ctx's error when ctx ended
// first: the command is then ended too, or goes on without a reader, as Request.OnDisconnect says; one that is to be ended is not begun when
// ctx ends before it was its turn. Requests that cannot be right are refused before the sink hears anything.
func (m *Manager) Foreground(ctx context.Context, r *Request, sink Sink) (Result, error) {
	if !m.enter() {
		return Result{}, stopping(reap.ErrStopping)
	}
	defer m.workers.Done()
	run, err := m.launch(ctx, r, sink)
	if err != nil {
		return Result{}, err
	}
	sink.Started(run.id)
	if run.failed != nil {
		run.abandon()
		return Result{StartErr: run.failed}, nil
	}
	m.pump(run)
	select {
	case <-run.rec.finished:
	case <-ctx.Done():
		m.left(r, run.rec)
		return Result{}, ctx.Err()
	}
	run.leaderEnded()
	for _, p := range run.pumps {
		select {
		case <-p.delivered:
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
	return m.result(run), nil
}

// result is the end of a command whose output was delivered. Output that was lost on the way is a failure, whatever the command itself says.
func (m *Manager) result(run *launched) Result {
	m.mu.Lock()
	res := Result{Took: run.rec.ended.Sub(run.began), Code: run.rec.code, Problem: run.rec.problem}
	m.mu.Unlock()
	for _, p := range run.pumps {
		if p.lost != nil {
			res.Code, res.Problem = -1, p.lost.Error()
			m.cfg.Log.Error("output was lost", "stream", p.stream, "error", p.lost)
		}
	}
	return res
}

// left ends a command whose client went away, unless it is to be kept or has ended already: what it left behind then goes on.
func (m *Manager) left(r *Request, rec *record) {
	select {
	case <-rec.finished:
		return
	default:
	}
	if !m.keeps(r) {
		m.workers.Go(func() { m.end(m.ctx, rec) })
	}
}

// keeps reports whether the command goes on when its client goes away.
func (m *Manager) keeps(r *Request) bool {
	if r.OnDisconnect == "" {
		return m.cfg.KeepOnDisconnect
	}
	return r.OnDisconnect == KeepCommand
}

func stopping(err error) error {
	return fault.New(fault.Unavailable, "the sandbox is shutting down").WithCode("RUNTIME_ERROR").Because(err)
}

// pump reads each pipe until its last writer is gone, also long after the request: a server that somebody left behind must not die of SIGPIPE
// because its first reader went away.
func (m *Manager) pump(run *launched) {
	for _, p := range run.pumps {
		syscall.Close(int(p.writeEnd))
		stop := context.AfterFunc(m.ctx, func() { p.r.Close() })
		m.workers.Go(func() {
			defer stop()
			p.run()
		})
	}
}

// Background starts a command whose output goes to a file. A command that cannot be started is remembered with exit code 255.
func (m *Manager) Background(r *Request, sink Sink) (Result, error) {
	if !m.enter() {
		return Result{}, stopping(reap.ErrStopping)
	}
	defer m.workers.Done()
	id, res, err := m.launchInBackground(r)
	if err != nil {
		return Result{}, err
	}
	sink.Started(id)
	return res, nil
}

// launchInBackground starts a command whose output goes to a file, when it is its turn.
func (m *Manager) launchInBackground(r *Request) (id string, _ Result, _ error) {
	over, err := m.starts.take(m.ctx) // A command in the background outlives its request.
	if err != nil {
		return "", Result{}, stopping(err)
	}
	defer over()
	p, err := m.plan(r)
	if err != nil {
		return "", Result{}, err
	}
	id, began := newID(), time.Now()
	f, err := m.createOutput(id)
	if err != nil {
		return "", Result{}, fault.New(fault.Internal, err.Error()).WithCode("RUNTIME_ERROR")
	}
	defer f.Close()
	_, err = m.start(id, p, f.Fd(), f.Fd(), f.Name())
	if errors.Is(err, reap.ErrStopping) {
		_ = os.Remove(f.Name())
		return "", Result{}, stopping(err)
	}
	if err != nil {
		m.remember(id, p, f.Name(), began, err)
	}
	return id, Result{Took: time.Since(began), StartErr: err}, nil
}

// remember keeps a record of a command that never started.
func (m *Manager) remember(id string, p *plan, output string, began time.Time, err error) {
	rec := &record{
		id: id, content: p.content, started: began, output: output, finished: make(chan struct{}),
		ended: time.Now(), code: startFailed, problem: err.Error(),
	}
	close(rec.finished)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records[id] = rec
}

// Interrupt ends a command and everything in its group: SIGTERM, at most killGrace, SIGKILL. A command that has ended already
// is left alone, and that is a success: clients repeat the call.
func (m *Manager) Interrupt(ctx context.Context, id string) error {
	m.mu.Lock()
	rec, ok := m.records[id]
	m.mu.Unlock()
	if !ok {
		return fault.Newf(fault.Internal, "no such session: %s", id).WithCode("RUNTIME_ERROR")
	}
	select {
	case <-rec.finished:
		return nil
	default:
	}
	m.end(ctx, rec)
	return nil
}

// end gives the group of a running command SIGTERM and, after killGrace or when ctx ends before, SIGKILL.
func (m *Manager) end(ctx context.Context, rec *record) {
	m.cfg.Starter.SignalGroup(rec.proc, syscall.SIGTERM)
	if m.groupGone(ctx, rec, killGrace) {
		return
	}
	m.cfg.Starter.OrphanGroup(rec.proc, syscall.SIGKILL)
	m.groupGone(context.WithoutCancel(ctx), rec, killWait)
}

// groupGone waits until the leader was collected and its group is empty, at most limit.
func (m *Manager) groupGone(ctx context.Context, rec *record, limit time.Duration) bool {
	end := time.NewTimer(limit)
	defer end.Stop()
	done := rec.finished
	look := time.NewTicker(killPoll)
	defer look.Stop()
	for {
		select {
		case <-done:
			if !m.cfg.Starter.OrphanGroup(rec.proc, 0) {
				return true
			}
			done = nil
		case <-look.C:
			if done == nil && !m.cfg.Starter.OrphanGroup(rec.proc, 0) {
				return true
			}
		case <-end.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
