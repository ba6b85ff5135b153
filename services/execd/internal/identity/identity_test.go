package identity

import (
	"strconv"
	"testing"
)

// FuzzParseID: one spelling for each number, and never the one that means "unchanged".
func FuzzParseID(f *testing.F) {
	for _, s := range []string{"0", "1000", "4294967294", "4294967295", "-1", "+1", "01", "1e3", "", "\u0661"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := ParseID(text)
		if err == nil && (id > MaxID || strconv.FormatUint(uint64(id), 10) != text) {
			t.Errorf("%q: got %d", text, id)
		}
	})
}
