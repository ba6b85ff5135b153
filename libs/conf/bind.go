package conf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// String binds text. check may be nil.
func String(name string, to *string, check func(string) error) Key {
	return Key{Name: name, Bind: func(v any) error {
		s, ok := v.(string)
		if !ok {
			return errors.New("expected text in quotes")
		}
		if check != nil {
			if err := check(s); err != nil {
				return err
			}
		}
		*to = s
		return nil
	}}
}

// Enum binds one of several words, in any case.
func Enum(name string, to *string, words ...string) Key {
	return String(name, to, nil).Then(func() error {
		i := slices.IndexFunc(words, func(w string) bool { return strings.EqualFold(w, *to) })
		if i < 0 {
			return fmt.Errorf("expected one of %s", quoted(words))
		}
		*to = words[i]
		return nil
	})
}

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

// Hidden binds a secret.
func Hidden(name string, to *Secret) Key {
	var s string
	k := String(name, &s, nil).Then(func() error { *to = Secret(s); return nil })
	k.Secret = true
	return k
}

// Bool binds true or false.
func Bool(name string, to *bool) Key {
	return Key{Name: name, Bind: func(v any) error {
		b, ok := v.(bool)
		if !ok {
			return errors.New("expected true or false")
		}
		*to = b
		return nil
	}}
}

// Int binds a whole number between low and high, both inclusive. Numbers in quotes are taken, as OpenSandbox 1.1.1 does.
func Int(name string, to *int, low, high int) Key {
	return Key{Name: name, Bind: func(v any) error {
		n, ok := v.(int64)
		if s, text := v.(string); text {
			parsed, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
			n, ok = parsed, err == nil
		}
		if !ok || n < int64(low) || n > int64(high) {
			return fmt.Errorf("expected a whole number from %d to %d", low, high)
		}
		*to = int(n)
		return nil
	}}
}

// Seconds binds a whole number of seconds.
func Seconds(name string, to *time.Duration, low, high int) Key {
	var n int
	return Int(name, &n, low, high).Then(func() error { *to = time.Duration(n) * time.Second; return nil })
}

// Strings binds an array of texts.
func Strings(name string, to *[]string) Key {
	return Key{Name: name, Bind: func(v any) error {
		list, ok := v.([]any)
		if !ok {
			return errors.New("expected an array of texts")
		}
		out := make([]string, 0, len(list))
		for _, e := range list {
			s, ok := e.(string)
			if !ok {
				return errors.New("expected an array of texts")
			}
			out = append(out, s)
		}
		*to = out
		return nil
	}}
}

// Ignored accepts any value and says why it has no effect.
func Ignored(name, note string) Key {
	return Key{Name: name, Note: note, Table: true, Bind: func(any) error { return nil }}
}

// Refused accepts only values that ask for nothing: empty text, false, an empty array or table, or one of harmless. It is for keys
// whose silent loss would leave sandboxes less protected than the operator believes.
func Refused(name, why string, harmless ...any) Key {
	return Key{Name: name, Table: true, Bind: func(v any) error {
		if empty(v) || slices.ContainsFunc(harmless, func(h any) bool { return h == v }) {
			return nil
		}
		return errors.New(why)
	}}
}

func empty(v any) bool {
	switch x := v.(type) {
	case string:
		return x == ""
	case bool:
		return !x
	case []any:
		return len(x) == 0
	}
	return false
}

func quoted(words []string) string {
	q := make([]string, len(words))
	for i, w := range words {
		q[i] = strconv.Quote(w)
	}
	return strings.Join(q, ", ")
}

// Secret is text that prints as [redacted] everywhere.
type Secret string

const redacted = "[redacted]"

// Reveal returns the text.
func (s Secret) Reveal() string { return string(s) }

// String hides the text from fmt and slog.
func (s Secret) String() string { return redacted }

// GoString hides the text from %#v.
func (s Secret) GoString() string { return redacted }

// MarshalText hides the text from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
