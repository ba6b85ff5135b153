package files

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"opensandbox/libs/fault"
)

// Open opens a regular file for reading. streamed says that its size is not to be believed: files of the kernel's own file
// systems have a size of 0 or of one page whatever they hold.
func (s *Service) Open(sent string) (f *os.File, fi os.FileInfo, streamed bool, err error) {
	path, err := s.Path(sent)
	if err != nil {
		return nil, nil, false, err
	}
	// Non-blocking, so that a pipe without a writer gives an answer instead of a hanging request.
	f, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, false, missing(sent, err)
	}
	fi, err = f.Stat()
	if err == nil && fi.IsDir() {
		err = fmt.Errorf("%s is a directory", sent)
	} else if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", sent)
	}
	if err != nil {
		f.Close()
		return nil, nil, false, broken(err)
	}
	return f, fi, synthetic(f), nil
}

// synthetic recognises the kernel's own file systems.
func synthetic(f *os.File) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(int(f.Fd()), &st) != nil {
		return false
	}
	switch int64(st.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC:
		return true
	}
	return false
}

// ErrRangeSyntax and ErrRangeOutside are the two ways in which a Range header cannot be served.
var (
	ErrRangeSyntax  = errors.New("the Range header is not of the form bytes=first-last")
	ErrRangeOutside = errors.New("the Range header asks for bytes beyond the end of the file")
)

// FirstRange returns the first range of a Range header that lies at least partly within size, clamped to it. Only one range is
// ever served, as in OpenSandbox 1.1.1. length is at least 1.
func FirstRange(header string, size int64) (start, length int64, err error) {
	unit, list, ok := strings.Cut(header, "=")
	if !ok || !strings.EqualFold(strings.TrimSpace(unit), "bytes") {
		return 0, 0, ErrRangeSyntax
	}
	found := false
	for spec := range strings.SplitSeq(list, ",") {
		if spec = strings.TrimSpace(spec); spec == "" {
			continue
		}
		from, to, ok := strings.Cut(spec, "-")
		if !ok {
			return 0, 0, ErrRangeSyntax
		}
		s, l, err := oneRange(strings.TrimSpace(from), strings.TrimSpace(to), size)
		if err != nil {
			return 0, 0, err
		}
		if l > 0 && !found {
			start, length, found = s, l, true
		}
	}
	if !found {
		if strings.Trim(list, ", \t") == "" {
			return 0, 0, ErrRangeSyntax
		}
		return 0, 0, ErrRangeOutside
	}
	return start, length, nil
}

// oneRange returns a length of 0 for a range that lies outside.
func oneRange(from, to string, size int64) (start, length int64, err error) {
	if from == "" {
		n, err := rangeNumber(to)
		if err != nil {
			return 0, 0, err
		}
		n = min(n, size)
		return size - n, n, nil
	}
	start, err = rangeNumber(from)
	if err != nil {
		return 0, 0, err
	}
	last := size - 1
	if to != "" {
		end, err := rangeNumber(to)
		if err != nil || end < start {
			return 0, 0, ErrRangeSyntax
		}
		last = min(last, end)
	}
	if start >= size {
		return 0, 0, nil
	}
	return start, last - start + 1, nil
}

// rangeNumber reads digits only; a number too large for an int64 is as good as the largest one.
func rangeNumber(s string) (int64, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, ErrRangeSyntax
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, nil
	}
	return n, nil
}

// LineRange reads the offset and limit parameters, both 1-based and at least 1; absent ones mean the first line and all lines.
func LineRange(offset, limit string) (from, count int64, err error) {
	from, count = 1, 1<<63-1
	for _, p := range []struct {
		text, name string
		to         *int64
	}{{offset, "offset", &from}, {limit, "limit", &count}} {
		if p.text == "" {
			continue
		}
		n, err := strconv.ParseInt(p.text, 10, 64)
		if err != nil || n < 1 {
			return 0, 0, fault.Newf(fault.Invalid, "invalid request, validation error %s must be a positive number", p.name).WithCode(codeBody)
		}
		*p.to = n
	}
	return from, count, nil
}

// CopyLines writes count lines of src, beginning with line from, joined by \n: carriage returns at line ends are removed, and the
// last line has no terminator. Lines may be of any length; memory is flat.
func CopyLines(dst io.Writer, src io.Reader, from, count int64) error {
	in := bufio.NewReaderSize(src, 64<<10)
	out := bufio.NewWriterSize(dst, 32<<10)
	line := int64(1) // The line that the next bytes belong to.
	pending := false // A terminator was seen; it is written when another line follows.
	returns := 0     // Carriage returns that are dropped if the line ends after them.
	for line-from < count {
		piece, err := in.ReadSlice('\n')
		ended := err == nil
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !errors.Is(err, io.EOF) {
			return err
		}
		if line >= from && len(piece) > 0 {
			if pending {
				_ = out.WriteByte('\n')
				pending = false
			}
			body := piece
			if ended {
				body = piece[:len(piece)-1]
			}
			text := body[:len(body)-trailing(body)]
			if len(text) > 0 {
				for ; returns > 0; returns-- {
					_ = out.WriteByte('\r')
				}
				_, _ = out.Write(text)
			}
			returns += len(body) - len(text)
		}
		if ended {
			pending = line >= from
			returns = 0
			line++
		}
		if errors.Is(err, io.EOF) {
			break
		}
	}
	return out.Flush() // A bufio.Writer keeps its first error for here.
}

// trailing counts the carriage returns at the end of b.
func trailing(b []byte) int {
	n := 0
	for n < len(b) && b[len(b)-1-n] == '\r' {
		n++
	}
	return n
}
