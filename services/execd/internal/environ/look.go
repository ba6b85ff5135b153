package environ

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// DefaultPath is searched when PATH is unset: the engine's own default.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// LookPath finds an executable. A name with a slash is returned as it is, after a check against dir unless dir is empty and the
// name relative. A bare name is searched in the absolute entries of PATH only: a relative entry would let the contents of a
// working directory decide what runs. The error wraps fs.ErrNotExist, or fs.ErrPermission when only files that cannot be
// executed were found.
func LookPath(name, dir string, lookup Lookup) (string, error) {
	if strings.Contains(name, "/") {
		full := name
		if !filepath.IsAbs(full) {
			full = filepath.Join(dir, name)
		}
		if err := executable(full); err != nil {
			return "", fmt.Errorf("%q: %w", name, err)
		}
		return name, nil
	}
	path, ok := lookup("PATH")
	if !ok {
		path = DefaultPath
	}
	denied := false
	for _, d := range filepath.SplitList(path) {
		if !filepath.IsAbs(d) || name == "" {
			continue
		}
		full := filepath.Join(d, name)
		err := executable(full)
		if err == nil {
			return full, nil
		}
		denied = denied || errors.Is(err, fs.ErrPermission)
	}
	if denied {
		return "", &lookError{fmt.Sprintf("%q: found in PATH but not executable", name), fs.ErrPermission}
	}
	return "", &lookError{fmt.Sprintf("%q: executable file not found in PATH", name), fs.ErrNotExist}
}

// lookError says what happened without repeating its class in words.
type lookError struct {
	text  string
	class error
}

// Error implements error.
func (e *lookError) Error() string { return e.text }

// Unwrap returns fs.ErrNotExist or fs.ErrPermission.
func (e *lookError) Unwrap() error { return e.class }

// executable asks the kernel, which knows about effective ids, access lists and mount flags.
func executable(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.IsDir() {
		return syscall.EISDIR
	}
	err = unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
	if err == syscall.ENOSYS || err == syscall.EINVAL {
		err = nil
		if st.Mode()&0o111 == 0 {
			err = syscall.EACCES
		}
	}
	return err
}
