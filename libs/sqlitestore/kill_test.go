package sqlitestore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"opensandbox/libs/sandbox"
)

// victimVariable makes the test binary open the store of a path, and say what it changes; victimPointVariable has the point at which it ends
// itself.
const (
	victimVariable      = "SQLITESTORE_VICTIM"
	victimPointVariable = "SQLITESTORE_VICTIM_POINT"
)

// TestKilledWhileOpening ends a process with SIGKILL right before and right after each change that it makes while it opens a store, and opens
// the store again: everything is there, and the copy from before a migration can be used.
func TestKilledWhileOpening(t *testing.T) {
	t.Parallel()
	if path := os.Getenv(victimVariable); path != "" {
		openAsVictim(t, path, os.Getenv(victimPointVariable))
		return
	}
	first, err := os.ReadFile("testdata/schema-1.sql")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		prepare func(t *testing.T, path string)
		records int
		// copied says that the file is copied before it is changed, and least how many changes there are.
		copied bool
		least  int
	}{
		"no file":          {func(*testing.T, string) {}, 0, false, 10},
		"the first schema": {func(t *testing.T, path string) { execute(t, path, string(first)) }, 2, true, 12},
		"the present schema": {func(t *testing.T, path string) {
			s := open(t, path)
			fill(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}, 3, false, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			undisturbed := filepath.Join(t.TempDir(), "store.db")
			c.prepare(t, undisturbed)
			said, err := victim(t, undisturbed, "")
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			points := pointsIn(said)
			if len(points) < 2*c.least || !slices.ContainsFunc(points, func(p string) bool { return strings.HasPrefix(p, "after ") }) {
				t.Fatalf("only these points were reached: %q", points)
			}
			for _, point := range points {
				path := filepath.Join(t.TempDir(), "store.db")
				c.prepare(t, path)
				if said, err := victim(t, path, point); !killed(err) {
					t.Errorf("%s: the process did not end by SIGKILL: %v\n%s", point, err, said)
				}
				usable(t, point, path+".bak-v1")
				opensAgain(t, point, path, c.records, c.copied)
			}
		})
	}
}

// victim runs this test in a process of its own, and returns what it says.
func victim(t *testing.T, path, point string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledWhileOpening$", "-test.v")
	cmd.Env = append(os.Environ(), victimVariable+"="+path, victimPointVariable+"="+point)
	said, err := cmd.CombinedOutput()
	return string(said), err
}

// openAsVictim opens a store, and ends this process at a point of that.
func openAsVictim(t *testing.T, path, point string) {
	t.Helper()
	reach := func(at string) {
		fmt.Println("point:", at)
		if at == point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // cannot fail for the own process
			select {}
		}
	}
	s, err := Open(t.Context(), path, func(s *Store) {
		s.change = func(name string, do func() error) error {
			reach("before " + name)
			if err := do(); err != nil {
				return err
			}
			reach("after " + name)
			return nil
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func pointsIn(said string) []string {
	var points []string
	for line := range strings.Lines(said) {
		if _, point, found := strings.Cut(line, "point: "); found {
			points = append(points, strings.TrimSpace(point))
		}
	}
	return points
}

func killed(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// usable fails if there is a copy from before the migration that does not have everything.
func usable(t *testing.T, point, copied string) {
	t.Helper()
	if _, err := os.Stat(copied); errors.Is(err, fs.ErrNotExist) {
		return
	}
	if got := scalar(t, copied, `SELECT count(*) FROM osb_sandbox`); got != "3" {
		t.Errorf("%s: the copy has %s records", point, got)
	}
	if got := scalar(t, copied, `SELECT value FROM osb_meta WHERE key = 'schema_version'`); got != "1" {
		t.Errorf("%s: the copy has schema version %s", point, got)
	}
}

// opensAgain opens a store whose last process was killed, and looks at what it has.
func opensAgain(t *testing.T, point, path string, records int, copied bool) {
	t.Helper()
	s := open(t, path)
	page, err := s.List(t.Context(), sandbox.Query{Limit: 10})
	if err != nil || page.Total != records {
		t.Errorf("%s: %d records, %v; want %d", point, page.Total, err, records)
	}
	if _, err := s.Insert(t.Context(), sandbox.New{ID: "new"}); err != nil {
		t.Errorf("%s: insert: %v", point, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	usable(t, point, path+".bak-v1")
	if _, err := os.Stat(path + ".bak-v1"); copied != (err == nil) {
		t.Errorf("%s: the copy from before: %v", point, err)
	}
	if left, err := filepath.Glob(path + "*.tmp"); err != nil || len(left) > 0 {
		t.Errorf("%s: left %q, %v", point, left, err)
	}
}
