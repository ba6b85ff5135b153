package files

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"opensandbox/libs/fault"
)

// List describes what is below a directory, parents before children, by name, down to depth levels; 0 gives nothing. The root
// itself must be a real directory; symlinks below it are listed and not followed. The error is that of each, or of ctx, if one of them ends it.
func (s *Service) List(ctx context.Context, sent string, depth int, each func(Info) error) error {
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
	w := walk{ctx: ctx, names: newNames(), each: each}
	return w.list(root, depth)
}

// walk is one way through a tree.
type walk struct {
	ctx   context.Context
	names *names
	each  func(Info) error
}

// through calls visit for the entries of a directory, unless it has vanished or nobody waits for them any more.
func (w *walk) through(dir string, visit func(fs.DirEntry) error) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	return present(entries(dir, visit))
}

func (w *walk) list(dir string, depth int) error {
	if depth <= 0 {
		return nil
	}
	return w.through(dir, func(e fs.DirEntry) error {
		fi, err := e.Info()
		if err != nil {
			return present(err)
		}
		path := filepath.Join(dir, e.Name())
		if err := w.each(w.names.describe(path, fi)); err != nil || !fi.IsDir() {
			return err
		}
		return w.list(path, depth-1)
	})
}

// present takes away the error of what has vanished since its directory was read, and words others of the file system.
func present(err error) error {
	if _, ok := err.(*fs.PathError); !ok { // Not errors.As: what was worded further below has such a cause.
		return err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return broken(err)
}

// Search calls each for every non-directory below a path whose base name matches the pattern, in the order of a depth-first walk
// by name. A path that is itself a symlink is not followed; a file that vanishes meanwhile is skipped. The error is that of each, or of ctx, if
// one of them ends it.
func (s *Service) Search(ctx context.Context, sent, pattern string, each func(Info) error) error {
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
	w := search{walk{ctx: ctx, names: newNames(), each: each}, match}
	switch {
	case fi.IsDir():
		return w.below(root)
	case match.Match(fi.Name()):
		return w.file(root)
	default:
		return nil
	}
}

// search is the walk of Search. It makes a path only of what it enters or reports: most files match nothing.
type search struct {
	walk
	match *Pattern
}

func (s *search) below(dir string) error {
	prefix := strings.TrimSuffix(dir, "/") + "/"
	return s.through(dir, func(e fs.DirEntry) error {
		name := e.Name()
		switch {
		case e.IsDir():
			return s.below(prefix + name)
		case s.match.Match(name):
			return s.file(prefix + name)
		default:
			return nil
		}
	})
}

func (s *search) file(path string) error {
	fi, err := os.Lstat(path)
	if err != nil {
		return present(err)
	}
	return s.each(s.names.describe(path, fi))
}
