package environ

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxFile bounds the environment file, in bytes. It is read for every command, so a runaway file must not cost memory.
const maxFile = 1 << 20

// EnsureFile creates the environment file, and its directory, when they are missing. The file is writable for its owner only:
// a less privileged user of the sandbox must not be able to put LD_PRELOAD into the commands of the image's user.
func EnsureFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("environment file: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("environment file: %w", err)
	}
	return f.Close()
}

// ReadFile reads the environment file. A missing file is empty. problems names the lines that were skipped, without their text,
// which may be secret.
func ReadFile(path string, daemon Lookup) (vars map[string]string, problems []string, err error) {
	// Non-blocking, so that a pipe in its place keeps no command waiting.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("environment file: %w", err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("environment file: %w", errors.Join(errors.New("not a regular file"), err))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("environment file: %w", err)
	}
	if len(data) > maxFile {
		return nil, nil, fmt.Errorf("environment file: larger than %d bytes", maxFile)
	}
	vars, problems = ParseFile(string(data), daemon)
	return vars, problems, nil
}

// ParseFile reads entries in the format of OpenSandbox 1.1.1: KEY=value (trimmed, variables expanded), KEY="…" (escapes
// \n \r \t \\ \" and variables, may span lines) and KEY='…' (literal, may span lines). Blank lines and lines that start with #
// are skipped; a later entry replaces an earlier one of the same name. \$ inside double quotes gives a dollar sign, because
// nothing else would.
func ParseFile(data string, daemon Lookup) (vars map[string]string, problems []string) {
	vars = map[string]string{}
	value := func(name string) string { v, _ := daemon(name); return v }
	for line := 1; data != ""; {
		key, val, rest, problem := entry(data, value)
		switch {
		case problem != "":
			problems = append(problems, fmt.Sprintf("line %d: %s", line, problem))
		case key != "":
			vars[key] = val
		}
		line += strings.Count(data[:len(data)-len(rest)], "\n")
		data = rest
	}
	return vars, problems
}

// entry reads one entry from the start of data. A bad one costs its first line only, so that one broken append does not hide
// what was appended after it. key is empty for blank lines and comments.
func entry(data string, value func(string) string) (key, val, rest, problem string) {
	first, rest, _ := strings.Cut(data, "\n")
	text := strings.TrimSpace(first)
	if text == "" || text[0] == '#' {
		return "", "", rest, ""
	}
	key, val, ok := strings.Cut(text, "=")
	key = strings.TrimSpace(key)
	if !ok || key == "" || strings.ContainsAny(key, " \t\x00") {
		return "", "", rest, "not of the form KEY=value"
	}
	val = strings.TrimSpace(val)
	if strings.HasPrefix(val, `"`) || strings.HasPrefix(val, `'`) {
		var after string
		start := strings.IndexByte(data, '=') + 1
		start += strings.IndexByte(data[start:], val[0])
		val, after, problem = quoted(data[start:], value)
		if problem != "" {
			return "", "", rest, problem
		}
		rest = after
	} else {
		val = expand(val, MaxVariable, value)
	}
	if len(key)+len("=")+len(val) > MaxVariable {
		return "", "", rest, "too long for the environment of a program"
	}
	if strings.Contains(val, "\x00") {
		return "", "", rest, "value contains a NUL byte"
	}
	return key, val, rest, ""
}

// quoted reads the quoted value at the start of s and returns what follows its line. A value that is too long for any variable is not finished.
func quoted(s string, value func(string) string) (val, rest, problem string) {
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		piece := s[i : i+1]
		switch c := s[i]; {
		case c == quote:
			tail, rest, _ := strings.Cut(s[i+1:], "\n")
			if strings.TrimSpace(tail) != "" {
				return "", "", "text after the closing quote"
			}
			return b.String(), rest, ""
		case quote == '"' && c == '\\' && i+1 < len(s):
			i++
			piece = unescape(s[i])
		case quote == '"' && c == '$':
			if name, width := variableAt(s[i:]); width > 0 {
				piece = value(name)
				i += width - 1
			}
		}
		if b.Len() <= MaxVariable {
			b.WriteString(piece)
		}
	}
	return "", "", "missing closing quote"
}

func unescape(c byte) string {
	switch c {
	case 'n':
		return "\n"
	case 'r':
		return "\r"
	case 't':
		return "\t"
	case '\\', '"', '$':
		return string(rune(c))
	default:
		return `\` + string([]byte{c})
	}
}
