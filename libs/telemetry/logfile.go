package telemetry

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// Modes of log files: what is written about clients is nobody else's business.
const (
	logFileMode = 0o640
	logDirMode  = 0o750
)

// LogFile is a file that is put aside when it has grown, as path.1, which makes the old path.1 to path.2 and so on: the names of OpenSandbox
// 1.1.1, whose sizes are in bytes too. It is safe for concurrent use.
type LogFile struct {
	path    string
	max     int64
	backups int

	mu   sync.Mutex
	file *os.File // nil after Close
	size int64
}

// OpenLogFile opens or creates a file for appending, and the directories above it. It is put aside before it would grow beyond max bytes;
// backups of those are kept. With no backups it grows for ever, as in OpenSandbox 1.1.1: something else moves it, and Reopen follows.
func OpenLogFile(path string, max int64, backups int) (*LogFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), logDirMode); err != nil {
		return nil, fmt.Errorf("log file: %w", err)
	}
	l := &LogFile{path: path, max: max, backups: backups}
	if err := l.Reopen(); err != nil {
		return nil, err
	}
	return l, nil
}

var errClosed = errors.New("the log file is closed")

// Write appends one line. A line longer than the bound still gets a file of its own.
func (l *LogFile) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return 0, errClosed
	}
	if l.backups > 0 && l.size > 0 && l.size+int64(len(line)) > l.max {
		// A file that cannot be put aside is still better to write to than none.
		_ = l.rotate()
	}
	n, err := l.file.Write(line)
	l.size += int64(n)
	return n, err
}

// Reopen opens the path again, after something else has moved the file away. If that fails, lines go on into the old one.
func (l *LogFile) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open()
}

// open replaces the file by what is at the path now.
func (l *LogFile) open() error {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, logFileMode)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return fmt.Errorf("log file: %w", err)
	}
	if l.file != nil {
		_ = l.file.Close() // nothing is buffered
	}
	l.file, l.size = f, info.Size()
	return nil
}

// rotate moves the files one number up. The oldest is written over.
func (l *LogFile) rotate() error {
	for i := l.backups - 1; i >= 1; i-- {
		if err := os.Rename(l.aside(i), l.aside(i+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(l.path, l.aside(1)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return l.open()
}

func (l *LogFile) aside(i int) string { return l.path + "." + strconv.Itoa(i) }

// Close ends the file; later lines are refused.
func (l *LogFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
