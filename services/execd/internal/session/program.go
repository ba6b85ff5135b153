package session

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"opensandbox/services/execd/internal/command"
	"opensandbox/services/execd/internal/environ"
)

const (
	// The files of a run have numbers that scripts do not use by themselves: those up to 9 are written by hand, bash takes 10 and
	// up for its redirections, 63 and down for process substitutions and 255 for scripts.
	firstFile = 100 // The functions, 101 the script, 102 what the run leaves.

	// maxLeft bounds what a run may leave, in bytes.
	maxLeft = 4 << 20
)

// What a run leaves has three parts, each followed by a NUL byte: the working directory, the exported variables as the shell
// prints them, and the functions. It is written when the script ends and when it exits. It is written once; a script that sets
// a trap for its exit itself is still covered in the first case. The script's options and traps are taken back first, because
// they would print or end something here. All of a program is on its first line, so that the line numbers of messages are those
// of the script.
const (
	bashKeep = `{ set +eux; trap - DEBUG RETURN ERR; } >/dev/null 2>&1; ` +
		`[ -s /proc/self/fd/102 ] || { builtin pwd; builtin printf "\0"; builtin export -p; builtin printf "\0"; ` +
		`builtin declare -f; builtin declare -Fx; builtin printf "\0"; } >>/proc/self/fd/102 2>/dev/null`
	bashProgram = `. /proc/self/fd/100 2>/dev/null; trap '` + bashKeep + `' EXIT; eval "$(</proc/self/fd/101)"; ` +
		`{ set -- "$?"; } 2>/dev/null; ` + bashKeep + `; exit "$1"`

	// A POSIX shell cannot list its functions, and reads a file without another program only by running it.
	shKeep = `{ set +eux; } >/dev/null 2>&1; ` +
		`[ -s /proc/self/fd/102 ] || { command pwd; command printf "\0"; command export -p; command printf "\0\0"; } ` +
		`>>/proc/self/fd/102 2>/dev/null`
	shProgram = `trap '` + shKeep + `' EXIT; . /proc/self/fd/101; { set -- "$?"; } 2>/dev/null; ` + shKeep + `; exit "$1"`
)

// errNothing says that a run left nothing.
var errNothing = errors.New("the run left nothing")

// program is one run: a shell and the files in memory that it gets.
type program struct {
	shell string
	files []*os.File
}

// newProgram prepares a run of a script. The caller closes it.
func newProgram(shell, script string, before state) (*program, error) {
	p := &program{shell: shell}
	for _, f := range []struct {
		name    string
		content []byte
	}{{"functions", before.functions}, {"script", []byte(script)}, {"left", nil}} {
		file, err := inMemory(f.name, f.content)
		if err != nil {
			p.close()
			return nil, err
		}
		p.files = append(p.files, file)
	}
	return p, nil
}

// inMemory makes a file that belongs to no directory and is gone when the last process closes it.
func inMemory(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(content); err != nil {
		f.Close()
		return nil, fmt.Errorf("file in memory: %w", err)
	}
	return f, nil
}

func (p *program) close() {
	for _, f := range p.files {
		f.Close()
	}
}

// job is what the command package runs.
func (p *program) job(id string, s state, timeout time.Duration) *command.Job {
	j := &command.Job{
		ID: id, File: p.shell, Argv: []string{filepath.Base(p.shell), "-c", shProgram}, Dir: s.dir,
		// The shell keeps the name under which a directory was entered only if it is told.
		Env:     environ.Merge(s.env, map[string]string{"PWD": s.dir}),
		Inherit: p.files, FirstFile: firstFile, Timeout: timeout,
	}
	if filepath.Base(p.shell) == "bash" {
		j.Argv = []string{"bash", "--noprofile", "--norc", "-c", bashProgram}
	}
	return j
}

// left reads what the run has left.
func (p *program) left(before state) (state, error) {
	f := p.files[len(p.files)-1]
	b, err := io.ReadAll(io.NewSectionReader(f, 0, maxLeft+1))
	if err != nil {
		return state{}, err
	}
	if len(b) == 0 {
		return state{}, errNothing
	}
	if len(b) > maxLeft {
		return state{}, fmt.Errorf("more than %d bytes", maxLeft)
	}
	return before.after(b)
}
