package hooks

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/pelletier/go-toml/v2"
)

const (
	// fileVersion is the only version of the file that there is.
	fileVersion = 1
	// maxFile bounds the file, in bytes.
	maxFile = 1 << 20
)

// File is where a Set outlives its variable: a sandbox that is made from the file system of another one has its hooks, as in OpenSandbox 1.1.1.
type File struct {
	// Path may be empty: there is no file then.
	Path string
	// Required says that somebody has named the path. Otherwise a path that cannot be read holds nothing: it is in the home directory, which may
	// be that of another user.
	Required bool
}

// Load reads the hooks of the variable's text; an empty text leaves it to the file. Every mistake in either is an error.
func Load(text string, f File) (Set, error) {
	s, ok, err := decodeVariable(text)
	if err != nil {
		return Set{}, err
	}
	if ok {
		set, err := s.check(Variable)
		if err == nil {
			set.said = &s
		}
		return set, err
	}
	if s, ok, err = f.read(); err != nil {
		return Set{}, fmt.Errorf("hooks: %w", err)
	}
	if !ok {
		return Set{}, nil
	}
	return s.check(f.Path)
}

// Save writes what the variable says to the file, all of it or nothing. A set that is not from the variable leaves the file as it is.
func (set Set) Save(f File) error {
	if set.said == nil || f.Path == "" {
		return nil
	}
	s := *set.said
	s.Version = fileVersion
	b, err := toml.Marshal(s)
	if err == nil {
		err = replace(f.Path, b)
	}
	if err != nil {
		return fmt.Errorf("hooks: %w", err)
	}
	return nil
}

// read decodes the file. ok is false when there is none.
func (f File) read() (s wireSet, ok bool, err error) {
	if f.Path == "" {
		return wireSet{}, false, nil
	}
	b, err := ownFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || !f.Required && errors.Is(err, fs.ErrPermission) {
		return wireSet{}, false, nil
	}
	if err != nil {
		return wireSet{}, false, err
	}
	d := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return wireSet{}, false, fmt.Errorf("%s: %w", f.Path, unquoted(err))
	}
	if s.Version != fileVersion {
		return wireSet{}, false, fmt.Errorf("%s: version: expected %d", f.Path, fileVersion)
	}
	return s, true, nil
}

// ownFile reads a file that nobody but execd's user and root could have written: what it says is run as execd's user.
func ownFile(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // A pipe is refused below, and must not be waited for.
	if err != nil {
		return nil, err
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || !fi.Mode().IsRegular() || st.Uid != 0 && int(st.Uid) != os.Getuid() || fi.Mode()&0o022 != 0 {
		return nil, fmt.Errorf("%s: expected a file of execd's user that nobody else can write", path)
	}
	b, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("%s: it is larger than %d bytes", path, maxFile)
	}
	return b, err
}

// unquoted words errors of the TOML decoder without a line of the file: commands may hold secrets.
func unquoted(err error) error {
	if se, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(se.Errors) > 0 {
		row, _ := se.Errors[0].Position()
		return fmt.Errorf("line %d: unknown key %q", row, strings.Join(se.Errors[0].Key(), "."))
	}
	if de, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, column := de.Position()
		return fmt.Errorf("line %d, column %d is not understood", row, column)
	}
	return errors.New("it is not understood")
}

// replace gives the file at path a new content at once, for execd's user only.
func replace(path string, content []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".lifecycle-")
	if err != nil {
		return err
	}
	defer func() {
		if tmp.Close(); err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	if _, err := tmp.Write(content); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
