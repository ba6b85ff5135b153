package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	lineLength   = 4 << 10
	streamRounds = 7
	// pipeRead is how much is read from a pipe or a connection at a time.
	pipeRead = 256 << 10
	// streamTail is how much of the end of a stream is kept: its last event is in it.
	streamTail = 1 << 10
)

// daemonStreams measures the output of a command on its way to a client beside the same command on a pipe. Both ends share the
// processors with the daemon: the client reads and counts, and does not decode.
func (b *bench) daemonStreams(d *daemon) error {
	lines := filepath.Join(d.folder, "lines")
	if err := writeLines(lines, 256<<20); err != nil {
		return err
	}
	if err := b.streamIsWhole(d, lines); err != nil {
		return err
	}
	for _, way := range []struct {
		name, target string
		size         float64
		argv         []string
	}{
		{"4 KiB lines (cat of a file)", "; target ≥ 200 MB/s", 256 << 20, []string{"cat", lines}},
		{"yes", "", 32 << 20, []string{"sh", "-c", fmt.Sprintf("yes | head -c %d", 32<<20)}},
	} {
		var raw, ours []float64
		var wire int
		for range streamRounds {
			r, err := timed(func() error { return drainCommand(way.argv) })
			if err != nil {
				return err
			}
			o, err := timed(func() error {
				wire, err = b.drainStream(d, way.argv)
				return err
			})
			if err != nil {
				return err
			}
			raw, ours = append(raw, way.size/1e6/(r/1000)), append(ours, way.size/1e6/(o/1000))
		}
		b.add(result{Section: "execd-streams", Name: "on a pipe: " + way.name, Samples: raw, Unit: "MB/s"})
		b.add(result{Section: "execd-streams", Name: "streamed: " + way.name, Samples: ours, Unit: "MB/s",
			Note: fmt.Sprintf("%.1f bytes on the wire for each%s", float64(wire)/way.size, way.target)})
	}
	b.add(result{Section: "execd-streams", Name: "memory of the daemon afterwards (VmRSS)", Samples: []float64{memoryOf(d.cmd.Process.Pid, "VmRSS")}, Unit: "MB",
		Note: fmt.Sprintf("peak %.0f MB", memoryOf(d.cmd.Process.Pid, "VmHWM"))})
	return nil
}

// writeLines makes a file of words in lines of lineLength, the same in every run.
func writeLines(path string, size int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	random := rand.New(rand.NewPCG(1, 2))
	w := bufio.NewWriterSize(f, 1<<20)
	line := make([]byte, lineLength)
	for range size / lineLength {
		for i := range line {
			line[i] = 'a' + byte(random.UintN(26))
			if random.UintN(6) == 0 {
				line[i] = ' '
			}
		}
		line[lineLength-1] = '\n'
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return w.Flush()
}

// streamIsWhole checks once, outside the measurement, that what is streamed is what was printed.
func (b *bench) streamIsWhole(d *daemon, path string) error {
	const part = 8 << 20
	want, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var got []byte
	_, err = b.stream(d, []string{"head", "-c", fmt.Sprint(part), path}, func(conn io.Reader) (int, error) {
		body, err := io.ReadAll(conn)
		for line := range bytes.SplitSeq(body, []byte("\n")) {
			var event struct{ Type, Text string }
			if bytes.HasPrefix(line, []byte("{")) && json.Unmarshal(bytes.TrimSpace(line), &event) == nil && event.Type == "stdout" {
				got = append(got, event.Text...)
			}
		}
		return len(body), err
	})
	if err == nil && !bytes.Equal(got, want[:part]) {
		err = fmt.Errorf("%d bytes were streamed that are not the %d that were printed", len(got), part)
	}
	return err
}

// drainCommand runs a command and reads its output from a pipe.
func drainCommand(argv []string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{out}, make([]byte, pipeRead))
	return errors.Join(err, cmd.Wait())
}

// drainStream runs a command through the daemon and returns how much came over the wire.
func (b *bench) drainStream(d *daemon, argv []string) (int, error) {
	return b.stream(d, argv, func(conn io.Reader) (int, error) {
		total, kept := 0, 0
		buf := make([]byte, streamTail+pipeRead)
		for {
			n, err := conn.Read(buf[kept:])
			total += n
			end := kept + n
			kept = copy(buf, buf[max(0, end-streamTail):end])
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return total, err
			}
		}
		if !bytes.Contains(buf[:kept], []byte("execution_complete")) {
			return total, fmt.Errorf("the stream ended with %q", buf[:kept])
		}
		return total, nil
	})
}

// stream sends a command over a connection of its own, by hand: a full client would cost as much as the daemon. With HTTP/1.0 the
// answer is not chunked and ends with the connection.
func (b *bench) stream(d *daemon, argv []string, read func(io.Reader) (int, error)) (int, error) {
	conn, err := net.Dial("tcp", d.address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
	body, err := json.Marshal(m{"argv": argv})
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Fprintf(conn, "POST /command HTTP/1.0\r\nHost: bench\r\nX-EXECD-ACCESS-TOKEN: %s\r\nContent-Length: %d\r\n\r\n%s", d.token, len(body), body); err != nil {
		return 0, err
	}
	return read(conn)
}
