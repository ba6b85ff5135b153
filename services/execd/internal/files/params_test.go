package files

import (
	"strconv"
	"testing"
)

// FuzzLineRange: what is accepted is a pair of positive numbers, and says what the texts say.
func FuzzLineRange(f *testing.F) {
	for _, s := range [][2]string{{"", ""}, {"1", "10"}, {"0", "x"}, {"-1", "+2"}, {"9223372036854775807", "9223372036854775808"}, {" 1", "1e3"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, offset, limit string) {
		from, count, err := LineRange(offset, limit)
		if err != nil {
			return
		}
		if from < 1 || count < 1 {
			t.Errorf("%q, %q: got %d, %d", offset, limit, from, count)
		}
		if n, err := strconv.ParseInt(offset, 10, 64); offset != "" && (err != nil || n != from) {
			t.Errorf("offset %q: got %d", offset, from)
		}
	})
}
