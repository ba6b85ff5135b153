// Package conf reads a TOML file against a table of keys, and reports every mistake in it at once: each with its key, what was found and
// what is allowed. Secrets are never repeated.
package conf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Key is one key of the file. Bind takes its value, as the TOML decoder gives it, or says what is wrong with it.
type Key struct {
	// Name is section.key; nested tables add more dots.
	Name string
	// Bind stores the value. An error's text says what is allowed.
	Bind func(value any) error
	// Note, if not empty, is reported as a warning when the key is set, such as "has no effect yet".
	Note string
	// Secret keeps the value out of errors.
	Secret bool
	// Table makes the whole table below Name the value.
	Table bool
}

// Load binds the file's values to keys. Warnings are about keys that are unknown or have a note; the error joins one line for each
// mistake.
func Load(file []byte, keys []Key) (warnings []string, err error) {
	var doc map[string]any
	if err := toml.Unmarshal(file, &doc); err != nil {
		return nil, syntaxError(err)
	}
	table := make(map[string]*Key, len(keys))
	for i := range keys {
		table[keys[i].Name] = &keys[i]
	}
	l := loader{table: table}
	l.walk("", doc)
	return l.warnings, errors.Join(l.mistakes...)
}

type loader struct {
	table    map[string]*Key
	warnings []string
	mistakes []error
}

// walk visits the values in the order of their names, so that the report is the same each time.
func (l *loader) walk(prefix string, doc map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		path, value := prefix+name, doc[name]
		key := l.table[path]
		sub, isTable := value.(map[string]any)
		switch {
		case key != nil && (key.Table || !isTable):
			l.bind(key, value)
		case isTable && l.known(path+"."):
			l.walk(path+".", sub)
		case key != nil:
			l.mistakes = append(l.mistakes, fmt.Errorf("%s: is a table; expected a single value", path))
		case l.known(path + "."):
			l.mistakes = append(l.mistakes, fmt.Errorf("%s: is a single value; expected a table", path))
		default:
			l.warnings = append(l.warnings, fmt.Sprintf("%s: unknown, ignored%s", path, l.nearest(path)))
		}
	}
}

func (l *loader) bind(key *Key, value any) {
	if err := key.Bind(value); err != nil {
		found := fmt.Sprintf("%v", value)
		if s, ok := value.(string); ok {
			found = fmt.Sprintf("%q", s)
		}
		if _, ok := value.(map[string]any); ok {
			found = "{…}" // may hold secrets anywhere
		}
		if key.Secret {
			found = redacted
		}
		if len(found) > 120 {
			found = strings.ToValidUTF8(found[:120], "") + "…"
		}
		l.mistakes = append(l.mistakes, fmt.Errorf("%s = %s: %w", key.Name, found, err))
		return
	}
	if key.Note != "" {
		l.warnings = append(l.warnings, key.Name+": "+key.Note)
	}
}

// known reports whether any key lies below prefix.
func (l *loader) known(prefix string) bool {
	for name := range l.table {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// nearest suggests the known key that is written most like path.
func (l *loader) nearest(path string) string {
	best, distance := "", len(path)/3+1
	for _, name := range slices.Sorted(maps.Keys(l.table)) {
		if d := edits(path, name); d < distance {
			best, distance = name, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// edits is the Levenshtein distance of two names.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

func syntaxError(err error) error {
	if d, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := d.Position()
		return fmt.Errorf("line %d, column %d: not valid TOML: %s", line, column, strings.TrimPrefix(d.Error(), "toml: "))
	}
	return fmt.Errorf("not valid TOML: %w", err)
}
