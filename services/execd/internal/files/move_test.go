package files

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"opensandbox/libs/fault"
)

// elsewhere is a directory on another file system than t.TempDir.
func elsewhere(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "move-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a, b := t.TempDir(), filepath.Join(dir, "probe")
	if err := os.Rename(a, b); !errors.Is(err, syscall.EXDEV) {
		t.Fatalf("/dev/shm is not another file system than %s: %v", a, err)
	}
	return dir
}

func TestMoveToAnotherFileSystem(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), elsewhere(t)
	tree := filepath.Join(from, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	old := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
	for name, mode := range map[string]os.FileMode{"a": 0o640, "deep/b\n\xff": 0o755} {
		path := filepath.Join(tree, name)
		if err := os.WriteFile(path, []byte("text of "+name), mode); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chmod(path, mode), os.Chtimes(path, old, old)); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(os.Symlink("nowhere", filepath.Join(tree, "link")), syscall.Mkfifo(filepath.Join(tree, "pipe"), 0o600),
		os.Chmod(filepath.Join(tree, "deep"), 0o711))
	if err != nil {
		t.Fatal(err)
	}
	s := New(nil, nil)
	dest := filepath.Join(to, "new", "tree")
	if err := s.Rename([]Move{{Src: tree, Dest: dest}}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(tree); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the source is still there: %v", err)
	}
	for name, mode := range map[string]os.FileMode{"a": 0o640, "deep/b\n\xff": 0o755} {
		data, err := os.ReadFile(filepath.Join(dest, name))
		fi, serr := os.Stat(filepath.Join(dest, name))
		if err != nil || serr != nil || string(data) != "text of "+name || fi.Mode() != mode || !fi.ModTime().Equal(old) {
			t.Errorf("%q: got %q, %v, %v %v", name, data, fi, err, serr)
		}
	}
	link, err := os.Readlink(filepath.Join(dest, "link"))
	pipe, perr := os.Lstat(filepath.Join(dest, "pipe"))
	deep, derr := os.Lstat(filepath.Join(dest, "deep"))
	if err != nil || perr != nil || derr != nil || link != "nowhere" || pipe.Mode()&os.ModeNamedPipe == 0 || deep.Mode().Perm() != 0o711 {
		t.Errorf("got link %q %v, pipe %v %v, directory %v %v", link, err, pipe, perr, deep, derr)
	}
	if left, err := filepath.Glob(filepath.Join(to, "new", ".opensandbox-*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
}

func TestMoveThatFailsLeavesTheSource(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), elsewhere(t)
	if err := os.WriteFile(filepath.Join(from, "a"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: filepath.Join(from, "z.sock")}); err != nil {
		t.Fatal(err)
	}
	err = New(nil, nil).Rename([]Move{{Src: from, Dest: filepath.Join(to, "tree")}})
	if err == nil || !strings.Contains(err.Error(), "a socket cannot be moved") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(from, "a")); err != nil {
		t.Error(err)
	}
	if left, err := filepath.Glob(filepath.Join(to, "*tree*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
	if left, err := filepath.Glob(filepath.Join(to, ".opensandbox-*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
}

// TestMoveNeverReplaces: also a dangling link at the destination is something that exists.
func TestMoveNeverReplaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	src, dest := filepath.Join(dir, "src"), filepath.Join(dir, "dest")
	if err := errors.Join(os.WriteFile(src, nil, 0o600), os.Symlink("nowhere", dest)); err != nil {
		t.Fatal(err)
	}
	if err := move(src, dest); !errors.Is(err, os.ErrExist) {
		t.Errorf("got %v, want EEXIST", err)
	}
	if err := notBelow(dir, filepath.Join(dir, "sub")); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("into itself: got %v, want EINVAL", err)
	}
	if err := notBelow(src, dest); err != nil {
		t.Errorf("beside itself: %v", err)
	}
}

func TestRootIsNotDeleted(t *testing.T) {
	t.Parallel()
	keep := filepath.Join(t.TempDir(), "keep")
	if err := os.Mkdir(keep, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "//", "/..", "/tmp/.."} {
		err := New(nil, nil).RemoveDirs([]string{keep, path})
		if fault.KindOf(err) != fault.Invalid {
			t.Errorf("%s: got %v, want a refusal", path, err)
		}
	}
	if isRoot("/proc/self/root") {
		t.Error("a link to the root was taken for the root")
	}
	if _, err := os.Stat(keep); err != nil {
		t.Errorf("a path before the refused one was deleted: %v", err)
	}
}
