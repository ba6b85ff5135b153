package daemon

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLogOutputs has the variables of OpenSandbox 1.1.1 for log lines.
func TestLogOutputs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		env  []string
		want []string
		err  string
	}{
		{nil, nil, ""},
		{[]string{"EXECD_LOG_FILE=execd.log"}, []string{"execd.log"}, ""},
		{[]string{"OPENSANDBOX_LOG_OUTPUT=stdout, /var/log/x ,,stderr"}, []string{"stdout", "/var/log/x", "stderr"}, ""},
		{[]string{"OPENSANDBOX_LOG_OUTPUT=stdout", "EXECD_LOG_FILE=/x"}, []string{"/x"}, ""},
		{[]string{"OPENSANDBOX_LOG_OUTPUT=stdout", "EXECD_LOG_FILE="}, []string{"stdout"}, ""},
		{[]string{"OPENSANDBOX_LOG_OUTPUT=console"}, nil, `OPENSANDBOX_LOG_OUTPUT: "console" is neither stdout nor stderr nor a path`},
	} {
		o, err := parse(nil, tt.env, io.Discard)
		if d := cmp.Diff(tt.want, o.logOutputs); d != "" || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: got %v (-want +got):\n%s", tt.env, err, d)
		}
	}
}

func TestLastWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		env, flag string
		want      time.Duration
		ok        bool
	}{
		{"", "", 200 * time.Millisecond, true},
		{"1s", "", time.Second, true},
		{"1s", "0", 0, true},
		{"a while", "50ms", 50 * time.Millisecond, true},
		{"a while", "", 0, false},
		{"", "-1s", 0, false},
		{"", "1", 0, false},
	} {
		var args []string
		if tt.flag != "" {
			args = []string{"--graceful-shutdown-timeout", tt.flag}
		}
		o, err := parse(args, []string{"EXECD_API_GRACE_SHUTDOWN=" + tt.env}, io.Discard)
		if (err == nil) != tt.ok || err == nil && o.lastWords != tt.want || err != nil && !strings.Contains(err.Error(), "EXECD_API_GRACE_SHUTDOWN") {
			t.Errorf("%+v: got %s, %v", tt, o.lastWords, err)
		}
	}
}

// TestLogFileIsBounded has a file of 40 bytes: the newest lines are in it, older ones in the files beside it.
func TestLogFileIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new/execd.log")
	line := func(i int) string { return fmt.Sprintf("this is line %03d\n", i) } // Two fit.
	const lines = 2*(oldLogFiles+3) + 1
	for i := range lines {
		f, err := openLogFile(path, 40) // Each time anew: what is there counts.
		if err != nil {
			t.Fatal(err)
		}
		if n, err := f.Write([]byte(line(i))); n != len(line(i)) || err != nil {
			t.Fatal(n, err)
		}
		f.file.Close()
	}
	want := map[string]string{"execd.log": line(lines - 1)}
	for i := 1; i <= oldLogFiles; i++ {
		want["execd.log."+strconv.Itoa(i)] = line(lines-1-2*i) + line(lines-2*i)
	}
	got := map[string]string{}
	all, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(path), e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(b)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v; only execd's user may read the log", st.Mode(), err)
	}
}

// TestLogGoesOnWhenItCannotRotate: what cannot be put aside is written on.
func TestLogGoesOnWhenItCannotRotate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 255)) // With .1 the name is too long for Linux.
	f, err := openLogFile(path, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer f.file.Close()
	for range 5 {
		if _, err := f.Write([]byte("six by\n")); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != strings.Repeat("six by\n", 5) {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestLogGoesWhereItIsTold runs the whole program. Not parallel: see TestEntryPointDecides.
func TestLogGoesWhereItIsTold(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "log/execd.log")
	// The warning is about a home directory that cannot be written.
	env := append(os.Environ(), "EXECD_ENVS="+filepath.Join(dir, "env"), "HOME=/proc/none", "OPENSANDBOX_LIFECYCLE={}")
	const warning = "the hooks are in their variable only"
	for _, tt := range []struct {
		variable                string
		stdout, stderr, fileHas string
	}{
		{"OPENSANDBOX_LOG_OUTPUT=", "", "opensandbox-execd: time=", ""},
		{"OPENSANDBOX_LOG_OUTPUT=stdout," + file, "opensandbox-execd: time=", "", "time="},
		{"EXECD_LOG_FILE=" + file, "", "", "time="},
		{"EXECD_LOG_FILE=/proc/none/x", "", "opensandbox-execd: the log file cannot be used: mkdir /proc/none", ""},
	} {
		var stdout, stderr bytes.Buffer
		code := Run([]string{"--init", "--port", freePort(t), "--", "sleep", "0.1"}, append(env, tt.variable), &stdout, &stderr)
		content, _ := os.ReadFile(file)
		_ = os.Remove(file)
		for _, place := range []struct{ got, want string }{{stdout.String(), tt.stdout}, {stderr.String(), tt.stderr}, {string(content), tt.fileHas}} {
			if !strings.HasPrefix(place.got, place.want) || strings.Contains(place.got, warning) != (place.want != "") {
				t.Errorf("%s: got %q, want %q and the warning only then", tt.variable, place.got, place.want)
			}
		}
		if code != 0 {
			t.Errorf("%s: exit status %d", tt.variable, code)
		}
	}
}
