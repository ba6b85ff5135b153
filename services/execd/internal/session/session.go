// Package session keeps what one run of a shell leaves to the next: exported variables, functions and the working directory.
//
// A session is no process. Each run is a shell of its own that starts with what the last one left, as in OpenSandbox 1.1.1; so a
// run that hangs, exits or is killed takes nothing along, and runs can go on at the same time. What a shell leaves is handed over
// through files in memory, never through its output: output is passed on byte by byte, whatever it looks like.
package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/command"
	"opensandbox/services/execd/internal/environ"
	"opensandbox/services/execd/internal/uuid"
)

// Max bounds the number of sessions: they are kept until they are deleted, each with its variables.
const Max = 1000

// CreateRequest makes a session.
type CreateRequest struct {
	// Cwd is where the first run starts. It may hold ~ and variables, and is made if it is missing. Empty means execd's directory.
	Cwd string `json:"cwd"`
}

// RunRequest runs a script in a session.
type RunRequest struct {
	// Command is text for bash, or for sh where there is no bash.
	Command string `json:"command"`
	// Cwd is where the run starts instead of where the last one ended. It may hold ~ and variables of the session.
	Cwd string `json:"cwd"`
	// Timeout in milliseconds; 0 means none.
	Timeout int64 `json:"timeout"`
	// Envs are literal. The run sees them as exported variables, and so do those that follow it.
	Envs map[string]string `json:"envs"`
}

// Manager keeps the sessions. Its methods may be called concurrently.
type Manager struct {
	commands *command.Manager
	log      *slog.Logger

	mu       sync.Mutex
	sessions map[string]*session
}

// session is what the next run starts with.
type session struct {
	// ctx ends when the session is deleted.
	ctx context.Context
	end context.CancelFunc

	// Guarded by the Manager's lock.
	state state
}

// New returns a Manager whose sessions run as commands does it. When commands is closed, all runs end.
func New(commands *command.Manager, log *slog.Logger) *Manager {
	return &Manager{commands: commands, log: log, sessions: map[string]*session{}}
}

func invalid(format string, args ...any) error {
	return fault.Newf(fault.Invalid, "invalid request, validation error "+format, args...).WithCode("INVALID_REQUEST_BODY")
}

func internal(format string, args ...any) error {
	return fault.Newf(fault.Internal, format, args...).WithCode("RUNTIME_ERROR")
}

// Create makes a session and returns its id. An image without a shell has no sessions, and the error says so.
func (m *Manager) Create(r *CreateRequest) (id string, err error) {
	if _, err := m.commands.Shell(); err != nil {
		return "", err
	}
	s := state{env: carried(m.commands.Environment())}
	if s.dir, err = m.commands.MakeDir(r.Cwd, s.env); err != nil {
		return "", err
	}
	ctx, end := context.WithCancel(context.Background())
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.sessions) >= Max {
		end()
		return "", internal("there are %d sessions already: delete those that are not needed", Max)
	}
	id = uuid.New()
	m.sessions[id] = &session{ctx: ctx, end: end, state: s}
	return id, nil
}

// check finds what can be wrong with a request by itself.
func (r *RunRequest) check() error {
	switch {
	case r.Command == "":
		return invalid("command is required")
	case r.Timeout < 0:
		return invalid("timeout must not be negative")
	case r.Timeout > command.MaxTimeout:
		return invalid("timeout is too large")
	case strings.Contains(r.Command, "\x00") || strings.Contains(r.Cwd, "\x00"):
		return invalid("NUL bytes are not allowed")
	}
	for k, v := range r.Envs {
		if !validName(k) || strings.Contains(v, "\x00") {
			return invalid("envs: a name must be of letters, digits and _, and a value must not hold NUL bytes")
		}
	}
	return nil
}

// Run runs a script and returns when it has ended and its output was delivered. The run ends with ctx, and with its session.
// What it leaves is kept unless it was killed. Of runs at the same time the last one to end decides.
func (m *Manager) Run(ctx context.Context, id string, r *RunRequest, sink command.Sink) (command.Result, error) {
	if err := r.check(); err != nil {
		return command.Result{}, err
	}
	m.mu.Lock()
	s, ok := m.sessions[id]
	var before state
	if ok {
		before = s.state
	}
	m.mu.Unlock()
	if !ok {
		return command.Result{}, internal("error running in session. context not found: %s", id)
	}
	shell, err := m.commands.Shell()
	if err != nil {
		return command.Result{}, err
	}
	before.env = environ.Merge(before.env, r.Envs)
	if before.dir, err = m.runDir(r.Cwd, before); err != nil {
		return command.Result{}, err
	}
	p, err := newProgram(shell, r.Command, before)
	if err != nil {
		return command.Result{}, internal("%s", err)
	}
	defer p.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	res, err := m.commands.RunJob(ctx, p.job(id, before, time.Duration(r.Timeout)*time.Millisecond), sink)
	if errors.Is(err, context.Canceled) {
		return res, internal("the run was ended before it began: its session was deleted, or its client has left")
	}
	if err != nil || res.StartErr != nil {
		return res, err
	}
	m.keep(s, p, before)
	return res, nil
}

// keep takes over what a run has left.
func (m *Manager) keep(s *session, p *program, before state) {
	after, err := p.left(before)
	if errors.Is(err, errNothing) {
		return // The shell was killed, or replaced itself by another program.
	}
	if err != nil {
		m.log.Warn("session: what a run left is not kept", "error", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.state = after
}

// runDir is where a run starts.
func (m *Manager) runDir(cwd string, s state) (string, error) {
	dir, what := s.dir, "the session's directory"
	if cwd != "" {
		var err error
		if dir, err = environ.ExpandPath(cwd, environ.In(s.env), m.commands.Home()); err != nil {
			return "", invalid("cwd: %s", err)
		}
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(s.dir, dir)
		}
		what = "cwd"
	}
	st, err := os.Stat(dir)
	switch {
	case err != nil && cwd == "":
		return "", invalid("%s: %s: name another one as cwd", what, err)
	case err != nil:
		return "", invalid("%s: %s", what, err)
	case !st.IsDir():
		return "", invalid("%s: %s is not a directory", what, dir)
	}
	return dir, nil
}

// Delete forgets a session and kills the process groups of its runs. What earlier runs left in the background goes on.
func (m *Manager) Delete(id string) error {
	m.mu.Lock()
	s, ok := m.sessions[id]
	delete(m.sessions, id)
	m.mu.Unlock()
	if !ok {
		return fault.Newf(fault.NotFound, "session %s not found", id).WithCode("CONTEXT_NOT_FOUND")
	}
	s.end()
	return nil
}

// Has reports whether there is a session of that id.
func (m *Manager) Has(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.sessions[id]
	return ok
}

// TimeoutText says that a run was ended for its time limit, as OpenSandbox 1.1.1 words it.
func TimeoutText(ms int64) string {
	return fmt.Sprintf("timeout after %s", time.Duration(ms)*time.Millisecond)
}
