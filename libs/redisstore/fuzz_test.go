package redisstore

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzStoredNumbers: what others may have written is read as it is, or not at all.
func FuzzStoredNumbers(f *testing.F) {
	f.Add(`{"name":"n"}`, "1767323045000000", "7", "a\nb")
	f.Add(`null`, "", "", "")
	f.Add(`{"name":"n","leaseUntil":"x"}`, "-9223372036854775808", "18446744073709551615", "\n")
	f.Fuzz(func(t *testing.T, raw, at, number, list string) {
		if n, err := parseNode(raw, at); err == nil && at != "" && micros(n.LeaseUntil) == "" {
			t.Errorf("the lease %q is none", at)
		}
		used, err := parseUsage([]any{number, at, nil})
		if err == nil && used.Reserved.Memory != 0 {
			t.Errorf("%q, %q and nothing are %+v", number, at, used)
		}
		r, err := parseRecovery([]string{at, number, at, list})
		if err != nil {
			if !cmp.Equal(r.Unreported, []string(nil)) {
				t.Errorf("half a recovery: %+v", r)
			}
			return
		}
		again, err := parseRecovery([]string{micros(r.Mark.Incarnation), number, micros(r.Since), list})
		if err != nil || !again.Mark.Incarnation.Equal(r.Mark.Incarnation) || !again.Since.Equal(r.Since) {
			t.Errorf("%+v became %+v, %v", r, again, err)
		}
	})
}

// FuzzAnswer: an answer of a script, or an error, and never both.
func FuzzAnswer(f *testing.F) {
	f.Add("saved", "80=40000", uint8(2))
	f.Add("", "", uint8(0))
	f.Fuzz(func(t *testing.T, first, second string, n uint8) {
		list := []any{first, second, int64(1)}[:n%4]
		answer, ports, err := parseAnswer(list)
		if (err == nil) != (len(list) > 0) || err == nil && (answer != first || len(list) > 1 && ports != second) {
			t.Errorf("%q: %q, %q, %v", list, answer, ports, err)
		}
		for _, wrong := range []any{nil, first, int64(n), []any{int64(n), second}} {
			if _, _, err := parseAnswer(wrong); err == nil {
				t.Errorf("%v is an answer", wrong)
			}
		}
	})
}
