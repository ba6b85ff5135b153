package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

const (
	terminals = 100
	// typing is how often somebody presses a key: faster than people type.
	typing  = 50 * time.Millisecond
	presses = 100
)

// echo is what runs in each terminal: a process that answers each byte with the same one. The terminal itself echoes nothing.
const echo = "stty raw -echo; echo ready; exec cat"

// daemonTerminals measures the echo of a key in a hundred terminals at once beside the same terminals without the daemon.
func (b *bench) daemonTerminals(d *daemon) error {
	ways := []struct {
		name string
		open func() (io.ReadWriteCloser, error)
	}{
		{"terminals of this program", openRaw},
		{"through the daemon", func() (io.ReadWriteCloser, error) { return b.openRemote(d) }},
	}
	pace := []struct {
		name, target string
		pause        time.Duration
	}{{"20 keys a second in each", "target p99 ≤ 20 ms", typing}, {"a key as soon as the last came back", "", 0}}
	for _, p := range pace {
		for _, w := range ways {
			samples, err := typeInAll(w.open, p.pause)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			r := result{Section: "execd-terminals", Name: fmt.Sprintf("echo in %d %s, %s", terminals, w.name, p.name), Samples: samples}
			if w.name == ways[1].name {
				r.Note = p.target
			}
			b.add(r)
		}
	}
	b.add(result{Section: "execd-terminals", Name: fmt.Sprintf("memory of the daemon after %d terminals (VmRSS)", 2*terminals), Samples: []float64{memoryOf(d.cmd.Process.Pid, "VmRSS")}, Unit: "MB",
		Note: fmt.Sprintf("peak %.0f MB", memoryOf(d.cmd.Process.Pid, "VmHWM"))})
	return nil
}

// typeInAll opens the terminals, types in all of them at once, and closes them.
func typeInAll(open func() (io.ReadWriteCloser, error), pause time.Duration) (samples []float64, err error) {
	lines := make([]io.ReadWriteCloser, 0, terminals)
	defer func() {
		for _, l := range lines {
			_ = l.Close()
		}
	}()
	for range terminals {
		l, err := open()
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
		if err := isReady(l); err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	began := time.Now()
	for i, l := range lines {
		all.Go(func() {
			// The typists are not in step.
			mine, e := typeIn(l, began.Add(pause*time.Duration(i)/terminals), pause)
			mu.Lock()
			defer mu.Unlock()
			samples, err = append(samples, mine...), errors.Join(err, e)
		})
	}
	all.Wait()
	return samples, err
}

func isReady(l io.Reader) error {
	buf, seen := make([]byte, 1<<10), ""
	for !strings.Contains(seen, "ready\n") {
		n, err := l.Read(buf)
		if err != nil {
			return fmt.Errorf("the terminal said %q: %w", seen, err)
		}
		seen += string(buf[:n])
	}
	return nil
}

// typeIn presses keys and waits for each to come back.
func typeIn(l io.ReadWriter, begin time.Time, pause time.Duration) (samples []float64, err error) {
	buf := make([]byte, 64)
	for i := range presses {
		time.Sleep(time.Until(begin.Add(time.Duration(i) * pause)))
		took, err := timed(func() error {
			if _, err := l.Write([]byte("x")); err != nil {
				return err
			}
			n, err := l.Read(buf)
			if err == nil && string(buf[:n]) != "x" {
				err = fmt.Errorf("the terminal said %q", buf[:n])
			}
			return err
		})
		if err != nil {
			return samples, err
		}
		samples = append(samples, took)
	}
	return samples, nil
}

// rawLine is a pseudo terminal of this program.
type rawLine struct {
	*os.File
	cmd *exec.Cmd
}

func openRaw() (io.ReadWriteCloser, error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	ours := os.NewFile(uintptr(fd), "/dev/ptmx")
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	theirs, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	defer theirs.Close()
	cmd := exec.Command("sh", "-c", echo)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, ours.Close())
	}
	return &rawLine{ours, cmd}, nil
}

// Close ends the process too.
func (l *rawLine) Close() error {
	_ = l.cmd.Process.Kill()
	_ = l.cmd.Wait() // It was killed.
	return l.File.Close()
}

// remoteLine is a terminal of the daemon.
type remoteLine struct {
	ctx context.Context
	ws  *websocket.Conn
}

func (b *bench) openRemote(d *daemon) (io.ReadWriteCloser, error) {
	req, err := http.NewRequestWithContext(b.ctx, "POST", d.url()+"/pty", strings.NewReader(fmt.Sprintf(`{"command":%q}`, echo)))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-EXECD-ACCESS-TOKEN", d.token)
	res, err := b.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var made struct {
		ID string `json:"session_id"`
	}
	if err := json.NewDecoder(res.Body).Decode(&made); err != nil || made.ID == "" {
		return nil, fmt.Errorf("no terminal: %s %w", res.Status, err)
	}
	ws, _, err := websocket.Dial(b.ctx, d.url()+"/pty/"+made.ID+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{"X-Execd-Access-Token": {d.token}}})
	if err != nil {
		return nil, err
	}
	return &remoteLine{b.ctx, ws}, nil
}

// Read returns the output of one frame, without the byte that says what it carries.
func (l *remoteLine) Read(p []byte) (int, error) {
	for {
		kind, b, err := l.ws.Read(l.ctx)
		if err != nil {
			return 0, err
		}
		if kind == websocket.MessageBinary && len(b) > 1 {
			return copy(p, b[1:]), nil
		}
	}
}

// Write types.
func (l *remoteLine) Write(p []byte) (int, error) {
	return len(p), l.ws.Write(l.ctx, websocket.MessageBinary, append([]byte{0}, p...))
}

// Close leaves; the end of the daemon ends the process.
func (l *remoteLine) Close() error { return l.ws.CloseNow() }
