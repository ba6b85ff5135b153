package conf

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// String binds text. check may be nil.
func String(name string, to *string, check func(string) error) Key {
	return Key{Name: name, Allowed: "text", Get: func() any { return *to }, Bind: func(v any) error {
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
	match := func(s string) int {
		return slices.IndexFunc(words, func(w string) bool { return strings.EqualFold(w, s) })
	}
	return String(name, to, func(s string) error {
		if match(s) < 0 {
			return fmt.Errorf("expected one of %s", quoted(words))
		}
		return nil
	}).Then(func() error {
		*to = words[match(*to)]
		return nil
	}).Allow(strings.Join(words, ", "))
}

// Hidden binds a secret. check may be nil; it must not repeat the text.
func Hidden(name string, to *Secret, check func(string) error) Key {
	var s string
	k := String(name, &s, func(s string) error {
		if s == Mask {
			return errors.New("this is the mask of a printed configuration; put the secret itself here")
		}
		if check != nil {
			return check(s)
		}
		return nil
	}).Then(func() error { *to = NewSecret(s); return nil })
	k.Secret, k.Get = true, func() any { return *to }
	return k
}

// Bool binds true or false; a variable may also say 1, 0, yes, no, on and off.
func Bool(name string, to *bool) Key {
	return Key{Name: name, Allowed: "true, false", Get: func() any { return *to }, Parse: parseBool, Bind: func(v any) error {
		b, ok := v.(bool)
		if !ok {
			return errors.New("expected true or false")
		}
		*to = b
		return nil
	}}
}

func parseBool(text string) (any, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off":
		return false, nil
	}
	return nil, errors.New("expected true or false")
}

// Int binds a whole number between low and high, both inclusive. Numbers in quotes are taken, as OpenSandbox 1.1.1 does.
func Int(name string, to *int, low, high int) Key {
	allowed := fmt.Sprintf("%d–%d", low, high)
	return Key{Name: name, Allowed: allowed, Get: func() any { return int64(*to) }, Bind: func(v any) error {
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
	k := Int(name, &n, low, high).Then(func() error { *to = time.Duration(n) * time.Second; return nil })
	k.Get = func() any { return int64(*to / time.Second) }
	return k
}

// Float binds a number that is at least low, or above it. Whole numbers and numbers in quotes are taken, as OpenSandbox 1.1.1 does.
func Float(name string, to *float64, low float64, above bool) Key {
	allowed := fmt.Sprintf("at least %g", low)
	if above {
		allowed = fmt.Sprintf("above %g", low)
	}
	return Key{Name: name, Allowed: allowed, Get: func() any { return *to }, Bind: func(v any) error {
		f, ok := number(v)
		if !ok || f < low || above && f == low || f > MaxFloat {
			return fmt.Errorf("expected a number %s", allowed)
		}
		*to = f
		return nil
	}}
}

// MaxFloat bounds what Float takes: as seconds it still fits a time.Duration.
const MaxFloat = 1e9

// number reads a number of TOML; NaN is none.
func number(v any) (float64, bool) {
	switch x := v.(type) {
	case float64:
		return x, !math.IsNaN(x)
	case int64:
		return float64(x), true
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(x), 64)
		return f, err == nil && !math.IsNaN(f)
	}
	return 0, false
}

// FloatSeconds binds a number of seconds that may have a fraction; see Float.
func FloatSeconds(name string, to *time.Duration, low float64, above bool) Key {
	var f float64
	k := Float(name, &f, low, above).Then(func() error { *to = time.Duration(f * float64(time.Second)); return nil })
	k.Get = func() any { return to.Seconds() }
	return k
}

// Strings binds an array of texts; in a variable they are separated by commas.
func Strings(name string, to *[]string) Key {
	return Key{Name: name, Allowed: "array of texts", Get: func() any { return *to }, Parse: parseList, Bind: func(v any) error {
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

func parseList(text string) (any, error) {
	list := []any{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list, nil
}

// Texts binds a table of texts; in a variable it is name=value, separated by commas. check may be nil and sees each pair.
func Texts(name string, to *map[string]string, check func(name, value string) error) Key {
	return Key{Name: name, Table: true, Allowed: "table of texts", Get: func() any { return *to }, Parse: parsePairs, Bind: func(v any) error {
		table, ok := v.(map[string]any)
		if !ok {
			return errors.New("expected a table of texts")
		}
		out := make(map[string]string, len(table))
		for _, n := range slices.Sorted(maps.Keys(table)) {
			s, ok := table[n].(string)
			if !ok {
				return fmt.Errorf("%q: expected text in quotes", n)
			}
			if check != nil {
				if err := check(n, s); err != nil {
					return fmt.Errorf("%q: %w", n, err)
				}
			}
			out[n] = s
		}
		*to = out
		return nil
	}}
}

// HiddenTexts binds a table of texts whose values may be secrets: neither errors nor Print show them.
func HiddenTexts(name string, to *SecretTexts, check func(name, value string) error) Key {
	k := Texts(name, (*map[string]string)(to), func(name, value string) error {
		if value == Mask {
			return errors.New("this is the mask of a printed configuration; put the secret itself here")
		}
		if check != nil {
			return check(name, value)
		}
		return nil
	})
	k.Secret = true
	k.Get = func() any { return to.masked() }
	return k
}

func parsePairs(text string) (any, error) {
	table := map[string]any{}
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		n, v, ok := strings.Cut(pair, "=")
		n = strings.TrimSpace(n)
		if _, twice := table[n]; !ok || n == "" || twice {
			return nil, errors.New("expected name=value pairs with different names, separated by commas")
		}
		table[n] = strings.TrimSpace(v)
	}
	return table, nil
}

// Ignored accepts any value and says why it has no effect.
func Ignored(name, note string) Key {
	return Key{Name: name, Note: note, Table: true, Bind: func(any) error { return nil }}
}

// Refused accepts only values that ask for nothing: empty text, false, an empty array, or one of harmless. It is for keys
// whose silent loss would leave sandboxes less protected than the operator believes.
func Refused(name, why string, harmless ...any) Key {
	return Key{Name: name, Table: true, Bind: func(v any) error {
		if empty(v) || slices.ContainsFunc(harmless, func(h any) bool { return same(h, v) }) {
			return nil
		}
		return errors.New(why)
	}}
}

// same compares without a panic: tables and arrays cannot be compared with ==.
func same(a, b any) bool {
	switch b.(type) {
	case string, bool, int64, float64:
		return a == b
	}
	return false
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
