package terminal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"opensandbox/services/execd/internal/reap"
)

const (
	// readSize is the largest live frame, as in OpenSandbox 1.1.1.
	readSize = 32 << 10
	// drain is how long output is read after the process itself has ended: what it left behind has no terminal any more.
	drain = 200 * time.Millisecond
	// pipeSize is what a pipe holds (pipe(7)); a terminal holds less.
	pipeSize = 64 << 10
	// inputFrames bounds what waits for a process that does not read.
	inputFrames = 4
)

// process is what runs in a terminal. Its leader leads a session of the kernel.
type process struct {
	pipe    bool
	leader  *reap.Process
	stdin   *os.File // Our end of the pseudo terminal, or of the pipe to its input.
	outputs []*os.File
	input   chan []byte
	gone    chan struct{} // Closed when the leader has ended.
	readers sync.WaitGroup
}

// start runs the shell and everything that belongs to it. Called with the lock of the terminal.
func (t *terminal) start(pipe bool) (*process, error) {
	shell, err := t.m.cfg.Commands.Shell()
	if err != nil {
		return nil, err
	}
	if !t.m.enter() {
		return nil, reap.ErrStopping
	}
	p := &process{pipe: pipe, input: make(chan []byte, inputFrames), gone: make(chan struct{})}
	sys := &syscall.SysProcAttr{Setsid: true}
	theirs, err := p.open(t.cols, t.rows)
	if err == nil {
		var fds []uintptr
		for _, f := range theirs {
			fds = append(fds, f.Fd())
		}
		sys.Setctty = !pipe // Its standard input becomes the terminal of its session.
		p.leader, err = t.m.cfg.Starter.Start(shell, arguments(shell, t.command), &syscall.ProcAttr{
			Dir: t.dir, Env: variables(t.env, pipe), Sys: sys, Files: fds,
		})
		if err != nil {
			err = fmt.Errorf("%s: %w", shell, err)
		}
	}
	closeAll(theirs)
	if err != nil {
		p.close()
		t.m.workers.Done()
		return nil, err
	}
	go t.supervise(p)
	return p, nil
}

// open makes the terminal or the pipes, and returns the ends of the process: its input, output and error output.
func (p *process) open(cols, rows uint16) (theirs []*os.File, err error) {
	if !p.pipe {
		d, err := openDevice()
		if err != nil {
			return nil, err
		}
		p.stdin, p.outputs = d.ours, []*os.File{d.ours}
		return []*os.File{d.theirs, d.theirs, d.theirs}, resize(d.ours, cols, rows)
	}
	in, stdin, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.stdin, theirs = stdin, append(theirs, in)
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			return theirs, err
		}
		p.outputs, theirs = append(p.outputs, r), append(theirs, w)
	}
	return theirs, nil
}

func (p *process) close() {
	if p.stdin != nil {
		p.stdin.Close()
	}
	closeAll(p.outputs)
}

// closeAll closes files, also those that stand more than once.
func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// supervise lives as long as the process and what belongs to it.
func (t *terminal) supervise(p *process) {
	defer t.m.workers.Done()
	for i, f := range p.outputs {
		kind := []byte{FrameOutput, FrameError}[i]
		p.readers.Go(func() { t.read(f, kind) })
	}
	var writer sync.WaitGroup
	writer.Go(func() { t.write(p) })
	<-p.leader.Done()
	close(p.gone)
	for _, f := range p.outputs {
		_ = f.SetReadDeadline(time.Now().Add(drain)) // Fails only when it is closed.
	}
	_ = p.stdin.SetWriteDeadline(time.Now())
	p.readers.Wait()
	writer.Wait()
	p.close()
	code := -1
	if ws := p.leader.Status(); ws.Exited() {
		code = ws.ExitStatus()
	}
	t.over(code)
}

// read passes output on until there is no more. A holder that does not keep up holds it back; viewers never do.
func (t *terminal) read(f *os.File, kind byte) {
	buf := make([]byte, readSize)
	for {
		n, err := f.Read(buf)
		t.pass(kind, buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.rest(f, kind, buf)
		}
		if err != nil {
			return // The end; EIO when nobody has the terminal open any more; or the drain is over.
		}
	}
}

// rest passes on what is still there when the drain is over: a slow holder may have kept the last words of the process waiting. It
// takes no more than one pipe holds, as children that were left behind may print for ever.
func (t *terminal) rest(f *os.File, kind byte, buf []byte) {
	for left := pipeSize; left > 0; {
		n := 0
		err := control(f, func(fd int) (err error) {
			n, err = unix.Read(fd, buf[:min(len(buf), left)])
			return err
		})
		if err != nil || n <= 0 {
			return // EAGAIN: nothing is left. The file does not block.
		}
		t.pass(kind, buf[:n])
		left -= n
	}
}

// pass gives output to the holder, if there is one, and keeps it for those who come later.
func (t *terminal) pass(kind byte, b []byte) {
	if len(b) == 0 {
		return
	}
	b = bytes.Clone(b)
	if h := t.printed(b); h != nil {
		select {
		case h.queue <- Frame{Kind: kind, Data: b}:
		case <-h.ended:
		}
	}
}

// write passes input on.
func (t *terminal) write(p *process) {
	for {
		select {
		case <-p.gone:
			return
		case b := <-p.input:
			if _, err := p.stdin.Write(b); err != nil && !ends(p) {
				t.refuseInput(err)
			}
		}
	}
}

// ends reports whether the process is about to end, which explains a failed write.
func ends(p *process) bool {
	select {
	case <-p.leader.Done():
		return true
	case <-time.After(drain):
		return false
	}
}

func (t *terminal) refuseInput(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holder != nil {
		t.holder.finish(End{Why: InputFailed, Err: err})
		t.holder = nil
	}
}
