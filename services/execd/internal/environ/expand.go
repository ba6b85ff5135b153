// Package environ knows environment variables: which of them children may see, the file that clients append to, variables in
// paths, and the search for executables.
package environ

import (
	"fmt"
	"os"
	"strings"
)

// MaxVariable is how long NAME=value may be that Linux passes to a program, in bytes: MAX_ARG_STRLEN without the final NUL.
const MaxVariable = 128<<10 - 1

// maxPath bounds paths with their variables, in bytes: far more than any path of Linux has, far less than variables can make of a few letters.
const maxPath = 64 << 10

// Lookup finds a variable.
type Lookup func(name string) (value string, ok bool)

// Names that carry execd's own secrets or settings. Children never see them.
var hidden = []string{"EXECD_ACCESS_TOKEN", "JUPYTER_TOKEN", "OPENSANDBOX_LIFECYCLE"}

// Visible returns env without the variables that are execd's own.
func Visible(env []string) []string {
	out := make([]string, 0, len(env))
next:
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		for _, h := range hidden {
			if name == h {
				continue next
			}
		}
		out = append(out, kv)
	}
	return out
}

// Merge lays overlays over base, later ones win. Base keeps its order; it is not changed.
func Merge(base []string, overlays ...map[string]string) []string {
	extra := map[string]string{}
	for _, overlay := range overlays {
		for k, v := range overlay {
			extra[k] = v
		}
	}
	out := make([]string, 0, len(base)+len(extra))
	for _, kv := range base {
		name, _, _ := strings.Cut(kv, "=")
		if _, replaced := extra[name]; !replaced {
			out = append(out, kv)
		}
	}
	for k, v := range extra {
		out = append(out, k+"="+v)
	}
	return out
}

// In returns a lookup over KEY=VALUE strings; the last of several equal names counts.
func In(env []string) Lookup {
	return func(name string) (string, bool) {
		for i := len(env) - 1; i >= 0; i-- {
			if k, v, ok := strings.Cut(env[i], "="); ok && k == name {
				return v, true
			}
		}
		return "", false
	}
}

// ExpandPath replaces $NAME and ${NAME}, then a leading ~ by home. Every name must be defined; an empty value counts. The path must not become
// longer than 64 KiB.
func ExpandPath(path string, lookup Lookup, home string) (string, error) {
	var missing []string
	out := expand(path, maxPath, func(name string) string {
		v, ok := lookup(name)
		if !ok {
			missing = append(missing, name)
		}
		return v
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("path references undefined environment variables: %s", strings.Join(missing, ","))
	}
	if len(out) > maxPath {
		return "", fmt.Errorf("path is longer than %d bytes", maxPath)
	}
	if out == "~" || strings.HasPrefix(out, "~/") || strings.HasPrefix(out, `~\`) {
		if home == "" {
			return "", fmt.Errorf("path starts with ~ but the home directory is unknown")
		}
		return home + out[1:], nil
	}
	return out, nil
}

// Home returns the home directory of execd's user: $HOME, else what the user database says.
func Home(lookup Lookup) string {
	if h, ok := lookup("HOME"); ok && h != "" {
		return h
	}
	if a, err := AccountOf(os.Getuid()); err == nil {
		return a.Home
	}
	return ""
}

// expand replaces $NAME and ${NAME}, where NAME is [A-Za-z_][A-Za-z0-9_]*. A dollar sign before anything else stands for itself.
// What becomes longer than limit bytes is not finished.
func expand(s string, limit int, value func(name string) string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() <= limit; {
		if s[i] != '$' {
			b.WriteByte(s[i])
			i++
			continue
		}
		name, width := variableAt(s[i:])
		if width == 0 {
			b.WriteByte('$')
			i++
			continue
		}
		b.WriteString(value(name))
		i += width
	}
	return b.String()
}

// variableAt reads a reference at the start of s, which begins with a dollar sign. Width 0 means that there is none.
func variableAt(s string) (name string, width int) {
	if strings.HasPrefix(s, "${") {
		n := nameLen(s[2:])
		if n == 0 || len(s) <= 2+n || s[2+n] != '}' {
			return "", 0
		}
		return s[2 : 2+n], n + 3
	}
	n := nameLen(s[1:])
	if n == 0 {
		return "", 0
	}
	return s[1 : 1+n], 1 + n
}

// nameLen returns the length of the variable name at the start of s.
func nameLen(s string) int {
	for i := 0; i < len(s); i++ {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}
