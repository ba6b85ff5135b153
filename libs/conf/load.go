package conf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
)

// Input is where values come from: a file, and variables, which go over it.
type Input struct {
	// File is the content of a TOML file, Path its name for messages. Both may be empty.
	File []byte
	Path string
	// Lookup returns the value of an environment variable; nil: there are none.
	Lookup func(name string) (string, bool)
	// Names are the variables that are set, to warn of names that look like a misspelt key. It may be nil.
	Names []string
	// Others are variables that begin like ours and are read elsewhere.
	Others []string
}

// Loaded is what Load found, beside the values that it bound.
type Loaded struct {
	// Warnings are about keys that are unknown or have a note.
	Warnings []string

	keys     []Key
	table    map[string]*Key
	path     string
	origins  map[string]string
	tables   map[string]bool
	mistakes []error
	parsed   bool
}

// Load binds values to keys, first those of the file, then those of the environment. The error joins one line for each mistake. The
// result is never nil, and holds what could be read in spite of mistakes.
func Load(in Input, keys []Key) (*Loaded, error) {
	l := &Loaded{keys: keys, table: make(map[string]*Key, len(keys)), path: in.Path, origins: map[string]string{}, tables: map[string]bool{}}
	for i := range keys {
		l.table[keys[i].Name] = &keys[i]
	}
	var doc map[string]any
	if err := toml.Unmarshal(in.File, &doc); err != nil {
		l.mistakes = append(l.mistakes, fmt.Errorf("%s%w", l.prefix(), syntaxError(err)))
	} else {
		l.parsed = true
		l.walk("", doc)
	}
	if in.Lookup != nil {
		l.variables(in)
	}
	return l, errors.Join(l.mistakes...)
}

// Parsed reports whether the file was TOML at all; if not, only the environment was read.
func (l *Loaded) Parsed() bool { return l.parsed }

// Set reports whether file or environment gave the key a value.
func (l *Loaded) Set(name string) bool { return l.origins[name] != "" }

// Present reports whether the file has a table of this name, even an empty one, or any key below it has a value.
func (l *Loaded) Present(table string) bool { return l.tables[table] || l.SetBelow(table) }

// SetBelow reports whether any key below the table has a value.
func (l *Loaded) SetBelow(table string) bool {
	for name := range l.origins {
		if strings.HasPrefix(name, table+".") {
			return true
		}
	}
	return false
}

// Origin says where the value of a key came from: "file", the name of a variable, or "default".
func (l *Loaded) Origin(name string) string {
	if o := l.origins[name]; o != "" {
		return o
	}
	return byDefault
}

// TableMistake is an error about a whole table.
func (l *Loaded) TableMistake(table, problem string) error {
	if !l.tables[table] {
		return fmt.Errorf("[%s]: %s", table, problem)
	}
	return fmt.Errorf("%s[%s]: %s", l.prefix(), table, problem)
}

// Mistake is an error about a key that has been bound, for checks that look at more than one. It names origin and present value.
func (l *Loaded) Mistake(name, problem string) error {
	key := l.table[name]
	var value any
	if key != nil && key.Get != nil {
		value = key.Get()
	}
	switch o := l.Origin(name); o {
	case byDefault:
		return fmt.Errorf("%s: %s", name, problem)
	case fromFile:
		return fmt.Errorf("%s%s = %s: %s", l.prefix(), name, shown(key, value), problem)
	default:
		return fmt.Errorf("%s = %s: %s", o, shown(key, value), problem)
	}
}

// What Origin says of values that no variable set.
const (
	byDefault = "default"
	fromFile  = "file"
)

// prefix begins the lines about the file.
func (l *Loaded) prefix() string {
	if l.path == "" {
		return ""
	}
	return l.path + ": "
}

// walk visits the values in the order of their names, so that the report is the same each time.
func (l *Loaded) walk(prefix string, doc map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		path, value := prefix+bare(name), doc[name]
		key := l.table[path]
		sub, isTable := value.(map[string]any)
		switch {
		case key != nil && (key.Table || !isTable):
			l.bind(key, value, fromFile, l.prefix()+path)
		case isTable && l.known(path+"."):
			l.tables[path] = true
			l.walk(path+".", sub)
		case key != nil:
			l.mistakes = append(l.mistakes, fmt.Errorf("%s%s: is a table; expected a single value", l.prefix(), path))
		case l.known(path + "."):
			l.mistakes = append(l.mistakes, fmt.Errorf("%s%s: is a single value; expected a table", l.prefix(), path))
		default:
			l.warn("%s%s: unknown, ignored%s", l.prefix(), clip(path), hint(Nearest(path, slices.Collect(maps.Keys(l.table)))))
		}
	}
}

// bare quotes a name that a file had to quote, so that nothing in it can look like another line of the report.
func bare(name string) string {
	plain := func(r rune) bool {
		return r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		return strconv.Quote(name)
	}
	return name
}

// bind gives a key its value. place names where the value stands, for messages.
func (l *Loaded) bind(key *Key, value any, origin, place string) {
	if err := key.Bind(value); err != nil {
		l.mistakes = append(l.mistakes, fmt.Errorf("%s = %s: %w", place, shown(key, value), err))
		return
	}
	l.origins[key.Name] = origin
	if key.Note != "" {
		l.warn("%s: %s", place, key.Note)
	}
}

func (l *Loaded) warn(format string, args ...any) {
	l.Warnings = append(l.Warnings, fmt.Sprintf(format, args...))
}

func shown(key *Key, value any) string {
	if key.Secret {
		return Mask
	}
	return display(value)
}

// display writes a value on one line, cut to a length that leaves the reason readable.
func display(value any) string {
	switch v := value.(type) {
	case string:
		return clip(strconv.Quote(v))
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = display(e)
		}
		return clip("[" + strings.Join(parts, ", ") + "]")
	case map[string]any, map[string]string:
		return "{…}" // may hold secrets anywhere
	}
	return clip(fmt.Sprintf("%v", value))
}

// width is how much of a value is shown.
const width = 120

func clip(s string) string {
	if len(s) <= width {
		return s
	}
	cut := width
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// known reports whether any key lies below prefix.
func (l *Loaded) known(prefix string) bool {
	for name := range l.table {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func hint(name string) string {
	if name == "" {
		return ""
	}
	return "; did you mean " + name + "?"
}

// syntaxError adds the place. Numbers that cannot be read are left out of the text: a secret without quotes looks like one.
func syntaxError(err error) error {
	d, ok := errors.AsType[*toml.DecodeError](err)
	if !ok {
		return errors.New("not valid TOML")
	}
	line, column := d.Position()
	text := strings.TrimPrefix(d.Error(), "toml: ")
	if before, _, number := strings.Cut(text, "strconv."); number {
		text = strings.TrimRight(before, " :")
	}
	return fmt.Errorf("line %d, column %d: not valid TOML: %s", line, column, text)
}
