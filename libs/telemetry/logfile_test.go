package telemetry_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/telemetry"
)

// logged returns the names and contents of a directory.
func logged(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

func say(t *testing.T, l *telemetry.LogFile, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if n, err := l.Write([]byte(line + "\n")); err != nil || n != len(line)+1 {
			t.Fatalf("write %q: %d, %v", line, n, err)
		}
	}
}

func TestLogFileIsPutAside(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "server.log")
	l, err := telemetry.OpenLogFile(path, 10, 2)
	if err != nil {
		t.Fatal(err)
	}
	say(t, l, "1234", "5678", "a line that is longer than the bound", "next")
	want := map[string]string{"server.log": "next\n", "server.log.1": "a line that is longer than the bound\n", "server.log.2": "1234\n5678\n"}
	if diff := cmp.Diff(want, logged(t, dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	// The size of what was there before counts.
	if l, err = telemetry.OpenLogFile(path, 10, 2); err != nil {
		t.Fatal(err)
	}
	say(t, l, "again!")
	want = map[string]string{"server.log": "again!\n", "server.log.1": "next\n", "server.log.2": "a line that is longer than the bound\n"}
	if diff := cmp.Diff(want, logged(t, dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := l.Close(); err != nil || l.Close() != nil {
		t.Error(err)
	}
	if _, err := l.Write([]byte("x")); err == nil {
		t.Error("a closed file took a line")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestLogFileWithoutBackupsGrowsAndIsReopened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "server.log")
	l, err := telemetry.OpenLogFile(path, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	say(t, l, "one", "two")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	say(t, l, "three")
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	say(t, l, "four")
	want := map[string]string{"server.log": "four\n", "server.log.old": "one\ntwo\nthree\n"}
	if diff := cmp.Diff(want, logged(t, dir)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	// A path that has become a directory leaves the old file in use.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err == nil {
		t.Error("a directory was opened")
	}
	say(t, l, "five")
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestLogFileOfManyWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := telemetry.OpenLogFile(filepath.Join(dir, "server.log"), 100, 50)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				if _, err := fmt.Fprintf(l, "writer %d line %02d\n", w, i); err != nil {
					t.Error(err)
				}
				if i == 25 {
					if err := l.Reopen(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	lines := 0
	for name, content := range logged(t, dir) {
		if len(content) > 100 {
			t.Errorf("%s has %d bytes", name, len(content))
		}
		lines += strings.Count(content, "\n")
	}
	if lines != 200 {
		t.Errorf("%d lines, want 200", lines)
	}
}

func TestLogFileThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	if _, err := telemetry.OpenLogFile("/dev/null/x/server.log", 1, 1); err == nil {
		t.Error("no error")
	}
	if _, err := telemetry.OpenLogFile(t.TempDir(), 1, 1); err == nil {
		t.Error("a directory was opened")
	}
}
