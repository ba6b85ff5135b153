package files

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"opensandbox/libs/fault"
)

// Remove deletes files. An absent path is a success; a directory, also behind a symlink, is an error. It stops at the first one.
// A dangling symlink is removed: the caller asked for the name to be gone.
func (s *Service) Remove(paths []string) error {
	for _, sent := range paths {
		path, err := s.Path(sent)
		if err != nil {
			return err
		}
		fi, err := os.Stat(path)
		if err == nil && fi.IsDir() {
			return broken(fmt.Errorf("%s is a directory", sent))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return broken(err)
		}
		err = os.Remove(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return broken(err)
		}
	}
	return nil
}

// SetPermissions changes modes and owners, in the order of the paths. It is not recursive and not atomic over several paths.
func (s *Service) SetPermissions(perms map[string]Permission) error {
	for _, sent := range slices.Sorted(maps.Keys(perms)) {
		path, err := s.Path(sent)
		if err != nil {
			return err
		}
		r, err := perms[sent].resolve()
		if err != nil {
			return err
		}
		if _, err := os.Stat(path); err != nil {
			return broken(err)
		}
		if err := r.apply(path); err != nil {
			return err
		}
	}
	return nil
}

// Move is one rename.
type Move struct {
	Src  string `json:"src"`
	Dest string `json:"dest"`
}

// Rename moves files or directories, also to another file system. Parents of the destination are made; an existing destination
// is an error.
func (s *Service) Rename(moves []Move) error {
	for _, m := range moves {
		src, err := s.Path(m.Src)
		if err != nil {
			return err
		}
		dest, err := s.Path(m.Dest)
		if err != nil {
			return err
		}
		if _, err := os.Lstat(src); err != nil {
			return missing(m.Src, err)
		}
		if _, err := os.Lstat(dest); err == nil {
			return broken(fmt.Errorf("destination path already exists: %s", m.Dest))
		}
		if err := os.MkdirAll(filepath.Dir(dest), 0o755); err != nil {
			return broken(err)
		}
		if err := move(src, dest); err != nil {
			return broken(err)
		}
	}
	return nil
}

// MakeDirs creates directories with their parents. Mode and owner are applied only to a leaf that did not exist.
func (s *Service) MakeDirs(dirs map[string]Permission) error {
	for _, sent := range slices.Sorted(maps.Keys(dirs)) {
		path, err := s.Path(sent)
		if err != nil {
			return err
		}
		r, err := dirs[sent].resolve()
		if err != nil {
			return err
		}
		if fi, err := os.Stat(path); err == nil {
			if !fi.IsDir() {
				return broken(fmt.Errorf("%s exists and is not a directory", sent))
			}
			continue
		}
		if err := os.MkdirAll(path, 0o755); err != nil {
			return broken(err)
		}
		if err := r.apply(path); err != nil {
			return err
		}
	}
	return nil
}

// RemoveDirs deletes directories with everything in them; plain files too. An absent path is a success. The root directory is
// refused before anything is touched: nobody means it, and what would be left is no sandbox.
func (s *Service) RemoveDirs(paths []string) error {
	targets := make([]string, 0, len(paths))
	for _, sent := range paths {
		path, err := s.Path(sent)
		if err != nil {
			return err
		}
		if isRoot(path) {
			return fault.Newf(fault.Invalid, "refused to delete the root directory: %s", sent).WithCode(codeBody)
		}
		targets = append(targets, path)
	}
	for _, path := range targets {
		if err := os.RemoveAll(path); err != nil {
			return broken(err)
		}
	}
	return nil
}

// isRoot also recognises the root directory under another name, such as a bind mount of it or /proc/1/root/. A link to it is not it:
// only the link would be deleted.
func isRoot(path string) bool {
	root, err := os.Lstat("/")
	if err != nil {
		return path == "/"
	}
	fi, err := os.Lstat(path)
	return err == nil && os.SameFile(root, fi)
}
