// Package conf reads settings from a TOML file and from environment variables against a table of keys, and reports every mistake in
// them at once: each with where it stands, what was found and what is allowed. Secrets are never repeated.
package conf

import (
	"slices"
	"strings"
)

// Key is one setting. Make it with one of the functions of this package, such as Int, and describe it with its methods.
type Key struct {
	// Name is section.key; nested tables add more dots.
	Name string
	// Bind stores a value, given as the TOML decoder gives it. An error's text says what is allowed and never repeats the value.
	Bind func(value any) error
	// Parse turns the text of a variable into what Bind takes; nil passes the text on.
	Parse func(text string) (any, error)
	// Get returns the present value as TOML knows it: string, bool, int64, []string, map[string]string or Secret. It is nil for keys
	// that store nothing.
	Get func() any

	// Variable names an environment variable; empty: derived from Name. See VariableOf.
	Variable string
	// Blank makes an empty variable a value. For other keys it counts as one that is not set, since compose files and charts often
	// pass on variables that nobody has filled.
	Blank bool
	// Note, if not empty, is reported as a warning when the key is set, such as "has no effect yet".
	Note string
	// Remark is what the documentation adds to About; unlike Note, it warns nobody.
	Remark string
	// Secret keeps the value out of errors and of what Print writes.
	Secret bool
	// Table makes the whole table below Name the value.
	Table bool

	// Optional names the table around the key whose mere presence has a meaning: Print leaves its keys out unless it is there.
	Optional string

	// Allowed says in a few words which values are taken.
	Allowed string
	// About says what the key means. Keys without it are left out of the documentation.
	About string
	// Default, if not empty, describes the default in the documentation, where Get would say less.
	Default string
	// UsedBy names the processes that read the key.
	UsedBy []string
}

// VariablePrefix begins the names of all derived variables.
const VariablePrefix = "OPENSANDBOX_"

// VariableOf derives the name of the environment variable of a key: server.port becomes OPENSANDBOX_SERVER_PORT.
func VariableOf(name string) string {
	return VariablePrefix + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(name))
}

// EnvironmentVariable is the name of the variable that goes over the key.
func (k Key) EnvironmentVariable() string {
	if k.Variable != "" {
		return k.Variable
	}
	return VariableOf(k.Name)
}

// Describe says what the key means and which processes read it.
func (k Key) Describe(about string, usedBy ...string) Key {
	k.About, k.UsedBy = about, usedBy
	return k
}

// Warn adds a note.
func (k Key) Warn(note string) Key { k.Note = note; return k }

// Mark adds a remark for the documentation.
func (k Key) Mark(remark string) Key { k.Remark = remark; return k }

// Within names the table whose mere presence has a meaning.
func (k Key) Within(table string) Key { k.Optional = table; return k }

// OrBlank makes an empty variable a value.
func (k Key) OrBlank() Key { k.Blank = true; return k }

// Conceal keeps the value out of errors.
func (k Key) Conceal() Key { k.Secret = true; return k }

// ByDefault describes the default in the documentation.
func (k Key) ByDefault(text string) Key { k.Default = text; return k }

// Allow describes which values are taken.
func (k Key) Allow(text string) Key { k.Allowed = text; return k }

// FromVariable names the environment variable of the key.
func (k Key) FromVariable(name string) Key { k.Variable = name; return k }

// Then adds a check that may change what was bound.
func (k Key) Then(check func() error) Key {
	bind := k.Bind
	k.Bind = func(v any) error {
		if err := bind(v); err != nil {
			return err
		}
		return check()
	}
	return k
}

// Nearest returns the candidate that is written most like name, or nothing if none is close.
func Nearest(name string, candidates []string) string {
	best, distance := "", len(name)/3+1
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if d := edits(name, c); d < distance {
			best, distance = c, d
		}
	}
	return best
}

// longest bounds the work of edits: no key is longer, and a stranger's name may be.
const longest = 200

// edits is the Levenshtein distance of two names.
func edits(a, b string) int {
	if len(a) > longest {
		return len(a)
	}
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
