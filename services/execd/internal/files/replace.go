package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"opensandbox/libs/fault"
)

// maxInMemory is how large new content may be that waits in memory, in bytes; what is larger waits in a file: a sandbox whose daemon wants more
// memory than there is ends.
const maxInMemory = 1 << 20

// Replacement is literal text to replace everywhere in a file.
type Replacement struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// Replaced says how often the text was found.
type Replaced struct {
	Count int `json:"replacedCount"`
}

// Replace edits files of any size in place. All requests are checked before the first file is touched. A file without a match is not
// written.
func (s *Service) Replace(edits map[string]Replacement) (map[string]Replaced, error) {
	for path, e := range edits {
		if e.Old == "" {
			return nil, fault.Newf(fault.Invalid, "invalid request, validation error old must not be empty for %s", path).WithCode(codeBody)
		}
	}
	out := make(map[string]Replaced, len(edits))
	for _, sent := range slices.Sorted(maps.Keys(edits)) {
		n, err := s.replaceIn(sent, edits[sent])
		if err != nil {
			return nil, err
		}
		out[sent] = Replaced{Count: n}
	}
	return out, nil
}

// replaceIn edits one file and returns how often the text was found. It reads the file twice: how large the new content will be is known
// before any of it is made.
func (s *Service) replaceIn(sent string, e Replacement) (int, error) {
	f, _, _, err := s.Open(sent)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	rest := newReplacing(f, e.Old, "")
	kept, err := io.Copy(io.Discard, rest)
	if err != nil {
		return 0, broken(err)
	}
	if rest.count == 0 {
		return 0, nil
	}
	before := kept + int64(rest.count)*int64(len(e.Old))
	over, added := bits.Mul64(uint64(rest.count), uint64(len(e.New)))
	after := uint64(kept) + added
	if over > 0 || after < added {
		after = 1<<64 - 1
	}
	if err := roomFor(f, after-min(after, uint64(before))); err != nil { // Written in place, the file takes what it has.
		return 0, broken(fmt.Errorf("the new content of %s: %w", sent, err))
	}
	edited := newReplacing(io.NewSectionReader(f, 0, before), e.Old, e.New)
	err = writeWhole(f.Name(), edited, resolved{uid: -1, gid: -1}, func(content io.Reader) (io.ReadCloser, error) {
		return s.aside(content, after)
	})
	return edited.count, internal(err)
}

// aside makes content whole before the file is overwritten from which it comes.
func (s *Service) aside(content io.Reader, size uint64) (io.ReadCloser, error) {
	if size <= maxInMemory {
		data, err := io.ReadAll(content)
		if err != nil {
			return nil, broken(err)
		}
		return io.NopCloser(bytes.NewReader(data)), nil
	}
	f, err := s.spoolFile()
	if err != nil {
		return nil, err
	}
	if err := keepIn(f, content, size); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// keepIn fills a file that is then read from its beginning.
func keepIn(f *os.File, content io.Reader, size uint64) error {
	if err := roomFor(f, size); err != nil {
		return broken(err)
	}
	if err := fill(f, content); err != nil {
		return internal(err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return broken(err)
	}
	return nil
}

// internal words an error of reading what no client has sent.
func internal(err error) error {
	if be, ok := errors.AsType[bodyError](err); ok {
		return broken(be.error)
	}
	return err
}

// roomFor refuses more bytes than the disk of a file has room for, before they fill the disk of everybody else.
func roomFor(f *os.File, size uint64) error {
	var disk unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &disk); err != nil {
		return err
	}
	if free := disk.Bavail * uint64(disk.Bsize); size > free {
		return fmt.Errorf("%d bytes more, and %d are free: %w", size, free, syscall.ENOSPC)
	}
	return nil
}

// replacing reads a source with one text in place of another, from left to right as bytes.ReplaceAll does. Memory is flat.
type replacing struct {
	src      io.Reader
	old, new []byte
	buf      []byte
	held     []byte // What was read of the source and not looked at, or not enough of it; a part of buf.
	out      []byte // What comes next; a part of buf, or new.
	matched  bool   // new comes after out.
	err      error  // Of the source.
	count    int    // How often the text was found.
}

// newReplacing takes a text to replace that is not empty.
func newReplacing(src io.Reader, old, by string) *replacing {
	return &replacing{src: src, old: []byte(old), new: []byte(by)}
}

// Read implements io.Reader.
func (r *replacing) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		switch {
		case r.matched:
			r.out, r.matched = r.new, false
		case r.next():
		case r.err != nil:
			return 0, r.err
		default:
			r.read()
		}
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// next finds what comes out next. It reports whether there is anything: else more must be read.
func (r *replacing) next() bool {
	if i := bytes.Index(r.held, r.old); i >= 0 {
		r.out, r.held, r.matched = r.held[:i], r.held[i+len(r.old):], true
		r.count++
		return true
	}
	keep := 0 // A match may begin in what is kept.
	if r.err == nil {
		keep = min(len(r.held), len(r.old)-1)
	}
	r.out, r.held = r.held[:len(r.held)-keep], r.held[len(r.held)-keep:]
	return len(r.out) > 0
}

func (r *replacing) read() {
	if r.buf == nil {
		// What is kept is looked at again, and must not be most of it.
		r.buf = make([]byte, chunk+2*len(r.old))
	}
	n := copy(r.buf, r.held)
	more, err := r.src.Read(r.buf[n:])
	r.held, r.err = r.buf[:n+more], err
}
