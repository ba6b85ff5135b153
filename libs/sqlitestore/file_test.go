package sqlitestore

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
)

// fill makes a placed and a running record with metadata, and an unplaced one.
func fill(t testing.TB, s *Store) {
	t.Helper()
	ctx := t.Context()
	n, err := s.Register(ctx, node.Registration{Name: "n", EngineID: "e", PortMin: 40000, PortMax: 40099, TakeOver: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []sandbox.ID{"unplaced", "placed", "running"} {
		_, err := s.Insert(ctx, sandbox.New{ID: id, Accepted: true, Spec: sandboxtest.Spec(time.Hour), Metadata: map[string]string{"k": "v"}})
		if err != nil {
			t.Fatal(err)
		}
		if id == "unplaced" {
			continue
		}
		c := sandbox.Candidate{Node: "n", PortMin: 40000, PortMax: 40099}
		if _, err := s.Place(ctx, sandbox.PlaceRequest{ID: id, Candidates: []sandbox.Candidate{c}, Ports: []int{44772, 8080}}); err != nil {
			t.Fatal(err)
		}
	}
	rep := sandbox.Report{ID: "running", Node: "n", Epoch: 1, Session: n.Session, Generation: 1, State: sandbox.StateRunning}
	if _, err := s.Report(ctx, rep); err != nil {
		t.Fatal(err)
	}
}

// contents are all answers of a store that must survive.
type contents struct {
	Page              sandbox.Page
	Unplaced, OnNode  []sandbox.Record
	Unmirrored        []sandbox.Record
	Work              []sandbox.Task
	Nodes             []node.Node
	Next, Incarnation time.Time
}

func read(t testing.TB, s *Store) contents {
	t.Helper()
	ctx := t.Context()
	var c contents
	var errs [8]error
	c.Page, errs[0] = s.List(ctx, sandbox.Query{Metadata: map[string]string{"k": "v"}, Limit: 100})
	c.Unplaced, errs[1] = s.Unplaced(ctx, 100)
	c.OnNode, errs[2] = s.OnNode(ctx, "n")
	c.Unmirrored, errs[3] = s.Unmirrored(ctx, "n", 100)
	c.Work, errs[4] = s.Work(ctx, "n", 100)
	c.Nodes, errs[5] = s.Nodes(ctx)
	c.Next, _, errs[6] = s.NextDeadline(ctx)
	c.Incarnation, errs[7] = s.Incarnation(ctx)
	for i, err := range errs {
		if err != nil {
			t.Fatalf("read %d: %v", i, err)
		}
	}
	return c
}

func same(t testing.TB, what string, got, want contents) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "dir with space", "st%re?.db")
	first := open(t, path)
	fill(t, first)
	want := read(t, first)
	if want.Page.Total != 3 || len(want.OnNode) != 2 || len(want.Work) != 1 || len(want.Unplaced) != 1 || want.Next.IsZero() {
		t.Fatalf("unexpected contents: %+v", want)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := open(t, path)
	same(t, "after the reopening", read(t, second), want)
	// Work that is new comes after work that was there.
	if _, err := second.SetGone(t.Context(), "running", sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	work, err := second.Work(t.Context(), "n", 10)
	if diff := cmp.Diff([]sandbox.Task{{ID: "placed", Since: 1}, {ID: "running", Since: 2}}, work); err != nil || diff != "" {
		t.Errorf("work: %v (-want +got):\n%s", err, diff)
	}
}

func TestKilledProcessLosesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	s := open(t, path)
	fill(t, s)
	want := read(t, s)
	// What a killed process leaves: the file and its log, without the last checkpoint.
	copied := filepath.Join(t.TempDir(), "store.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(copied+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "after the kill", read(t, open(t, copied)), want)
}

func TestFileModes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "deep", "store.db")
	fill(t, open(t, path))
	for name, want := range map[string]fs.FileMode{
		filepath.Dir(path): 0o700 | fs.ModeDir, path: 0o600, path + "-wal": 0o600, path + ".lock": 0o600,
	} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %s; want %s", name, info.Mode(), want)
		}
	}
	wide := filepath.Join(t.TempDir(), "wide.db")
	if err := os.WriteFile(wide, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	open(t, wide)
	if info, err := os.Stat(wide); err != nil || info.Mode() != 0o600 {
		t.Errorf("an existing file has mode %v, %v", info.Mode(), err)
	}
}

// rejected opens a path that must be refused with all of these texts.
func rejected(t *testing.T, what, path string, kind fault.Kind, texts ...string) {
	t.Helper()
	s, err := Open(t.Context(), path)
	if err == nil {
		t.Fatalf("%s: opened; close: %v", what, s.Close())
	}
	if !fault.Is(err, kind) {
		t.Errorf("%s: %s: %v; want %s", what, fault.KindOf(err), err, kind)
	}
	for _, text := range texts {
		if !strings.Contains(fault.TextOf(err), text) {
			t.Errorf("%s: text %q does not contain %q", what, fault.TextOf(err), text)
		}
	}
}

// TestForeignDatabases opens databases of other programs: they are refused and stay as they are.
func TestForeignDatabases(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		statements []string
		first      string
	}{
		"a table":                     {[]string{`CREATE TABLE users (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT)`, `INSERT INTO users (name) VALUES ('a')`}, "users"},
		"a view":                      {[]string{`CREATE VIEW one AS SELECT 1`}, "one"},
		"snapshots of something else": {[]string{`CREATE TABLE snapshots (id TEXT, taken_at TEXT)`}, "snapshots"},
	} {
		path := filepath.Join(t.TempDir(), "foreign.db")
		execute(t, path, c.statements...)
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		rejected(t, name, path, fault.Invalid, path, fmt.Sprintf("%q", c.first), "another program", "expected", "snapshots")
		after, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || !bytes.Equal(before, after) || info.Mode() != 0o644 {
			t.Errorf("%s: the file was changed: mode %v, %v, %v", name, info.Mode(), err, statErr)
		}
		if copies, err := filepath.Glob(path + ".bak*"); err != nil || len(copies) != 0 {
			t.Errorf("%s: copies %v, %v", name, copies, err)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty.db")
	execute(t, empty, `PRAGMA user_version = 3`)
	if err := open(t, empty).Close(); err != nil {
		t.Error(err)
	}
}

func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte("this is a text file, and not a short one"), 0o600); err != nil {
		t.Fatal(err)
	}
	rejected(t, "a text file", text, fault.Invalid, text, "not a SQLite database")
	short := filepath.Join(dir, "short.db")
	if err := os.WriteFile(short, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	rejected(t, "a file of one byte", short, fault.Invalid, short)
	damaged := filepath.Join(dir, "damaged.db")
	if err := os.WriteFile(damaged, append([]byte("SQLite format 3\x00"), []byte(strings.Repeat("garbage!", 1000))...), 0o600); err != nil {
		t.Fatal(err)
	}
	rejected(t, "garbage behind the first bytes", damaged, fault.Invalid, damaged)
	rejected(t, "a directory", dir, fault.Unavailable, dir)
	if _, err := Open(t.Context(), filepath.Join(text, "below")); err == nil {
		t.Error("opened a store below a file")
	}
	// A refused file is given free.
	if err := os.Remove(text); err != nil {
		t.Fatal(err)
	}
	open(t, text)
}

// TestFileThatAnotherProgramHolds waits for the program, and then says who is to blame.
func TestFileThatAnotherProgramHolds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, q := range []string{`CREATE TABLE snapshots (id TEXT, source_sandbox_id TEXT)`, `BEGIN EXCLUSIVE`} {
		if _, err := conn.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	rejected(t, "a file that is locked", path, fault.Conflict, path, "locked by another program")
	if _, err := conn.ExecContext(t.Context(), `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestSecondOpenInThisProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	first := open(t, path)
	rejected(t, "a second store", path, fault.Conflict, path, fmt.Sprintf("process %d", os.Getpid()))
	fill(t, first)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

// helperVariable makes the test binary hold a store open in a process of its own.
const helperVariable = "SQLITESTORE_HOLD"

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	if path := os.Getenv(helperVariable); path != "" {
		open(t, path)
		fmt.Println("held")
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			t.Fatal(err)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "store.db")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSecondProcessIsRefused$", "-test.v")
	cmd.Env = append(os.Environ(), helperVariable+"="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen strings.Builder
	buf := make([]byte, 256)
	for !strings.Contains(seen.String(), "held") {
		n, err := out.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			t.Fatalf("the other process said %q: %v", seen.String(), err)
		}
	}
	rejected(t, "the store of another process", path, fault.Conflict, path, fmt.Sprintf("process %d", cmd.Process.Pid))
	// However it ends, its lock ends with it.
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the killed process ended well")
	}
	fill(t, open(t, path))
}
