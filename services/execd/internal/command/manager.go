// Package command runs commands for clients: in the foreground with streamed output, or in the background with output in a
// file. It knows nothing of HTTP.
package command

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/environ"
	"opensandbox/services/execd/internal/reap"
)

const (
	// Retention is how long a finished command can be asked about: a day, as in OpenSandbox 1.1.1. Of foreground commands only the last are
	// kept; see maxHistory.
	Retention = 24 * time.Hour
	// purgeEvery is the time between two looks for finished commands that are older than Retention.
	purgeEvery = time.Hour
	// startsAtOnce bounds how many commands are on their way into being at a time. A start is a dozen calls of the kernel; hundreds at once keep
	// as many threads waiting in it, a thread each, and everything else waits behind them. So few take no longer in all.
	startsAtOnce = 16
	// startFailed is the exit code of a background command that could not be started, as in OpenSandbox 1.1.1.
	startFailed = 255
)

// Starter starts processes and signals their groups; *reap.Reaper is one.
type Starter interface {
	// Start runs a file; reap.ErrStopping means that the sandbox is going down.
	Start(file string, argv []string, attr *syscall.ProcAttr) (*reap.Process, error)
	// SignalGroup signals the group of a leader that was not collected yet.
	SignalGroup(p *reap.Process, sig syscall.Signal)
	// OrphanGroup signals what is left of a group and reports whether there was anything.
	OrphanGroup(p *reap.Process, sig syscall.Signal) bool
}

// Config is what a Manager needs.
type Config struct {
	Starter Starter
	// Env is the environment that every command starts from, without execd's secrets.
	Env []string
	// EnvFile is read for each command; empty means none.
	EnvFile string
	// OutputDirs are tried in order for the output of background commands; the first that can be written is used. So are those for output
	// that waits for its reader.
	OutputDirs []string
	// KeepOnDisconnect lets foreground commands go on whose client went away and whose request does not say what to do then.
	KeepOnDisconnect bool
	// SpillLimit is how many bytes of a command's output may wait in a file for a client that does not take them; 0 means none. What has
	// no room there makes the command wait.
	SpillLimit int64
	Log        *slog.Logger
}

// Manager starts commands and remembers them. Its methods may be called concurrently.
type Manager struct {
	cfg  Config
	home string

	starts  turns
	mu      sync.Mutex
	records map[string]*record
	history history // A part of records.
	outDir  string
	closed  bool

	ctx     context.Context
	cancel  context.CancelFunc
	workers sync.WaitGroup
}

// record is one command.
type record struct {
	id       string
	content  string
	started  time.Time
	output   string // The log of a background command; empty for a foreground one.
	proc     *reap.Process
	finished chan struct{} // Closed after the fields below were set.

	// Guarded by the Manager's lock. ended is zero while the command runs.
	ended   time.Time
	code    int
	problem string
}

// Status is what clients learn about a command.
type Status struct {
	ID         string     `json:"id"`
	Content    string     `json:"content"`
	Running    bool       `json:"running"`
	ExitCode   *int       `json:"exit_code,omitempty"`
	Error      string     `json:"error,omitempty"`
	StartedAt  time.Time  `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
}

// New returns a Manager and starts the hourly purge, which ends with Close.
func New(cfg Config) *Manager {
	ctx, cancel := context.WithCancel(context.Background())
	m := &Manager{cfg: cfg, home: environ.Home(environ.In(cfg.Env)), starts: make(turns, startsAtOnce), records: map[string]*record{}, ctx: ctx, cancel: cancel}
	m.workers.Go(m.purgeLoop)
	return m
}

// Close kills the groups of all running commands, closes the pipes that left-over processes still write to, and waits for all
// goroutines.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.cancel()
	m.workers.Wait()
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // Never fails; it ends the program instead.
	return hex.EncodeToString(b[:])
}

// start runs a plan with the given output files and keeps its record.
func (m *Manager) start(id string, p *plan, stdout, stderr uintptr, output string) (*record, error) {
	if p.refusal != nil {
		return nil, p.refusal
	}
	null, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	defer syscall.Close(null)
	began := time.Now()
	proc, err := m.cfg.Starter.Start(p.file, p.argv, &syscall.ProcAttr{
		Dir: p.dir, Env: p.env, Sys: p.sys, Files: []uintptr{uintptr(null), stdout, stderr},
	})
	if errors.Is(err, reap.ErrStopping) {
		return nil, err
	}
	if err != nil {
		return nil, explain(err, p)
	}
	rec := &record{id: id, content: p.content, started: began, output: output, proc: proc, finished: make(chan struct{})}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records[id] = rec
	m.workers.Go(func() { m.watch(rec, p.timeout) })
	return rec, nil
}

// enter counts the caller as a worker until it calls workers.Done, so that Close waits for requests that are on their way.
func (m *Manager) enter() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.workers.Add(1)
	}
	return !m.closed
}

// watch waits for the end of a command and records it. A time-out kills the whole group; when the leader ends by itself, what
// it left behind goes on.
func (m *Manager) watch(rec *record, timeout time.Duration) {
	var expired <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-rec.proc.Done():
	case <-expired:
		m.cfg.Starter.SignalGroup(rec.proc, syscall.SIGKILL)
		<-rec.proc.Done()
	case <-m.ctx.Done():
		m.cfg.Starter.SignalGroup(rec.proc, syscall.SIGKILL)
		<-rec.proc.Done()
	}
	code, problem := describe(rec.proc.Status())
	m.mu.Lock()
	rec.ended, rec.code, rec.problem = time.Now(), code, problem
	if rec.output == "" && m.records[rec.id] == rec { // Not a job, which is in no list.
		for _, id := range m.history.add(rec) {
			delete(m.records, id)
		}
	}
	m.mu.Unlock()
	close(rec.finished)
}

// describe gives exit code and text as OpenSandbox 1.1.1 words them: -1 for a death by signal.
func describe(ws syscall.WaitStatus) (code int, problem string) {
	switch {
	case ws.Signaled():
		problem = "signal: " + ws.Signal().String()
		if ws.CoreDump() {
			problem += " (core dumped)"
		}
		return -1, problem
	case ws.ExitStatus() != 0:
		return ws.ExitStatus(), "exit status " + strconv.Itoa(ws.ExitStatus())
	default:
		return 0, ""
	}
}

// Status returns what is known about a command.
func (m *Manager) Status(id string) (Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, ok := m.records[id]
	if !ok {
		return Status{}, fault.Newf(fault.NotFound, "command not found: %s", id).WithCode("INVALID_REQUEST_BODY")
	}
	s := Status{ID: rec.id, Content: rec.content, StartedAt: rec.started, Running: rec.ended.IsZero()}
	if !s.Running {
		code, ended := rec.code, rec.ended
		s.ExitCode, s.Error, s.FinishedAt = &code, rec.problem, &ended
	}
	return s, nil
}

func (m *Manager) purgeLoop() {
	t := time.NewTicker(purgeEvery)
	defer t.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case now := <-t.C:
			m.Purge(now)
		}
	}
}

// Purge forgets the commands that finished more than Retention before now, with their output files, and removes output files of
// that age that belong to no command: those of an earlier run in the same container.
func (m *Manager) Purge(now time.Time) {
	m.mu.Lock()
	keep := map[string]bool{}
	var gone []string
	for id, rec := range m.records {
		if !rec.ended.IsZero() && now.Sub(rec.ended) > Retention {
			delete(m.records, id)
			gone = append(gone, rec.output)
			continue
		}
		keep[rec.output] = true
	}
	m.history.forget(func(rec *record) bool { return m.records[rec.id] == nil })
	dir := m.outDir
	m.mu.Unlock()
	for _, path := range gone {
		if path == "" {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			m.cfg.Log.Warn("output file not removed", "error", err)
		}
	}
	if dir != "" {
		removeOld(dir, now.Add(-Retention), keep)
	}
}
