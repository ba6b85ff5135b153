package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/environ"
)

// Request is one command as a client asks for it. Exactly one of Command and Argv is set.
type Request struct {
	// Command is shell text, run by bash, or by sh where there is no bash.
	Command string `json:"command"`
	// Argv is started as it is, without a shell.
	Argv []string `json:"argv"`
	// Cwd may hold ~ and variables of the command's own environment. Empty means execd's directory.
	Cwd        string `json:"cwd"`
	Background bool   `json:"background"`
	// Timeout in milliseconds; 0 means none.
	Timeout int64 `json:"timeout"`
	// UID and GID switch the identity; GID needs UID.
	UID *uint32 `json:"uid"`
	GID *uint32 `json:"gid"`
	// Envs are literal and win over the environment file, which wins over the daemon's environment.
	Envs map[string]string `json:"envs"`
	// OnDisconnect says what happens to a foreground command whose client goes away: EndCommand or KeepCommand; empty means what the
	// Manager does by default.
	OnDisconnect string `json:"on_disconnect"`
}

// The two values of Request.OnDisconnect.
const (
	// EndCommand ends the command and everything in its group: nobody can read what it would still say.
	EndCommand = "end"
	// KeepCommand lets the command go on, as OpenSandbox 1.1.1 does; the rest of its output is thrown away.
	KeepCommand = "keep"
)

// MaxTimeout is the longest time limit of a request, in milliseconds, about 100 years: it keeps the conversion from overflowing.
const MaxTimeout = 100 * 365 * 24 * int64(time.Hour/time.Millisecond)

// plan is a request that passed every check and is ready to start.
type plan struct {
	file    string
	argv    []string
	env     []string
	dir     string
	sys     *syscall.SysProcAttr
	timeout time.Duration
	content string
	// refusal is a problem that, unlike a validation error, is reported in the stream: no shell, program not found.
	refusal error
}

func invalid(format string, args ...any) error {
	return fault.Newf(fault.Invalid, "invalid request, validation error "+format, args...).WithCode("INVALID_REQUEST_BODY")
}

// Check finds what can be wrong with a request by itself.
func (r *Request) Check() error {
	text, native := r.Command != "", len(r.Argv) > 0
	switch {
	case text == native:
		return invalid("exactly one of command and argv is required")
	case native && r.Argv[0] == "":
		return invalid("argv[0] must not be empty")
	case r.Timeout < 0:
		return invalid("timeout must not be negative")
	case r.Timeout > MaxTimeout:
		return invalid("timeout is too large")
	case r.GID != nil && r.UID == nil:
		return invalid("uid is required when gid is provided")
	case r.OnDisconnect != "" && r.OnDisconnect != EndCommand && r.OnDisconnect != KeepCommand:
		return invalid("on_disconnect must be %s or %s", EndCommand, KeepCommand)
	case strings.Contains(r.Command, "\x00") || strings.Contains(r.Cwd, "\x00"):
		return invalid("NUL bytes are not allowed")
	}
	for _, a := range r.Argv {
		if strings.Contains(a, "\x00") {
			return invalid("argv must not contain NUL bytes")
		}
	}
	for k, v := range r.Envs {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.Contains(v, "\x00") {
			return invalid("envs: a name must be non-empty and without '=', and neither name nor value may hold NUL bytes")
		}
	}
	return nil
}

// Text is the command as a shell would take it.
func (r *Request) Text() string {
	if len(r.Argv) > 0 {
		return quote(r.Argv)
	}
	return r.Command
}

// plan checks r and resolves everything that does not need a process.
func (m *Manager) plan(r *Request) (*plan, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	p := &plan{
		env:     environ.Merge(m.cfg.Env, m.fileVariables(), r.Envs),
		timeout: time.Duration(r.Timeout) * time.Millisecond,
		content: r.Command,
		sys:     &syscall.SysProcAttr{Setpgid: true},
	}
	lookup := environ.In(p.env)
	if r.Cwd != "" {
		dir, err := environ.ExpandPath(r.Cwd, lookup, m.home)
		if err != nil {
			return nil, invalid("cwd: %s", err)
		}
		st, err := os.Stat(dir)
		if err != nil {
			return nil, invalid("cwd: %s", err)
		}
		if !st.IsDir() {
			return nil, invalid("cwd: %s is not a directory", dir)
		}
		p.dir = dir
	}
	p.sys.Credential, p.refusal = credential(r.UID, r.GID)
	if len(r.Argv) > 0 {
		p.argv, p.content = r.Argv, quote(r.Argv)
		file, err := environ.LookPath(r.Argv[0], p.dir, lookup)
		if err != nil && p.refusal == nil {
			p.refusal = err
		}
		p.file = file
		return p, nil
	}
	shell, err := m.shell()
	if err != nil && p.refusal == nil {
		p.refusal = err
	}
	p.file, p.argv = shell, []string{filepath.Base(shell), "-c", r.Command} // The name stands in the shell's own messages.
	return p, nil
}

// shell searches with the daemon's PATH: a request that sets PATH for its command still wants the sandbox's shell.
func (m *Manager) shell() (string, error) {
	lookup := environ.In(m.cfg.Env)
	if sh, err := environ.LookPath("bash", "", lookup); err == nil {
		return sh, nil
	}
	if sh, err := environ.LookPath("sh", "", lookup); err == nil {
		return sh, nil
	}
	return "", fmt.Errorf("neither bash nor sh is in PATH: this image has no shell, use argv")
}

// fileVariables reads the environment file. A broken file must not make the sandbox unusable, so problems are only logged.
func (m *Manager) fileVariables() map[string]string {
	if m.cfg.EnvFile == "" {
		return nil
	}
	vars, problems, err := environ.ReadFile(m.cfg.EnvFile, environ.In(m.cfg.Env))
	if err != nil {
		m.cfg.Log.Warn("environment file not used", "error", err)
	}
	for _, p := range problems {
		m.cfg.Log.Warn("environment file: entry skipped", "problem", p)
	}
	return vars
}

// quote joins an argument list into text that a shell would split the same way.
func quote(argv []string) string {
	out := make([]string, len(argv))
	for i, a := range argv {
		if a != "" && strings.Trim(a, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-") == "" {
			out[i] = a
			continue
		}
		out[i] = "'" + strings.ReplaceAll(a, "'", `'"'"'`) + "'"
	}
	return strings.Join(out, " ")
}
