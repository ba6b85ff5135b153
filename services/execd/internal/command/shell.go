package command

import (
	"os"
	"path/filepath"
	"strings"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/environ"
)

// dirMode is the mode of directories that MakeDir makes, before the umask, as in OpenSandbox 1.1.1.
const dirMode = 0o777

// Shell returns the path of bash, or of sh where there is no bash. It is looked for each time: a command may have installed it.
func (m *Manager) Shell() (string, error) {
	sh, err := m.shell()
	if err != nil {
		return "", fault.New(fault.Internal, "neither bash nor sh is in PATH: this image has no shell; run commands with argv").WithCode("NOT_SUPPORTED")
	}
	return sh, nil
}

// Environment returns the variables that a new session starts from: the daemon's, and over them those of the environment file.
func (m *Manager) Environment() []string {
	return environ.Visible(environ.Merge(m.cfg.Env, m.fileVariables()))
}

// Home returns the home directory of execd's user, for paths that begin with a tilde.
func (m *Manager) Home() string { return m.home }

// MakeDir expands the working directory of a new session with its variables and makes it. Empty means execd's own.
func (m *Manager) MakeDir(cwd string, env []string) (string, error) {
	if strings.Contains(cwd, "\x00") {
		return "", invalid("NUL bytes are not allowed")
	}
	dir, err := environ.ExpandPath(cwd, environ.In(env), m.home)
	if err != nil {
		return "", invalid("cwd: %s", err)
	}
	if dir, err = filepath.Abs(dir); err == nil && cwd != "" {
		err = os.MkdirAll(dir, dirMode)
	}
	if err != nil {
		return "", fault.Newf(fault.Internal, "working directory: %s", err).WithCode("RUNTIME_ERROR")
	}
	return dir, nil
}
