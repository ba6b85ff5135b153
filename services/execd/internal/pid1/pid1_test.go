package pid1

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"opensandbox/services/execd/internal/reap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSplit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want []string
		ok   bool
	}{
		{"a b", []string{"a", "b"}, true},
		{"  a\t b\n", []string{"a", "b"}, true},
		{`sh -c 'echo "x  y" $HOME'`, []string{"sh", "-c", `echo "x  y" $HOME`}, true},
		{`a "b \"c\" \x" d\ e`, []string{"a", `b "c" \x`, "d e"}, true},
		{`'' ""`, []string{"", ""}, true},
		{`a'b'"c"d`, []string{"abcd"}, true},
		{`a 'b`, nil, false},
		{`a "b`, nil, false},
		{`a\`, nil, false},
		{"  ", nil, true},
	}
	for _, tt := range tests {
		got, err := Split(tt.in)
		if d := cmp.Diff(tt.want, got); d != "" || (err == nil) != tt.ok {
			t.Errorf("Split(%q): %v (-want +got):\n%s", tt.in, err, d)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add(`a 'b c' "d\"e" f\ g`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := Split(line)
		if err != nil {
			return
		}
		var quoted []byte
		for _, w := range words {
			for _, c := range []byte(w) {
				quoted = append(quoted, '\\', c)
			}
			if w == "" {
				quoted = append(quoted, "''"...)
			}
			quoted = append(quoted, ' ')
		}
		if again, err := Split(string(quoted)); err != nil || !slices.Equal(words, again) {
			t.Errorf("%q → %q → %q, %v", line, words, again, err)
		}
	})
}

// TestLifecycle is one test: all parts share the test process's children.
func TestLifecycle(t *testing.T) {
	if err := Adopt(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("\x7fnot a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		argv []string
		want int
	}{
		{[]string{"no-such-program"}, 127}, {[]string{dir + "/nope"}, 127}, {[]string{plain}, 126}, {[]string{broken}, 126}, {[]string{dir}, 126},
		{[]string{plain + "/x"}, 127}, {[]string{"sh -c '"}, 127}, {[]string{""}, 127}, {[]string{" "}, 127},
	} {
		r := reap.New()
		_, err := Start(r, tt.argv, os.Environ())
		r.Close()
		se, ok := errors.AsType[*StartError](err)
		if !ok || se.Code != tt.want || se.Error() == "" {
			t.Errorf("%q: got %v, want exit status %d", tt.argv, err, tt.want)
		}
	}
	deaf := filepath.Join(dir, "deaf") // there once a process ignores SIGTERM
	for _, tt := range []struct {
		script string
		grace  time.Duration
		want   int
		left   bool
	}{
		{"exit 0", Grace, 0, false},
		{"exit 7", Grace, 7, false},
		{"kill -TERM $$", Grace, 143, false},
		{"(sleep 1000 &) ; sleep 1000 & exit 3", Grace, 3, true},
		{"(trap '' TERM; : >" + deaf + "; while :; do sleep 0.01; done) & while [ ! -e " + deaf + " ]; do sleep 0.01; done; exit 4", 50 * time.Millisecond, 4, true},
	} {
		r := reap.New()
		w, err := Start(r, []string{"sh", "-c", tt.script}, os.Environ())
		if err != nil {
			t.Fatal(err)
		}
		<-w.Done()
		left := w.Sweep(tt.grace)
		if w.ExitCode() != tt.want || left != tt.left {
			t.Errorf("%q: exit status %d, children left %t; want %d, %t", tt.script, w.ExitCode(), left, tt.want, tt.left)
		}
		if below := descendants(os.Getpid()); len(below) > 0 {
			t.Errorf("%q: processes %v are still there", tt.script, below)
		}
		if _, err := r.Start("/bin/true", []string{"true"}, &syscall.ProcAttr{}); !errors.Is(err, reap.ErrStopping) {
			t.Errorf("a process could be started after the sweep: %v", err)
		}
		r.Close()
	}
}

func TestSignal(t *testing.T) {
	r := reap.New()
	defer r.Close()
	w, err := Start(r, []string{"sleep 1000"}, os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	w.Signal(syscall.SIGUSR1)
	<-w.Done()
	if got := w.ExitCode(); got != 128+int(syscall.SIGUSR1) {
		t.Errorf("got exit status %d", got)
	}
}
