package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// chunk is the size of one write; reads from a multipart body come in smaller pieces.
const chunk = 256 << 10

// maxLinks is how many symlinks in a row are followed, as the kernel does.
const maxLinks = 40

var chunks = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

// writeWhole gives the file at path the content of src. The content goes to a temporary file beside the target, which then takes
// the target's place: readers see the old content or the new one, and a broken upload leaves the old one. Truncating in place, as
// OpenSandbox 1.1.1 does, loses it. What in-place writing keeps is kept here too: symlinks are followed, and an existing file
// keeps its mode and owner. Where a rename would show (hard links, devices, single-file mounts, a directory that cannot be
// written, an owner that cannot be given back) the file is written in place. Content that comes from the file itself is first put aside then;
// aside is nil for other content.
func writeWhole(path string, src io.Reader, want resolved, aside func(io.Reader) (io.ReadCloser, error)) error {
	target, old, err := follow(path)
	if err != nil {
		return broken(err)
	}
	if old != nil && old.IsDir() {
		return broken(fmt.Errorf("%s is a directory", path))
	}
	tmp, err := beside(target, old, want)
	switch {
	case tmp != nil:
		return replaceWith(tmp, target, src, old, want)
	case err != nil && old == nil:
		return broken(err)
	case aside == nil:
		return overwrite(target, src, want)
	}
	whole, err := aside(src)
	if err != nil {
		return err
	}
	defer whole.Close()
	return overwrite(target, whole, want)
}

// follow resolves symlinks at the end of a path as open(2) does, also one that points to nothing yet. The info is nil when there
// is no file.
func follow(path string) (string, fs.FileInfo, error) {
	for range maxLinks {
		fi, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return path, nil, nil
		}
		if err != nil {
			return "", nil, err
		}
		if fi.Mode()&fs.ModeSymlink == 0 {
			return path, fi, nil
		}
		link, err := os.Readlink(path)
		if err != nil {
			return "", nil, err
		}
		if !filepath.IsAbs(link) {
			// Not filepath.Join: it would cut "dir/.." although dir may be a symlink to somewhere else.
			link = filepath.Dir(path) + "/" + link
		}
		path = link
	}
	return "", nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}

// beside creates the temporary file with the owner of the file it will replace; nil without an error means that this file must be
// written in place. Until it is complete, only its owner can read it, unless it is new and gets the default mode.
func beside(target string, old fs.FileInfo, want resolved) (*temporary, error) {
	mode := fs.FileMode(0o600)
	if old == nil && !want.hasMode {
		mode = 0o777 // Less the umask: the default of OpenSandbox 1.1.1.
	}
	var st *syscall.Stat_t
	if old != nil {
		st, _ = old.Sys().(*syscall.Stat_t)
		if st == nil || !old.Mode().IsRegular() || st.Nlink > 1 {
			return nil, nil
		}
	}
	f, err := newTemporary(filepath.Dir(target), mode)
	if err != nil || st == nil {
		return f, err
	}
	own, err := f.Stat()
	if err == nil {
		if o, ok := own.Sys().(*syscall.Stat_t); !ok || o.Uid != st.Uid || o.Gid != st.Gid {
			err = f.Chown(int(st.Uid), int(st.Gid))
		}
	}
	if err != nil {
		f.discard()
		return nil, nil
	}
	return f, nil
}

// replaceWith fills tmp, makes it durable and puts it in the target's place.
func replaceWith(tmp *temporary, target string, src io.Reader, old fs.FileInfo, want resolved) error {
	defer tmp.discard()
	if err := fill(tmp.File, src); err != nil {
		return err
	}
	if old != nil && !want.hasMode {
		if err := tmp.Chmod(old.Mode()); err != nil {
			return broken(err)
		}
	}
	if err := want.apply(tmp.path()); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return broken(err)
	}
	if err := tmp.takePlace(target); err != nil {
		if old == nil && tmp.name != "" {
			return broken(err)
		}
		return fromTemporary(tmp, target, want)
	}
	return syncDir(filepath.Dir(target))
}

// fromTemporary copies a finished temporary file over a target that cannot be renamed over, such as a single-file mount, and where the kernel
// gives no name to a file without one.
func fromTemporary(tmp *temporary, target string, want resolved) error {
	if _, err := tmp.Seek(0, io.SeekStart); err != nil {
		return broken(err)
	}
	return overwrite(target, tmp, want)
}

// overwrite writes a file in place.
func overwrite(target string, src io.Reader, want resolved) error {
	// Non-blocking, so that a pipe that nobody reads gives an answer instead of a hanging request.
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NONBLOCK, 0o777)
	if err != nil {
		return broken(err)
	}
	defer f.Close()
	if err := fill(f, src); err != nil {
		return err
	}
	if err := f.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return broken(err) // Devices and pipes cannot be synced; that is no loss.
	}
	return want.apply(target)
}

// bodyError marks an error of the source, which is the client's, not the disk's.
type bodyError struct{ error }

// Unwrap returns the cause.
func (e bodyError) Unwrap() error { return e.error }

// fill copies with large writes. io.Copy would write as little at a time as the source delivers.
func fill(f *os.File, src io.Reader) error {
	p := chunks.Get().(*[]byte)
	defer chunks.Put(p)
	buf := *p
	for {
		n, err := 0, error(nil)
		for n < len(buf) && err == nil {
			var got int
			got, err = src.Read(buf[n:])
			n += got
		}
		if _, werr := f.Write(buf[:n]); werr != nil {
			return broken(werr)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return bodyError{err}
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return nil // A directory that may be written but not read cannot be synced.
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return broken(err)
	}
	return nil
}
