package conf

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
)

// Mask is what stands for a secret wherever one would be printed.
const Mask = "***"

// Secret is text that prints as *** in every verb of fmt, in JSON, in TOML and in slog. The zero value is an empty secret. It keeps the
// text behind a pointer, because fmt does not ask the methods of unexported fields and prints what it finds there.
type Secret struct{ text *string }

// NewSecret wraps a text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsSet reports whether there is any text.
func (s Secret) IsSet() bool { return s.text != nil }

// Equal compares in a time that tells nothing but the lengths.
func (s Secret) Equal(other Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(other.Reveal())) == 1
}

// String hides the text.
func (s Secret) String() string { return Mask }

// Format hides the text in every verb: Stringer covers only some.
func (s Secret) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, Mask) // a printer has nowhere to report to
}

// MarshalText hides the text from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(Mask), nil }

// MarshalJSON hides the text, and whether there is any.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + Mask + `"`), nil }

// LogValue hides the text from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(Mask) }

// SecretTexts are texts by name whose values are hidden in fmt, JSON and slog, as those of Secret are. To print the names is fine.
type SecretTexts map[string]string

// Format hides the values in every verb.
func (t SecretTexts) Format(f fmt.State, _ rune) { fmt.Fprint(f, t.masked()) }

// MarshalJSON hides the values.
func (t SecretTexts) MarshalJSON() ([]byte, error) { return json.Marshal(t.masked()) }

// LogValue hides the values from slog.
func (t SecretTexts) LogValue() slog.Value { return slog.AnyValue(t.masked()) }

func (t SecretTexts) masked() map[string]string {
	masked := maps.Clone(map[string]string(t))
	for name := range masked {
		masked[name] = Mask
	}
	return masked
}
