package renewintent

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	at := func(nanos int) time.Time { return time.Date(2026, 3, 4, 5, 6, 7, nanos, time.UTC) }
	for payload, want := range map[string]Intent{
		`{"sandbox_id":"s","observed_at":"2026-03-04T05:06:07Z"}`:                                                {"s", at(0)},
		`{"sandbox_id":"s","observed_at":"2026-03-04T05:06:07.123456789Z","port":8080,"request_uri":"/a%2Fb"}`:   {"s", at(123456789)},
		`{"sandbox_id":" s ","observed_at":" 2026-03-04T05:06:07Z ","namespace":"team"}`:                         {"s", at(0)},
		`{"sandbox_id":"s","observed_at":"2026-03-04T07:06:07+02:00"}`:                                           {"s", at(0)},
		`{"sandbox_id":"s","observed_at":"2026-03-04T05:06:07.5"}`:                                               {"s", at(5e8)},
		`{"sandbox_id":"s","observed_at":"2026-03-04T05:06:07Z","port":"8080","request_uri":7,"namespace":null}`: {"s", at(0)},
		"\n{\"sandbox_id\":\"s\",\"observed_at\":\"2026-03-04T05:06:07Z\"}\n":                                    {"s", at(0)},
	} {
		got, err := Parse([]byte(payload))
		if err != nil || got.ID != want.ID || !got.ObservedAt.Equal(want.ObservedAt) {
			t.Errorf("%s: %+v, %v; want %+v", payload, got, err, want)
		}
	}
	for name, payload := range map[string]string{
		"nothing":         ``,
		"no JSON":         `s`,
		"a list":          `[]`,
		"null":            `null`,
		"two values":      `{"sandbox_id":"s","observed_at":"2026-03-04T05:06:07Z"}{}`,
		"no id":           `{"observed_at":"2026-03-04T05:06:07Z"}`,
		"a blank id":      `{"sandbox_id":" ","observed_at":"2026-03-04T05:06:07Z"}`,
		"a number as id":  `{"sandbox_id":7,"observed_at":"2026-03-04T05:06:07Z"}`,
		"no time":         `{"sandbox_id":"s"}`,
		"a number":        `{"sandbox_id":"s","observed_at":1772600767}`,
		"another form":    `{"sandbox_id":"s","observed_at":"04.03.2026 05:06"}`,
		"an invalid date": `{"sandbox_id":"s","observed_at":"2026-02-30T05:06:07Z"}`,
		"too long":        `{"sandbox_id":"s","observed_at":"2026-03-04T05:06:07Z","request_uri":"` + strings.Repeat("a", MaxPayload) + `"}`,
	} {
		if got, err := Parse([]byte(payload)); err == nil {
			t.Errorf("%s: taken as %+v", name, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{"sandbox_id":"s","observed_at":"2026-03-04T05:06:07.123Z","port":1,"request_uri":"/"}`, `{"sandbox_id":"s","observed_at":"2026-03-04T05:06:07"}`,
		`{}`, `null`, `[`, `{"SANDBOX_ID":"s","observed_at":"0000-01-01T00:00:00+23:59"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		got, err := Parse(payload)
		if err != nil {
			return
		}
		if got.ID == "" || strings.TrimSpace(string(got.ID)) != string(got.ID) || got.ObservedAt.Location() != time.UTC {
			t.Errorf("%q is taken as %+v", payload, got)
		}
	})
}
