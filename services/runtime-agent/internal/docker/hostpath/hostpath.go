// Package hostpath opens paths of this machine that strangers have named, and holds what was opened so that nobody can put something else in
// its place.
//
// A path is a promise that the next look-up may break: whoever can write to a directory above can put a symbolic link there between a check
// and its use. So a path is looked up once, by a walk that follows no link, and what the walk has reached is mounted at a place that only
// this process can change. Whoever is given that place gets what was checked.
package hostpath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Errors of Open. All else is a failure of the file system, such as ENOSPC.
var (
	// ErrOutside: the path leads out of the allowed directories.
	ErrOutside = errors.New("the path leads out of the allowed directories")
	// ErrChanged: a symbolic link has come to be where there was none a moment before.
	ErrChanged = errors.New("the path was changed while it was looked up")
	// ErrKind: it names neither a directory nor a regular file.
	ErrKind = errors.New("the path names neither a directory nor a regular file")
)

// Open opens what p names, without the right to read or write it (O_PATH), and makes directories that are missing. p may lead through
// symbolic links as long as it ends at or below one of the allowed directories; these may be links themselves.
func Open(p string, allowed []string) (*os.File, error) {
	p = filepath.Clean(p)
	inside := roots(p, allowed)
	settled, err := settle(p)
	if err != nil {
		return nil, err
	}
	if !below(settled, inside) {
		return nil, ErrOutside
	}
	return walk(settled)
}

// settle resolves the symbolic links in the part of a path that exists.
func settle(p string) (string, error) {
	rest := ""
	for {
		found, err := filepath.EvalSymlinks(p)
		switch {
		case err == nil:
			return filepath.Join(found, rest), nil
		case !errors.Is(err, fs.ErrNotExist) || p == "/":
			return "", fmt.Errorf("resolve symbolic links: %w", err)
		}
		rest = filepath.Join(filepath.Base(p), rest)
		p = filepath.Dir(p)
	}
}

// roots are the allowed directories without symbolic links. One that is missing is made if p is to lie in it: the operator has named it.
func roots(p string, allowed []string) []string {
	var out []string
	for _, dir := range allowed {
		dir = filepath.Clean(dir)
		if below(p, []string{dir}) {
			_ = os.MkdirAll(dir, newDir) // what cannot be made cannot be resolved below
		}
		if found, err := filepath.EvalSymlinks(dir); err == nil && filepath.IsAbs(dir) {
			out = append(out, found)
		}
	}
	return out
}

func below(p string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
	})
}

// newDir is the mode of directories that are made.
const newDir = 0o755

// walk opens an absolute path component by component and follows no symbolic link, so that what it reaches lies below all that it names.
func walk(p string) (*os.File, error) {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /: %w", err)
	}
	for name := range strings.SplitSeq(strings.Trim(p, "/"), "/") {
		if name == "" {
			continue
		}
		next, err := step(fd, name)
		_ = unix.Close(fd) // nothing was written through it
		if err != nil {
			return nil, err
		}
		fd = next
	}
	f := os.NewFile(uintptr(fd), p)
	if mode := modeOf(fd); mode != unix.S_IFDIR && mode != unix.S_IFREG {
		_ = f.Close()
		return nil, ErrKind
	}
	return f, nil
}

// step opens an entry of a directory, and makes a directory if there is none.
func step(dir int, name string) (int, error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, name, flags, 0)
	if errors.Is(err, unix.ENOENT) {
		if err := unix.Mkdirat(dir, name, newDir); err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, fmt.Errorf("make directory: %w", err)
		}
		fd, err = unix.Openat(dir, name, flags, 0)
	}
	if err != nil {
		return -1, fmt.Errorf("open: %w", err)
	}
	if modeOf(fd) == unix.S_IFLNK {
		_ = unix.Close(fd)
		return -1, ErrChanged
	}
	return fd, nil
}

// modeOf returns the kind of what a descriptor is for, 0 if it cannot be said.
func modeOf(fd int) uint32 {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	return st.Mode & unix.S_IFMT
}
