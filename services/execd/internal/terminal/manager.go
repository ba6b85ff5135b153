// Package terminal runs shells on pseudo terminals, or on pipes, that outlive the connections of their clients. It knows nothing of
// HTTP and WebSocket.
//
// A terminal has at most one process at a time, which the first client starts. One client, the holder, reads and writes; any number
// of viewers read. What was printed is kept, up to a limit, for clients that come later.
package terminal

import (
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"syscall"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/command"
	"opensandbox/services/execd/internal/environ"
	"opensandbox/services/execd/internal/uuid"
)

// Max bounds the number of terminals: they are kept until they are deleted, each with the last of its output.
const Max = 256

// ErrOccupied says that somebody else holds the terminal.
var ErrOccupied = fault.New(fault.Conflict, "another client is connected to this terminal; takeover=1 takes its place").WithCode("ALREADY_CONNECTED")

// CreateRequest makes a terminal.
type CreateRequest struct {
	// Cwd is where its process starts. It may hold ~ and variables, and is made if it is missing. Empty means execd's directory.
	Cwd string `json:"cwd"`
	// Command is text for the shell. Empty means that the shell reads from the terminal.
	Command string `json:"command"`
}

// Config is what a Manager needs.
type Config struct {
	Starter command.Starter
	// Commands finds the shell, the environment and the directory.
	Commands *command.Manager
	// Proc is where the kernel shows processes: /proc.
	Proc string
	Log  *slog.Logger
}

// Manager keeps the terminals. Its methods may be called concurrently.
type Manager struct {
	cfg Config

	mu        sync.Mutex
	terminals map[string]*terminal
	closed    bool

	workers sync.WaitGroup
}

// New returns a Manager.
func New(cfg Config) *Manager {
	return &Manager{cfg: cfg, terminals: map[string]*terminal{}}
}

// Status is what clients learn about a terminal.
type Status struct {
	ID      string `json:"session_id"`
	Running bool   `json:"running"`
	// OutputOffset is how much was printed since the beginning, in bytes.
	OutputOffset int64 `json:"output_offset"`
}

// Create makes a terminal and returns its id. Nothing runs until a client attaches.
func (m *Manager) Create(r *CreateRequest) (id string, err error) {
	if _, err := m.cfg.Commands.Shell(); err != nil {
		return "", err
	}
	env := m.cfg.Commands.Environment()
	dir, err := m.cfg.Commands.MakeDir(r.Cwd, env)
	if err != nil {
		return "", err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.terminals) >= Max {
		return "", fault.Newf(fault.Internal, "there are %d terminals already: delete those that are not needed", Max).WithCode("RUNTIME_ERROR")
	}
	id = uuid.New()
	m.terminals[id] = &terminal{
		m: m, id: id, env: env, dir: dir, command: r.Command,
		cols: startCols, rows: startRows, changed: make(chan struct{}), viewers: map[*Client]struct{}{},
	}
	return id, nil
}

func (m *Manager) find(id string) (*terminal, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.terminals[id]
	if !ok {
		return nil, fault.Newf(fault.NotFound, "terminal %s not found", id).WithCode("CONTEXT_NOT_FOUND")
	}
	return t, nil
}

// Status tells about a terminal.
func (m *Manager) Status(id string) (Status, error) {
	t, err := m.find(id)
	if err != nil {
		return Status{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return Status{ID: id, Running: t.proc != nil, OutputOffset: t.ring.total}, nil
}

// Delete forgets a terminal and kills all processes of its session. Its clients see the end of its process.
func (m *Manager) Delete(id string) error {
	t, err := m.find(id)
	if err != nil {
		return err
	}
	m.mu.Lock()
	delete(m.terminals, id)
	m.mu.Unlock()
	t.mu.Lock()
	t.deleted = true
	p := t.proc
	t.mu.Unlock()
	if p != nil {
		m.kill(p)
	}
	return nil
}

// kill ends the leader and its session. The kernel gives the number of a session to nobody else while a process belongs to it.
func (m *Manager) kill(p *process) {
	select {
	case <-p.leader.Done():
		return
	default:
		killSession(m.cfg.Proc, p.leader.PID)
	}
	m.cfg.Starter.SignalGroup(p.leader, syscall.SIGKILL)
}

// Close kills all processes, ends all connections and waits for everything.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	all := make([]*terminal, 0, len(m.terminals))
	for _, t := range m.terminals {
		all = append(all, t)
	}
	m.mu.Unlock()
	for _, t := range all {
		t.mu.Lock()
		t.deleted = true
		p, clients := t.proc, t.clients()
		t.mu.Unlock()
		if p != nil {
			m.kill(p)
		}
		for _, c := range clients {
			c.finish(End{Why: Closing})
		}
	}
	m.workers.Wait()
}

// enter counts the caller as a worker until it calls workers.Done.
func (m *Manager) enter() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.workers.Add(1)
	}
	return !m.closed
}

// Options say how a client attaches.
type Options struct {
	// Pipe starts a process on pipes instead of a pseudo terminal; it means nothing while a process runs.
	Pipe bool
	// Since is the offset from which kept output is wanted.
	Since int64
	// Takeover takes the place of the present holder.
	Takeover bool
	// Viewer only reads.
	Viewer bool
}

// Check says why an attempt to attach would be refused now.
func (m *Manager) Check(id string, o Options) error {
	t, err := m.find(id)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refusal(o)
}

// Attach makes the caller a client of a terminal. A holder starts a process when none runs. The caller ends with Detach.
func (m *Manager) Attach(id string, o Options) (*Client, error) {
	t, err := m.find(id)
	if err != nil {
		return nil, err
	}
	if !m.enter() {
		return nil, fault.New(fault.Unavailable, "the sandbox is shutting down").WithCode("RUNTIME_ERROR")
	}
	c, err := t.attach(o)
	if err != nil {
		m.workers.Done()
	}
	return c, err
}

// arguments are those of the shell of a terminal.
func arguments(shell, text string) []string {
	argv := []string{filepath.Base(shell)}
	if argv[0] == "bash" {
		argv = append(argv, "--norc", "--noprofile")
	}
	if text != "" {
		argv = append(argv, "-c", text)
	}
	return argv
}

// variables are those of a process. A program on a terminal wants to know its kind; the kind of most clients is as good as any guess.
func variables(env []string, pipe bool) []string {
	if _, ok := environ.In(env)("TERM"); ok || pipe {
		return env
	}
	return environ.Merge(env, map[string]string{"TERM": "xterm-256color"})
}

// errDetached is returned to a client that has no say any more.
var errDetached = errors.New("not the holder of the terminal")
