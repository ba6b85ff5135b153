package files

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"opensandbox/libs/fault"
)

// List describes what is below a directory, parents before children, by name, down to depth levels; 0 gives nothing. The root
// itself must be a real directory; symlinks below it are listed and not followed.
func (s *Service) List(sent string, depth int, each func(Info) error) error {
	root, err := s.Path(sent)
	if err != nil {
		return err
	}
	fi, err := os.Lstat(root)
	if err != nil {
		return missing(sent, err)
	}
	if !fi.IsDir() {
		return fault.Newf(fault.Invalid, "not a directory (symlinks are not followed): %s", sent).WithCode(codeBody)
	}
	return list(root, depth, newNames(), each)
}

func list(dir string, depth int, n *names, each func(Info) error) error {
	if depth <= 0 {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // Removed since its parent was read.
		}
		return broken(err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return broken(err)
		}
		path := filepath.Join(dir, e.Name())
		if err := each(n.describe(path, fi)); err != nil {
			return err
		}
		if !fi.IsDir() {
			continue
		}
		if err := list(path, depth-1, n, each); err != nil {
			return err
		}
	}
	return nil
}

// Search calls each for every non-directory below a path whose base name matches the pattern, in the order of a depth-first walk
// by name. A path that is itself a symlink is not followed; a file that vanishes meanwhile is skipped.
func (s *Service) Search(sent, pattern string, each func(Info) error) error {
	root, err := s.Path(sent)
	if err != nil {
		return err
	}
	match, err := CompilePattern(pattern)
	if err != nil {
		return fault.New(fault.Internal, err.Error()).WithCode(codeRuntime)
	}
	fi, err := os.Lstat(root)
	if err != nil {
		return missing(sent, err)
	}
	w := search{match: match, names: newNames(), each: each}
	switch {
	case fi.IsDir():
		return w.below(root)
	case match.Match(fi.Name()):
		return w.file(root)
	default:
		return nil
	}
}

// search is one walk. It makes a path only of what it enters or reports: most files match nothing.
type search struct {
	match *Pattern
	names *names
	each  func(Info) error
}

func (s *search) below(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return broken(err)
	}
	if dir != "/" {
		dir += "/"
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case e.IsDir():
			err = s.below(dir + name)
		case s.match.Match(name):
			err = s.file(dir + name)
		default:
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *search) file(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return broken(err)
	}
	return s.each(s.names.describe(path, fi))
}
