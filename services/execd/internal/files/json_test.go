package files

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func FuzzAppendJSON(f *testing.F) {
	f.Add("/a/b.txt", "root", int64(5), int64(1_700_000_000), int64(123_456_789), 644)
	f.Add("/\xff\u0085\u2028<\"\\\n\x7f&>", "\u0085", int64(-1), int64(-1), int64(0), 0)
	f.Add("", "", int64(0), int64(253_402_300_800), int64(0), 777) // The year 10000.
	f.Fuzz(func(t *testing.T, path, owner string, size, seconds, nanos int64, mode int) {
		i := Info{Path: path, Type: "file", Size: size, ModifiedAt: time.Unix(seconds, nanos), CreatedAt: time.Unix(nanos, seconds).UTC(), Owner: owner, Group: path, Mode: mode}
		want, wantErr := json.Marshal(i)
		got, err := i.AppendJSON([]byte("x"))
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if want = bytes.ReplaceAll(want, []byte("\u0085"), []byte(`\u0085`)); err == nil && string(got) != "x"+string(want) {
			t.Errorf("got  %s\nwant x%s", got, want)
		}
	})
}

// TestAnyTimeHasItsPlace: the time of a file is what whoever made it likes.
func TestAnyTimeHasItsPlace(t *testing.T) {
	t.Parallel()
	for sec, want := range map[int64]string{0: "1970-01-01T00:00:00Z", 1 << 40: "9999-12-31T23:59:59Z", -1 << 40: "0000-01-01T00:00:00Z"} {
		at := expressible(time.Unix(sec, 0).UTC())
		got, err := Info{ModifiedAt: at, CreatedAt: at}.AppendJSON(nil)
		if err != nil || !strings.Contains(string(got), `"modified_at":"`+want+`"`) {
			t.Errorf("%d: %s, %v", sec, got, err)
		}
	}
}
