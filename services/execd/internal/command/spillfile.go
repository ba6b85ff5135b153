package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// spillLook is how much is written before the disk is looked at again.
	spillLook = 1 << 20
	// spillHole is how much is read before its space is given back. Some file systems write to the disk then what will never be read again:
	// reading takes about twice as long with holes of 1 MiB.
	spillHole = 8 << 20
	// spillReserve and spillShare say what is left free of a file system: a tenth of it, at most 1 GiB.
	spillReserve = 1 << 30
	spillShare   = 10
)

// errInMemory says that a directory is no place for output that memory is to be spared of.
var errInMemory = errors.New("the file system is in memory")

// allowance is what the two streams of a command may keep in files together, in bytes.
type allowance struct{ left atomic.Int64 }

func newAllowance(limit int64) *allowance {
	a := &allowance{}
	a.left.Store(limit)
	return a
}

// take reports whether n bytes were left; they are the caller's until it gives them back.
func (a *allowance) take(n int64) bool {
	if a.left.Add(-n) >= 0 {
		return true
	}
	a.left.Add(n)
	return false
}

func (a *allowance) give(n int64) { a.left.Add(n) }

// spillFile is a queue of bytes in a file without a name: nothing is left of it when the daemon is killed. The file is made when
// it is first needed. What was read is given back to the disk step by step where the file system can do that, and once everything
// was read in any case.
type spillFile struct {
	open    func() (*os.File, error)
	allowed *allowance

	f          *os.File
	start, end int64 // What was not read yet.
	freed      int64 // Up to here the space was given back; a multiple of spillHole.
	looked     int64 // The disk was last looked at when the file ended here.
	solid      bool  // The file system cannot give back a part of a file.
}

// size is the number of bytes that wait.
func (s *spillFile) size() int64 { return s.end - s.start }

// write appends as much of b as the allowance and the disk have room for, which may be nothing.
func (s *spillFile) write(b []byte) int {
	if !s.allowed.take(int64(len(b))) {
		return 0
	}
	n := 0
	if s.usable() {
		n, _ = s.f.WriteAt(b, s.end) // A full or broken disk is one that has no room.
	}
	s.end += int64(n)
	s.allowed.give(int64(len(b) - n))
	return n
}

// usable reports whether there is a file, and room on its disk.
func (s *spillFile) usable() bool {
	if s.f == nil {
		f, err := s.open()
		if err != nil {
			return false
		}
		s.f, s.looked = f, -spillLook
	}
	if s.end-s.looked < spillLook {
		return true
	}
	var disk unix.Statfs_t
	if err := unix.Fstatfs(int(s.f.Fd()), &disk); err != nil {
		return false
	}
	if disk.Bavail*uint64(disk.Bsize) < min(disk.Blocks*uint64(disk.Bsize)/spillShare, spillReserve) {
		return false
	}
	s.looked = s.end
	return true
}

// read takes the oldest bytes out of the file.
func (s *spillFile) read(b []byte) (int, error) {
	n, err := s.f.ReadAt(b[:min(int64(len(b)), s.size())], s.start)
	if err != nil {
		return 0, err
	}
	s.start += int64(n)
	if s.start == s.end {
		s.rewind()
	} else if !s.solid && s.start-s.freed >= spillHole {
		s.punch()
	}
	return n, nil
}

// punch gives back the space of what was read.
func (s *spillFile) punch() {
	n := (s.start - s.freed) / spillHole * spillHole
	if err := unix.Fallocate(int(s.f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, s.freed, n); err != nil {
		s.solid = true
		return
	}
	s.freed += n
	s.allowed.give(n)
}

// rewind gives back all space of a file that was read to its end.
func (s *spillFile) rewind() {
	if err := s.f.Truncate(0); err != nil {
		return // The file goes on growing, and counts.
	}
	s.allowed.give(s.end - s.freed)
	s.start, s.end, s.freed, s.looked = 0, 0, 0, -spillLook
}

// close gives back everything. The file is usable again afterwards.
func (s *spillFile) close() {
	if s.f == nil {
		return
	}
	s.f.Close() // Nobody reads it any more: an error means nothing.
	s.allowed.give(s.end - s.freed)
	s.f, s.start, s.end, s.freed = nil, 0, 0, 0
}

// spillFile returns what both streams of a new command may use: copies of it share its allowance.
func (m *Manager) spillFile() spillFile {
	return spillFile{open: m.openSpill, allowed: newAllowance(m.cfg.SpillLimit)}
}

// openSpill makes a file for output in the first directory that can be written and is on a disk.
func (m *Manager) openSpill() (*os.File, error) {
	var problems []error
	for _, dir := range m.cfg.OutputDirs {
		f, err := nameless(dir)
		if err == nil {
			if err = onDisk(f); err == nil {
				return f, nil
			}
			f.Close()
		}
		problems = append(problems, fmt.Errorf("%s: %w", dir, err))
	}
	err := errors.Join(problems...)
	m.cfg.Log.Debug("output of slow readers is kept in memory only", "error", err)
	return nil, err
}

// onDisk refuses a file that would be memory of the sandbox.
func onDisk(f *os.File) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return err
	}
	if fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.RAMFS_MAGIC {
		return errInMemory
	}
	return nil
}

// nameless opens a file that exists as long as it is open.
func nameless(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600); err == nil {
		return f, nil
	}
	return unlinked(dir)
}

// unlinked is nameless for file systems without O_TMPFILE, as overlayfs was before Linux 6.1. Purge removes what a kill between the two
// steps leaves.
func unlinked(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, newID()+outputSuffix), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
