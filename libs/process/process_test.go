package process_test

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"opensandbox/libs/process"
	"opensandbox/libs/settings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// read returns the settings of a file; not parallel, because SIGHUP goes to the whole process.
func read(t *testing.T, text string) settings.Settings {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "server.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := settings.Read(settings.Options{Path: path, Lookup: func(name string) (string, bool) { return dir, name == "HOME" }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t *testing.T, s settings.Settings, stderr io.Writer) *process.Process {
	t.Helper()
	p, err := process.Open(t.Context(), s, process.Options{Name: "test", Stderr: stderr, Lookup: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLogFiles(t *testing.T) {
	s := read(t, "[log]\nfile_enabled = true\nfile_path = '~/l/server.log'\naccess_file_path = '~/l/access.log'\n[docker]\nnetwork_mode = 'bridge'\n")
	var stderr strings.Builder
	p := open(t, s, &stderr)
	defer p.Close(t.Context())
	p.Log.Info("first")
	p.Access.Info("request", "path", "/x")
	for _, path := range []string{s.Log.FilePath, s.Log.AccessFilePath} {
		if err := os.Rename(path, path+".moved"); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	content := waitFor(t, s.Log.FilePath, "opened again")
	if strings.Contains(content, "first") || stderr.Len() > 0 {
		t.Errorf("log %q, stderr %q", content, stderr.String())
	}
	p.Access.Info("request", "path", "/y")
	if got := waitFor(t, s.Log.AccessFilePath, "/y"); strings.Contains(got, "/x") {
		t.Errorf("access log %q", got)
	}
	waitFor(t, s.Log.FilePath+".moved", "first")
	waitFor(t, s.Log.AccessFilePath+".moved", "/x")
}

func TestHangupWithoutLogFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stderr")
	stderr, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	p := open(t, read(t, "[docker]\nnetwork_mode = 'bridge'\n"), stderr)
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	waitFor(t, path, "SIGHUP") // after Close the signal would end the process
	p.Close(t.Context())
	if p.Access != nil {
		t.Error("an access log without a file")
	}
}

func TestLogFileThatCannotBeOpened(t *testing.T) {
	s := read(t, "[log]\nfile_enabled = true\nfile_path = '/dev/null/server.log'\n")
	if _, err := process.Open(t.Context(), s, process.Options{Name: "test"}); err == nil || !strings.Contains(err.Error(), "/dev/null") {
		t.Errorf("got %v", err)
	}
}

func waitFor(t *testing.T, path, text string) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		b, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(b), text) {
			return string(b)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q did not appear in %s: %q, %v", text, path, b, err)
		}
		time.Sleep(time.Millisecond)
	}
}
