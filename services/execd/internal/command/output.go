package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"opensandbox/libs/fault"
)

const outputSuffix = ".output"

// createOutput opens the file that receives both streams of a background command. The directory is made on first use: most
// sandboxes never need it.
func (m *Manager) createOutput(id string) (*os.File, error) {
	var problems []error
	for _, dir := range m.cfg.OutputDirs {
		f, err := create(dir, id+outputSuffix)
		if err == nil {
			m.mu.Lock()
			m.outDir = dir
			m.mu.Unlock()
			return f, nil
		}
		problems = append(problems, err)
	}
	return nil, fmt.Errorf("no directory for command output can be written: %w", errors.Join(problems...))
}

// create appends, so that a command that truncates its own log does not leave a hole at its front.
func create(dir, name string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
}

// Log opens the output of a background command at a byte offset. An offset beyond the end means the end. size is the number of
// bytes between the offset and the present end; next is the offset to continue from.
func (m *Manager) Log(id string, cursor int64) (f *os.File, size, next int64, err error) {
	m.mu.Lock()
	rec, ok := m.records[id]
	m.mu.Unlock()
	if !ok || rec.output == "" {
		return nil, 0, 0, fault.Newf(fault.Invalid, "no background command with id %s", id).WithCode("INVALID_REQUEST_BODY")
	}
	// Non-blocking: the file is where commands can put something else in its place.
	f, err = os.OpenFile(rec.output, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("command output: %w", err)
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		cursor = min(cursor, end)
		_, err = f.Seek(cursor, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, 0, 0, fmt.Errorf("command output: %w", err)
	}
	return f, end - cursor, end, nil
}

// removeOld removes output files that were last written before limit and are not to be kept.
func removeOld(dir string, limit time.Time, keep map[string]bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // The directory was removed by somebody: nothing is left to clean.
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		info, err := e.Info()
		if err != nil || keep[path] || !strings.HasSuffix(e.Name(), outputSuffix) || !info.ModTime().Before(limit) {
			continue
		}
		_ = os.Remove(path)
	}
}
