package sqlitestore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"opensandbox/libs/fault"
)

// fileLock is an advisory lock on a file beside the database. The kernel gives it free when the process ends, however it ends.
// The file itself stays: removing it would let two processes lock two files of the same name.
type fileLock struct{ f *os.File }

// lockFile takes the lock for the database at path, or says who has it.
func lockFile(path string) (*fileLock, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock file of the store: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := pidIn(f)
		if closeErr := f.Close(); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fault.Newf(fault.Conflict, "the store %s is in use by another process%s", path, holder).Because(err)
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	if err := writePID(f); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", name, err), f.Close())
	}
	return &fileLock{f: f}, nil
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// pidIn returns the process that wrote the lock file, for a message, or nothing.
func pidIn(f *os.File) string {
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

func (l *fileLock) release() error { return l.f.Close() }
