package sse

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var stamp = regexp.MustCompile(`"timestamp":\d{13}`)

func TestFraming(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	s := Open(rec)
	if err := s.Init("id1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Output("stdout", [][]byte{[]byte("a\n"), []byte("<\u2028\u0085\xff\r\n")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Fail("CommandExecError", "3", "exit status 3"); err != nil {
		t.Fatal(err)
	}
	if err := s.Complete(time.Second); !errors.Is(err, ErrClosed) {
		t.Errorf("second final event: got %v, want ErrClosed", err)
	}
	s.Close()
	if err := s.Output("stdout", [][]byte{[]byte("late")}); !errors.Is(err, ErrClosed) {
		t.Errorf("output after Close: got %v, want ErrClosed", err)
	}
	want := `{"type":"init","timestamp":0,"text":"id1"}` + "\n\n" +
		`{"type":"ping","timestamp":0,"text":"pong"}` + "\n\n" +
		`{"type":"stdout","timestamp":0,"text":"a\n"}` + "\n\n" +
		`{"type":"stdout","timestamp":0,"text":"\u003c\u2028\u0085\ufffd\r\n"}` + "\n\n" +
		`{"type":"error","timestamp":0,"error":{"ename":"CommandExecError","evalue":"3","traceback":["exit status 3"]}}` + "\n\n"
	if d := cmp.Diff(want, stamp.ReplaceAllString(rec.Body.String(), `"timestamp":0`)); d != "" {
		t.Errorf("stream (-want +got):\n%s", d)
	}
	if got := rec.Header().Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("content type %q", got)
	}
}

func TestCompleteLeavesZeroOut(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]string{
		time.Microsecond: `{"type":"execution_complete","timestamp":0}`, 5 * time.Millisecond: `{"type":"execution_complete","timestamp":0,"execution_time":5}`,
	} {
		rec := httptest.NewRecorder()
		s := Open(rec)
		_ = s.Complete(took)
		s.Close()
		if got := strings.TrimSpace(stamp.ReplaceAllString(rec.Body.String(), `"timestamp":0`)); got != want {
			t.Errorf("%s: got %s, want %s", took, got, want)
		}
	}
}

func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		s := Open(rec)
		_ = s.Init("x")
		time.Sleep(2*KeepAlive + time.Millisecond)
		_ = s.Complete(0)
		time.Sleep(2 * KeepAlive)
		s.Close()
		if got := strings.Count(rec.Body.String(), `"pong"`); got != 3 {
			t.Errorf("got %d pings, want 3: one at once, two later, none after the final event", got)
		}
	})
}

func TestLongLineIsOneEvent(t *testing.T) {
	t.Parallel()
	line := strings.Repeat("é\x01", flushAt) + "\n"
	rec := httptest.NewRecorder()
	s := Open(rec)
	_ = s.Output("stdout", [][]byte{[]byte(line)})
	s.Close()
	var e struct{ Text string }
	if err := json.Unmarshal(rec.Body.Bytes(), &e); err != nil {
		t.Fatal(err)
	}
	if e.Text != line {
		t.Error("a long line came back changed")
	}
}

// TestPlainRun puts every byte at every place between plain ones.
func TestPlainRun(t *testing.T) {
	t.Parallel()
	for length := range 20 {
		for at := range length {
			for c := range 256 {
				b := bytes.Repeat([]byte("a"), length)
				b[at] = byte(c)
				want := at
				if c < utf8.RuneSelf && plain[c] {
					want = length
				}
				if got := plainRun(b); got != want {
					t.Fatalf("plainRun(%q) = %d, want %d", b, got, want)
				}
			}
		}
	}
}

func FuzzString(f *testing.F) {
	f.Add([]byte("a\"\\\n\x00\x7f<&>"))
	f.Add([]byte("\u0085\u2028\u2029\xff\xc3\xed\xa0\x80"))
	f.Fuzz(func(t *testing.T, b []byte) {
		enc := appendString(nil, b)
		var got string
		if err := json.Unmarshal(enc, &got); err != nil {
			t.Fatalf("%q is not JSON: %v", enc, err)
		}
		ref, err := json.Marshal(string(b))
		if err != nil {
			t.Fatal(err)
		}
		var want string
		if err := json.Unmarshal(ref, &want); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%q decodes to %q, want %q", enc, got, want)
		}
		if strings.ContainsAny(string(enc), "\n\r\u0085\u2028\u2029<>&\x7f") {
			t.Errorf("%q holds a character that must be escaped", enc)
		}
	})
}

func FuzzCutText(f *testing.F) {
	f.Add("aéé€𝄞", 4)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < utf8.UTFMax || limit > 1<<20 {
			return
		}
		n := CutText([]byte(s), limit)
		if n > limit || n > len(s) || (n == 0 && s != "") {
			t.Fatalf("CutText(%q, %d) = %d", s, limit, n)
		}
		if utf8.ValidString(s) && !utf8.ValidString(s[:n]) {
			t.Errorf("CutText(%q, %d) = %d cuts a character", s, limit, n)
		}
	})
}
