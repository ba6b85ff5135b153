package conf

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Print writes the configuration that holds as TOML, with where each value came from. Secrets are masked. Keys without a value are
// comments. The output can be loaded again, but for the masks, which are refused.
func (l *Loaded) Print(w io.Writer) error {
	out := bufio.NewWriter(w)
	source := "none"
	if l.path != "" {
		source = fmt.Sprintf("%q", l.path)
	}
	fmt.Fprintf(out, "# configuration file: %s\n", source)
	keys := slices.DeleteFunc(slices.Clone(l.keys), func(k Key) bool { return k.Get == nil || k.Optional != "" && !l.Present(k.Optional) })
	for _, section := range Sections(keys) {
		fmt.Fprintf(out, "\n[%s]\n", section)
		for i := range keys {
			if key := &keys[i]; SectionOf(key.Name) == section {
				if err := l.printKey(out, key); err != nil {
					return err
				}
			}
		}
	}
	return out.Flush()
}

func (l *Loaded) printKey(w io.Writer, key *Key) error {
	name, value := key.Name[strings.LastIndexByte(key.Name, '.')+1:], key.Get()
	if !l.Set(key.Name) && unset(value) {
		_, err := fmt.Fprintf(w, "# %s is not set\n", name)
		return err
	}
	text, err := Literal(value)
	if err != nil {
		return fmt.Errorf("print %s: %w", key.Name, err)
	}
	_, err = fmt.Fprintf(w, "%s = %s # %s\n", name, text, l.Origin(key.Name))
	return err
}

// unset reports whether a value stands for nothing; false does not.
func unset(value any) bool {
	switch v := value.(type) {
	case bool:
		return false
	case Secret:
		return !v.IsSet()
	case []string:
		return v == nil
	}
	return reflect.ValueOf(value).IsZero()
}

// Literal writes a value of Key.Get as TOML on one line.
func Literal(value any) (string, error) {
	table, ok := value.(map[string]string)
	if !ok {
		return pair("v", value, "v = ")
	}
	if len(table) == 0 {
		return "{}", nil
	}
	parts := make([]string, 0, len(table))
	for _, name := range slices.Sorted(maps.Keys(table)) {
		p, err := pair(name, table[name], "")
		if err != nil {
			return "", err
		}
		parts = append(parts, p)
	}
	return "{ " + strings.Join(parts, ", ") + " }", nil
}

// pair leaves all quoting to the TOML encoder, without the beginning that is not wanted.
func pair(name string, value any, without string) (string, error) {
	b, err := toml.Marshal(map[string]any{name: value})
	if err != nil {
		return "", err
	}
	return strings.TrimPrefix(strings.TrimSpace(string(b)), without), nil
}

// Sections are the tables of the keys that have values, in the order of the keys.
func Sections(keys []Key) []string {
	var all []string
	for i := range keys {
		if s := SectionOf(keys[i].Name); keys[i].Get != nil && !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// SectionOf returns the table of a key: docker of docker.host_ip.
func SectionOf(name string) string {
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		return name[:i]
	}
	return name
}
