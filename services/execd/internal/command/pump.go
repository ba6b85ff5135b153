package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"opensandbox/services/execd/internal/sse"
)

const (
	// startSize is the size of a read buffer until there is more at once: most commands say little, and a thousand may run.
	startSize = 2 << 10
	// readSize is the size of one then: half of what a pipe holds.
	readSize = 32 << 10
	// maxLine bounds a line in memory; a longer one is delivered in several pieces. Readers join pieces that lack a terminator
	// with a newline of their own, so the bound is far above ordinary lines.
	maxLine = 4 << 20
	// givenLines bounds the lines that a sink gets at once: those of a full buffer can be so many that encoding them takes as long as a slow
	// client, and a sink that works is not to look like one that waits. A list of all of them would be larger than the buffer, too.
	givenLines = 1 << 10
	// discardSize is the buffer of a pipe that nobody listens to any more.
	discardSize = 4 << 10
)

// pump reads one output pipe of a foreground command: first for the sink, later to throw it away. Its relief reads in its place while the
// sink takes nothing.
type pump struct {
	stream   string
	sink     Sink
	r        *os.File
	raw      syscall.RawConn // Of r.
	writeEnd uintptr
	relief   relief
	lines    [][]byte // What the sink is given.

	delivered chan struct{} // Closed when nothing more will be given to the sink.
	lost      error         // Valid then: why output never reached the sink that should have.

	mu   sync.Mutex // Held while bytes leave the pipe, so that each is either in the pipe or in read.
	read int64      // Bytes read so far.
	need int64      // Bytes that the command itself had written when it ended; 0 before.
	over time.Time  // When the command ended; zero before.
}

// newPump makes a pipe. What the sink does not take may wait in the file.
func newPump(stream string, sink Sink, file spillFile) (*pump, error) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	// Only our end is non-blocking: the child's end is a file description of its own and must block as programs expect.
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		syscall.Close(fds[0])
		syscall.Close(fds[1])
		return nil, fmt.Errorf("pipe: %w", err)
	}
	r := os.NewFile(uintptr(fds[0]), "|"+stream)
	raw, err := r.SyscallConn()
	if err != nil {
		r.Close()
		syscall.Close(fds[1])
		return nil, fmt.Errorf("pipe: %w", err)
	}
	p := &pump{stream: stream, sink: sink, r: r, raw: raw, writeEnd: uintptr(fds[1]), delivered: make(chan struct{})}
	p.relief = relief{p: p, backlog: backlog{file: file}}
	p.relief.changed.L = &p.relief.mu
	return p, nil
}

// abandon closes both ends of a pipe that no process got.
func (p *pump) abandon() {
	p.r.Close()
	syscall.Close(int(p.writeEnd))
}

// leaderEnded starts the drain. What is in the pipe now may be the command's last words, so it is read whatever it takes.
func (p *pump) leaderEnded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := 0
	_ = p.raw.Control(func(fd uintptr) { waiting, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) // Fails only when the pipe is closed.
	p.need = p.read + int64(waiting)
	p.over = time.Now()
	_ = p.r.SetReadDeadline(p.over.Add(drainIdle)) // Fails only when the pipe is closed, which ends the pump as well.
}

// take reads what is in the pipe, as os.File.Read does, and counts it in one step with taking it out. During the drain it moves the
// deadline.
func (p *pump) take(b []byte) (n int, err error) {
	waited := p.raw.Read(func(fd uintptr) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for {
			n, err = syscall.Read(int(fd), b)
			if err != syscall.EINTR {
				break
			}
		}
		p.read += int64(max(n, 0))
		return err != syscall.EAGAIN
	})
	switch {
	case waited != nil:
		return 0, waited
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	p.extend()
	return n, nil
}

// short reports whether the command itself had written more than was read.
func (p *pump) short() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.read < p.need
}

// run reads until every writer has closed the pipe.
func (p *pump) run() {
	defer p.relief.calls.Wait() // One may read until the pipe is closed.
	defer p.r.Close()
	open := p.deliver()
	p.relief.close()
	close(p.delivered)
	if !open {
		return
	}
	_ = p.r.SetReadDeadline(time.Time{})
	buf := make([]byte, discardSize)
	for {
		if _, err := p.r.Read(buf); err != nil {
			return
		}
	}
}

// deliver gives lines to the sink until the pipe ends, the drain is over, or the sink wants no more. It reports whether the pipe
// may still have writers.
func (p *pump) deliver() (open bool) {
	buf := make([]byte, startSize)
	held := 0 // Bytes at the front of buf that belong to an unfinished line.
	for {
		n, err := p.relief.waiting(buf[held:])
		if err != nil {
			p.lost = err
			return true
		}
		if n == 0 {
			n, err = p.take(buf[held:])
		}
		if n > 0 {
			end := held + n
			rest, refused := p.give(buf[:end], held)
			if refused == nil && rest == 0 && end == len(buf) && len(buf) >= maxLine {
				rest = sse.CutText(buf, len(buf)-8)
				refused = p.relief.give([][]byte{buf[:rest]})
			}
			if refused != nil {
				return true
			}
			held = copy(buf, buf[rest:end])
			buf = resize(buf, held, end == len(buf))
		}
		if err == nil {
			continue
		}
		late := errors.Is(err, os.ErrDeadlineExceeded)
		if late && p.short() {
			_ = p.r.SetReadDeadline(time.Now().Add(drainIdle))
			continue
		}
		if held > 0 {
			_ = p.relief.give([][]byte{buf[:held]}) // The last.
		}
		return late
	}
}

// give hands the finished lines of b to the sink, not too many at once, and returns where the unfinished rest begins. The first skip bytes are
// known to hold no terminator.
func (p *pump) give(b []byte, skip int) (rest int, refused error) {
	for more := true; more; skip = 0 {
		var n int
		p.lines, n = split(p.lines[:0], b[rest:], skip)
		if more = len(p.lines) == givenLines; len(p.lines) == 0 {
			break
		}
		if err := p.relief.give(p.lines); err != nil {
			return rest, err
		}
		rest += n
	}
	return rest, nil
}

// extend moves the deadline after output that came during the drain.
func (p *pump) extend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over.IsZero() {
		return
	}
	idle, last := time.Now().Add(drainIdle), p.over.Add(drainMax)
	if idle.After(last) {
		idle = last
	}
	_ = p.r.SetReadDeadline(idle)
}

// resize makes room for more at once, and for more of an unfinished line, and gives the latter back after it.
func resize(buf []byte, held int, full bool) []byte {
	size := len(buf)
	switch {
	case full && len(buf) < readSize:
		size = readSize
	case held == len(buf):
		size = min(2*len(buf), maxLine)
	case len(buf) > readSize && held < readSize/2:
		size = readSize
	}
	if size == len(buf) {
		return buf
	}
	grown := make([]byte, size)
	copy(grown, buf[:held])
	return grown
}

// split appends finished lines of b, as many as a sink gets at once, each with its terminator \n, \r or \r\n, and returns where the rest begins.
// The first skip bytes are known to hold no terminator. A \r at the very end finishes its line at once: progress bars wait for
// nobody; the \n that may follow becomes a line of its own.
func split(lines [][]byte, b []byte, skip int) (_ [][]byte, rest int) {
	cr := find(b, '\r', skip)
	for at := skip; len(lines) < givenLines; {
		end := find(b, '\n', at) + 1
		if cr < end-1 {
			end = cr + 1
			if end < len(b) && b[end] == '\n' {
				end++
			}
			cr = find(b, '\r', end)
		}
		if end > len(b) {
			return lines, rest
		}
		lines = append(lines, b[rest:end])
		rest, at = end, end
	}
	return lines, rest
}

// find returns the index of c at or after from, or len(b).
func find(b []byte, c byte, from int) int {
	if i := bytes.IndexByte(b[from:], c); i >= 0 {
		return from + i
	}
	return len(b)
}
