package session

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"opensandbox/services/execd/internal/environ"
)

const (
	// maxVariables bounds all variables together: half of what Linux passes to a program under the usual stack limit of 8 MiB.
	maxVariables = 1 << 20
)

// state is what a run starts with. A value is never changed, only replaced.
type state struct {
	env       []string
	dir       string
	functions []byte // As bash prints them; empty for other shells.
}

// ownedByShell are variables that belong to one shell process, or would set its options before it reads anything.
var ownedByShell = []string{"_", "PWD", "SHLVL", "SHELLOPTS", "BASHOPTS", "PS1", "PS2", "PS3", "PS4", "PROMPT_COMMAND"}

// carried returns the variables that a session keeps.
func carried(env []string) []string {
	return slices.DeleteFunc(environ.Visible(env), func(kv string) bool {
		name, _, ok := strings.Cut(kv, "=")
		return !ok || !validName(name) || slices.Contains(ownedByShell, name) || len(kv) > environ.MaxVariable
	})
}

// validName reports whether a shell takes s for the name of a variable.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// after returns the state that a run left as text, see bashKeep. The script could write that text itself. So nothing in it is trusted
// beyond what a script may do anyway: set its variables.
func (s state) after(left []byte) (state, error) {
	parts := bytes.Split(left, []byte{0})
	if len(parts) != 4 || len(parts[3]) > 0 {
		return state{}, errors.New("not in three parts")
	}
	env, err := exports(string(parts[1]))
	if err != nil {
		return state{}, err
	}
	n := state{env: carried(env), dir: s.dir, functions: bytes.Clone(parts[2])}
	if dir := strings.TrimSuffix(string(parts[0]), "\n"); filepath.IsAbs(dir) {
		n.dir = dir
	}
	size := 0
	for _, kv := range n.env {
		size += len(kv) + 1
	}
	if size > maxVariables {
		return state{}, fmt.Errorf("exported variables of %d bytes, at most %d", size, maxVariables)
	}
	return n, nil
}
