package hooks

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/secrettest"
)

// TestFile: what was saved is what the variable had said, whatever is in the words.
func TestFile(t *testing.T) {
	t.Parallel()
	f := File{Path: filepath.Join(t.TempDir(), "a/b/lifecycle.toml"), Required: true}
	if set, err := Load("", f); err != nil || set.PreStart != nil || set.Periodic != nil {
		t.Errorf("no file: got %+v, %v", set, err)
	}
	text := `{"preStart":{"command":["sh","-c","echo \"a\tb'\" # \u00e9\n"],"timeoutSeconds":90},
		"periodic":[{"name":"p","schedule":"*/5 * * * *","command":["x",""]},{"name":"q","schedule":"@every 90s","command":["y"],"timeoutSeconds":1}]}`
	want, err := Load(text, f)
	if err != nil || want.Save(f) != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", " "} {
		got, err := Load(text, f)
		if d := cmp.Diff(fmt.Sprint(want.Periodic, *want.PreStart), fmt.Sprint(got.Periodic, *got.PreStart)); err != nil || d != "" {
			t.Errorf("%v (-want +got):\n%s", err, d)
		}
		before, err := os.Stat(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		err = got.Save(f)
		if after, serr := os.Stat(f.Path); err != nil || serr != nil || !os.SameFile(before, after) {
			t.Errorf("without the variable the file stays: %v, %v", err, serr)
		}
	}
	if st, err := os.Stat(f.Path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v; only execd's user may read the file", st.Mode(), err)
	}
	if all, err := filepath.Glob(filepath.Dir(f.Path) + "/.*"); err != nil || len(all) != 0 {
		t.Errorf("temporary files stayed: %v, %v", all, err)
	}
	if set, err := Load("{}", f); err != nil || set.PreStart != nil {
		t.Errorf("the variable wins: got %+v, %v", set, err)
	} else if err := set.Save(f); err != nil {
		t.Error(err)
	} else if set, err := Load("", f); err != nil || set.PreStart != nil || set.Periodic != nil {
		t.Errorf("a variable without hooks empties the file: got %+v, %v", set, err)
	}
}

func TestFileOfAnImage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lifecycle.toml")
	write := func(content string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("# by hand\nversion = 1\n[preStart]\ncommand = ['a', \"b\"]\ntimeout_seconds = 5\n[[periodic]]\nname = 'n'\nschedule = '@hourly'\ncommand = ['c']\n", 0o644)
	set, err := Load("", File{Path: path})
	if err != nil || set.PreStart == nil || set.PreStart.Timeout != 5*time.Second || len(set.Periodic) != 1 || set.Periodic[0].Timeout != time.Minute {
		t.Errorf("got %+v, %v", set, err)
	}
	secret := secrettest.New("an argument of a hook in a file")
	for content, want := range map[string]string{
		"":                                   "version: expected 1",
		"version = 2":                        "version: expected 1",
		"version = 1\nname = '" + secret:     "line 2, column",
		"version = 1\n[preStop]\ncommand=[]": `line 2: unknown key "preStop"`,
		"version = 1\n[preStart]":            "preStart: the command is missing",
		"version = '" + secret + "'":         "line 1, column",
		"version = 1\n[preStart]\ncommand='" + secret + "'":                           "line 3, column",
		"version = 1\n[preStart]\ncommand=['a', '" + secret + "']\ntimeout_seconds=0": "from 1 to 10800",
		strings.Repeat("#", maxFile+1):                                                "larger than",
	} {
		write(content, 0o600)
		_, err := Load("", File{Path: path})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.80q: got %v, want %q", content, err, want)
			continue
		}
		secrettest.Absent(t, "the error", err.Error())
	}
	write("version = 1", 0o622)
	if _, err := Load("", File{Path: path}); err == nil || !strings.Contains(err.Error(), "nobody else can write") {
		t.Errorf("a file that others can write: got %v", err)
	}
	if _, err := Load("", File{Path: path + "/x"}); err != nil {
		t.Errorf("a path below a file: got %v", err)
	}
	pipe := filepath.Join(t.TempDir(), "lifecycle.toml")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load("", File{Path: pipe}); err == nil || !strings.Contains(err.Error(), "expected a file") {
		t.Errorf("a pipe: %v", err)
	}
}

// FuzzFile: a file has hooks or a mistake, whatever is in it.
func FuzzFile(f *testing.F) {
	f.Add([]byte("version = 1\n[preStart]\ncommand = ['a']\n[[periodic]]\nname = 'n'\nschedule = '@hourly'\ncommand = ['c']\n"))
	f.Add([]byte("version = 1\n[preStart]\ncommand = 1"))
	path := filepath.Join(f.TempDir(), "lifecycle.toml")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		set, err := Load("", File{Path: path})
		if err == nil && set.PreStart != nil && len(set.PreStart.Command) == 0 {
			t.Errorf("%q: a hook without a command", content)
		}
	})
}
