package files

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// move renames src to dest, which must not exist: the kernel checks that in the same step. Between file systems, where a rename is
// impossible, the tree is copied beside the destination, takes its name when it is complete, and only then the source is removed.
func move(src, dest string) error {
	err := renameNew(src, dest)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	if err := notBelow(src, dest); err != nil {
		return err
	}
	tmp := filepath.Join(filepath.Dir(dest), ".opensandbox-move-"+rand.Text())
	if err := copyTree(src, tmp); err != nil {
		_ = os.RemoveAll(tmp)
		return err
	}
	if err := renameNew(tmp, dest); err != nil {
		_ = os.RemoveAll(tmp)
		return err
	}
	return os.RemoveAll(src)
}

// renameNew falls back to a plain rename where the file system cannot check and rename in one step.
func renameNew(src, dest string) error {
	err := unix.Renameat2(unix.AT_FDCWD, src, unix.AT_FDCWD, dest, unix.RENAME_NOREPLACE)
	if err == unix.ENOSYS || err == unix.EINVAL || err == unix.ENOTSUP {
		err = unix.Rename(src, dest)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: src, New: dest, Err: err}
	}
	return nil
}

// notBelow refuses to copy a directory into itself: below it another file system may be mounted, so the kernel does not tell.
func notBelow(src, dest string) error {
	from, err := filepath.EvalSymlinks(src)
	if err != nil {
		from = src // A dangling link has nothing below it.
	}
	to, err := filepath.EvalSymlinks(filepath.Dir(dest))
	if err != nil {
		return err
	}
	if to == from || strings.HasPrefix(to, strings.TrimSuffix(from, "/")+"/") {
		return &os.LinkError{Op: "rename", Old: src, New: dest, Err: syscall.EINVAL}
	}
	return nil
}

// copyTree copies one file or directory with everything in it: contents, modes, owners and times. Hard links become files of their
// own, and extended attributes are not copied.
func copyTree(src, dest string) error {
	fi, err := os.Lstat(src)
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: no owner known", src)
	}
	switch {
	case fi.IsDir():
		err = copyDir(src, dest)
	case fi.Mode().IsRegular():
		err = copyFile(src, dest)
	case fi.Mode()&fs.ModeSymlink != 0:
		var to string
		if to, err = os.Readlink(src); err == nil {
			err = os.Symlink(to, dest)
		}
	case fi.Mode()&fs.ModeSocket != 0:
		return fmt.Errorf("%s: a socket cannot be moved to another file system", src)
	default:
		err = unix.Mknod(dest, st.Mode, int(st.Rdev))
	}
	if err != nil {
		return err
	}
	return copyAttributes(dest, fi, st)
}

func copyDir(src, dest string) error {
	if err := os.Mkdir(dest, 0o700); err != nil {
		return err
	}
	return entries(src, func(e fs.DirEntry) error {
		return copyTree(filepath.Join(src, e.Name()), filepath.Join(dest, e.Name()))
	})
}

func copyFile(src, dest string) error {
	in, err := os.OpenFile(src, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dest, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := out.ReadFrom(in); err != nil { // The kernel copies where it can.
		return err
	}
	return out.Sync() // The source is about to be removed.
}

// copyAttributes comes last: writing into a directory changes its times, and a change of owner may clear mode bits.
func copyAttributes(dest string, fi fs.FileInfo, st *syscall.Stat_t) error {
	if int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid() {
		if err := os.Lchown(dest, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if fi.Mode()&fs.ModeSymlink == 0 {
		if err := os.Chmod(dest, fi.Mode()); err != nil {
			return err
		}
	}
	times := []unix.Timespec{{Sec: st.Atim.Sec, Nsec: st.Atim.Nsec}, {Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec}}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dest, times, unix.AT_SYMLINK_NOFOLLOW)
}
