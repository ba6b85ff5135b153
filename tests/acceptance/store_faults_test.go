//go:build e2e

package acceptance

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"opensandbox/tests/process"
)

// TestStoreFilesThatCannotBeUsed: the server does not start, says what is wrong with which file, and leaves the file as it is.
func TestStoreFilesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	s := &server{t: t, dir: t.TempDir(), base: fmt.Sprintf("http://127.0.0.1:%d", process.FreePort(t))}
	t.Cleanup(s.nothingLeft)
	file := filepath.Join(s.dir, "data", "store.db")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		// prepare makes the file and may hold it until the returned function is called.
		prepare func() (release func())
		want    string
	}{
		"a text":        {content(t, file, "not a database, and long enough to have a header of one"), "is not a SQLite database"},
		"a damaged one": {content(t, file, "SQLite format 3\x00"+strings.Repeat("garbage!", 1000)), "is damaged or not a SQLite database"},
		"a newer one": {sqlite(t, file, `PRAGMA journal_mode = WAL; CREATE TABLE osb_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID; INSERT INTO osb_meta VALUES ('schema_version', '999'); PRAGMA wal_checkpoint(TRUNCATE);`),
			"has schema version 999; this program knows versions up to"},
		"a locked one": {sqlite(t, file, `CREATE TABLE theirs (id TEXT); BEGIN EXCLUSIVE;`), "is locked by another program"},
	} {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(file + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		release := c.prepare()
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		said := s.ends(&program{name: strings.ReplaceAll(name, " ", "-"), binary: binary(t)})
		if !strings.Contains(said, c.want) || !strings.Contains(said, file) {
			t.Errorf("%s: the server says\n%s\nwant %q and the name of the file", name, said, c.want)
		}
		after, err := os.ReadFile(file)
		if err != nil || string(after) != string(before) {
			t.Errorf("%s: the file was changed, %v", name, err)
		}
		release()
	}
}

// content writes a file.
func content(t *testing.T, file, text string) func() func() {
	return func() func() {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return func() {}
	}
}

// holder runs statements on a file of SQLite and keeps it open until its input ends.
const holder = `import sqlite3, sys
file = sqlite3.connect(sys.argv[1], isolation_level=None)
file.executescript(sys.argv[2])
print("ready", flush=True)
sys.stdin.read()
`

// sqlite runs statements on a file in another program, which keeps it open until it is released.
func sqlite(t *testing.T, file, statements string) func() func() {
	return func() func() {
		t.Helper()
		python := filepath.Join(needEnv(t, "OPENSANDBOX_TEST_VENV"), "bin", "python")
		other := process.Command(nil, python, "-c", holder, file, statements)
		in, err := other.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := other.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Start(); err != nil {
			t.Fatal(err)
		}
		end := func() { _ = in.Close(); _ = other.Wait() }
		t.Cleanup(end)
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			t.Fatalf("the other program says %q, %v", line, err)
		}
		return end
	}
}

// TestStoreOnAFullDisk fills the disk of the store, a small tmpfs, while the server runs: what has to be written is answered with 503, what can
// be read is, sandboxes go on, and with room again everything does.
func TestStoreOnAFullDisk(t *testing.T) {
	t.Parallel()
	s := &server{t: t, dir: t.TempDir(), base: fmt.Sprintf("http://127.0.0.1:%d", process.FreePort(t)), extra: "max_sandboxes = 1\n"}
	data := filepath.Join(s.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", data, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		t.Fatalf("mount a tmpfs (as root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(data, syscall.MNT_DETACH) })
	s.programs = []*program{{name: "server", binary: binary(t)}}
	s.run()
	s.cleanUp()
	filler := filepath.Join(data, "filler")
	t.Cleanup(func() { _ = os.Remove(filler) }) // before what needs room to end
	id := s.create(nil)
	if _, err := fillUp(filler); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	// The files of the store have some room of their own left. Sandboxes that wait for the only place fill it.
	var full answer
	s.eventually("a create is refused", func() bool {
		full = s.do("POST", "/v1/sandboxes", spec(m{"env": m{"FILL": strings.Repeat("x", 100_000)}}), "Prefer", "respond-async")
		return full.status != http.StatusAccepted
	})
	wantEnvelope(t, "a create on a full disk", full, http.StatusServiceUnavailable)
	if full.header.Get("Retry-After") == "" || full.text("code") != "STORE::FULL" || !strings.Contains(full.text("message"), "was not made") {
		t.Errorf("the answer does not say what was wrong, what became of it and when to come again: %v", full)
	}
	if got := s.state(id); got != "Running" {
		t.Errorf("the sandbox is shown as %s", got)
	}
	if out := output(s.shell(id, "echo goes on"), "stdout"); out != "goes on\n" {
		t.Errorf("the sandbox says %q", out)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s.eventually("a change is taken again", func() bool {
		a := s.do("POST", "/v1/sandboxes/"+id+"/renew-expiration", m{"expiresAt": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)})
		return a.status == http.StatusOK
	})
}

// fillUp writes a file until that fails, and returns how much it has got.
func fillUp(path string) (int64, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var size int64
	for block := make([]byte, 4096); ; {
		n, err := f.Write(block)
		if size += int64(n); err != nil {
			return size, err
		}
	}
}
