package command

import (
	"context"
	"errors"
	"time"

	"opensandbox/services/execd/internal/reap"
)

// launched is a process whose output goes to a sink, or one that failed to start.
type launched struct {
	id     string
	began  time.Time
	pumps  []*pump
	rec    *record
	failed error // Then there is no record.
}

// launch starts a command when it is its turn, unless nobody wants it any more. The error means that there is nothing to tell the sink.
func (m *Manager) launch(ctx context.Context, r *Request, sink Sink) (*launched, error) {
	if m.keeps(r) {
		ctx = context.WithoutCancel(ctx)
	}
	over, err := m.starts.take(ctx)
	if err != nil {
		return nil, err
	}
	defer over()
	p, err := m.plan(r)
	if err != nil {
		return nil, err
	}
	run, err := m.piped(newID(), sink, "stdout", "stderr")
	if err != nil {
		return nil, err
	}
	return run.started(m.start(run.id, p, run.pumps[0].writeEnd, run.pumps[1].writeEnd, ""))
}

// launchJob is launch for a job, of which both streams are one.
func (m *Manager) launchJob(ctx context.Context, j *Job, sink Sink) (*launched, error) {
	over, err := m.starts.take(ctx)
	if err != nil {
		return nil, err
	}
	defer over()
	run, err := m.piped(j.ID, sink, "stdout")
	if err != nil {
		return nil, err
	}
	return run.started(m.startJob(j, run.pumps[0].writeEnd))
}

// piped makes the pipe of each stream.
func (m *Manager) piped(id string, sink Sink, streams ...string) (*launched, error) {
	run, file := &launched{id: id, began: time.Now()}, m.spillFile()
	for _, stream := range streams {
		p, err := newPump(stream, sink, file)
		if err != nil {
			run.abandon()
			return nil, err
		}
		run.pumps = append(run.pumps, p)
	}
	return run, nil
}

// started notes how the start went.
func (l *launched) started(rec *record, err error) (*launched, error) {
	if errors.Is(err, reap.ErrStopping) {
		l.abandon()
		return nil, stopping(err)
	}
	l.rec, l.failed = rec, err
	return l, nil
}

// abandon closes the pipes, which no process got.
func (l *launched) abandon() {
	for _, p := range l.pumps {
		p.abandon()
	}
}

func (l *launched) leaderEnded() {
	for _, p := range l.pumps {
		p.leaderEnded()
	}
}
