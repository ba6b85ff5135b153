package files

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// temporary is a file beside the one whose place it will take. Where the file system can, it has no name until it is complete, so that nothing
// of it stays when the daemon is killed: a volume outlives the sandbox, and nobody would look for what was left there.
type temporary struct {
	*os.File
	dir  string
	name string // Empty while it has none.
}

// newTemporary makes a file in the directory. With umask, mode is what it is made with.
func newTemporary(dir string, mode fs.FileMode) (*temporary, error) {
	if f, err := os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, mode); err == nil {
		return &temporary{File: f, dir: dir}, nil
	}
	t := &temporary{dir: dir}
	t.name = t.newName()
	var err error
	if t.File, err = os.OpenFile(t.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode); err != nil {
		return nil, err // Also when the file system can, and something else is wrong.
	}
	return t, nil
}

func (t *temporary) newName() string { return filepath.Join(t.dir, ".opensandbox-upload-"+rand.Text()) }

// path leads to the file, whether it has a name or not.
func (t *temporary) path() string {
	if t.name != "" {
		return t.name
	}
	return "/proc/self/fd/" + strconv.FormatUint(uint64(t.Fd()), 10)
}

// takePlace gives the file the name of target, all at once. A file of that name is replaced.
func (t *temporary) takePlace(target string) error {
	if t.name == "" {
		err := t.link(target)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// The kernel cannot link over a file. For the moment between the two calls the file has a name of its own.
		name := t.newName()
		if err := t.link(name); err != nil {
			return err
		}
		t.name = name
	}
	if err := os.Rename(t.name, target); err != nil {
		return err
	}
	t.name = ""
	return nil
}

func (t *temporary) link(name string) error {
	if err := unix.Linkat(unix.AT_FDCWD, t.path(), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: t.path(), New: name, Err: err}
	}
	return nil
}

// discard closes the file, and removes it unless it has taken its place.
func (t *temporary) discard() {
	t.Close()
	if t.name != "" {
		_ = os.Remove(t.name)
	}
}
