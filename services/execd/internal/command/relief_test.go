package command

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// gatedSink takes nothing until open is closed, and keeps what it gets then.
type gatedSink struct {
	open    chan struct{}
	entered chan struct{} // Closed when the first output is offered.
	once    sync.Once
	refuse  error
	got     bytes.Buffer
}

func newGatedSink() *gatedSink {
	return &gatedSink{open: make(chan struct{}), entered: make(chan struct{})}
}

func (s *gatedSink) Started(string) {}

func (s *gatedSink) Output(_ string, lines [][]byte) error {
	s.once.Do(func() { close(s.entered) })
	<-s.open
	for _, l := range lines {
		s.got.Write(l)
	}
	return s.refuse
}

// numbered is output in which each byte that is lost, doubled or moved shows.
func numbered(size int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return b.Bytes()[:size]
}

// testFile is a file for output in a directory of the test, wherever that is.
func testFile(t *testing.T, limit int64) (spillFile, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "spill")
	return spillFile{open: func() (*os.File, error) { return nameless(dir) }, allowed: newAllowance(limit)}, dir
}

// pumping is a pump at work whose pipe something is written to.
type pumping struct {
	*pump
	written chan error // Receives the end of the writer.
	over    chan struct{}
}

func startPumping(t *testing.T, sink Sink, file spillFile, output []byte) *pumping {
	t.Helper()
	p, err := newPump("stdout", sink, file)
	if err != nil {
		t.Fatal(err)
	}
	run := &pumping{pump: p, written: make(chan error, 1), over: make(chan struct{})}
	w := os.NewFile(p.writeEnd, "the command's end")
	go func() {
		_, err := w.Write(output)
		w.Close()
		run.written <- err
	}()
	go func() {
		defer close(run.over)
		p.run()
	}()
	return run
}

// TestACommandDoesNotWaitForItsReader: it ends while its reader has taken nothing, and the reader gets all of it in order.
func TestACommandDoesNotWaitForItsReader(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"nothing to put aside": readSize, "in memory": memoryBacklog, "in a file": 8<<20 + 12345} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output, sink := numbered(size), newGatedSink()
			file, dir := testFile(t, int64(size))
			run := startPumping(t, sink, file, output)
			if err := <-run.written; err != nil {
				t.Fatal(err)
			}
			if names, err := os.ReadDir(dir); len(names) != 0 || size <= memoryBacklog != errors.Is(err, os.ErrNotExist) {
				t.Errorf("in the directory: %v %v; want a directory only for a file, and no name in it", names, err)
			}
			close(sink.open)
			<-run.over
			if !bytes.Equal(sink.got.Bytes(), output) || run.lost != nil {
				t.Errorf("the reader got %d bytes, want %d equal ones; lost: %v", sink.got.Len(), len(output), run.lost)
			}
			if left := file.allowed.left.Load(); left != int64(size) {
				t.Errorf("%d bytes of the allowance are left, want %d", left, size)
			}
		})
	}
}

// TestWithoutRoomTheCommandWaits: there is no file, or it is full, or its disk is broken. Nothing is lost then either.
func TestWithoutRoomTheCommandWaits(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	small, _ := testFile(t, 1<<20)
	readOnly := spillFile{allowed: newAllowance(size), open: func() (*os.File, error) { return os.Open(os.DevNull) }}
	full := spillFile{allowed: newAllowance(size), open: func() (*os.File, error) { return os.OpenFile("/dev/full", os.O_RDWR, 0) }}
	missing := spillFile{allowed: newAllowance(size), open: func() (*os.File, error) { return nil, syscall.EROFS }}
	for name, file := range map[string]spillFile{
		"limit": small, "no file wanted": {allowed: newAllowance(0)}, "no directory": missing, "read-only file": readOnly, "full disk": full,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output, sink := numbered(size), newGatedSink()
			run := startPumping(t, sink, file, output)
			<-sink.entered
			run.fill(t)
			select {
			case err := <-run.written:
				t.Errorf("the command wrote everything: %v", err)
			default:
			}
			close(sink.open)
			<-run.over
			if err := <-run.written; err != nil || !bytes.Equal(sink.got.Bytes(), output) || run.lost != nil {
				t.Errorf("the reader got %d bytes, want %d equal ones; lost: %v, written: %v", sink.got.Len(), len(output), run.lost, err)
			}
		})
	}
}

// fill waits until the backlog has no room.
func (p *pumping) fill(t *testing.T) {
	t.Helper()
	eventually(t, "the backlog is full", func() bool {
		p.relief.mu.Lock()
		defer p.relief.mu.Unlock()
		return !p.relief.backlog.room()
	})
}

// TestARefusalDropsTheBacklog: the client has gone away. The rest is thrown away, and nobody is held up.
func TestARefusalDropsTheBacklog(t *testing.T) {
	t.Parallel()
	sink := newGatedSink()
	sink.refuse = errors.New("gone")
	file, _ := testFile(t, 1<<20)
	run := startPumping(t, sink, file, numbered(8<<20))
	<-sink.entered
	run.fill(t)
	close(sink.open)
	<-run.delivered
	if err := <-run.written; err != nil {
		t.Error(err)
	}
	<-run.over
	if run.relief.backlog.file.f != nil || file.allowed.left.Load() != 1<<20 || !run.relief.backlog.empty() {
		t.Errorf("something was kept: %+v", run.relief.backlog.file)
	}
}

// TestLostOutputIsAFailure: the disk does not give back what it got. That must not look like a success.
func TestLostOutputIsAFailure(t *testing.T) {
	t.Parallel()
	m, dir := manager(t)
	m.cfg.SpillLimit = 8 << 20
	path := filepath.Join(dir, "broken")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	file := spillFile{allowed: newAllowance(8 << 20), open: func() (*os.File, error) { return os.OpenFile(path, os.O_WRONLY, 0) }}
	sink := newGatedSink()
	run := startPumping(t, sink, file, numbered(1<<20))
	if err := <-run.written; err != nil {
		t.Fatal(err)
	}
	close(sink.open)
	<-run.over
	res := m.result(&launched{rec: &record{}, began: time.Now(), pumps: []*pump{run.pump}})
	if res.Code != -1 || !strings.Contains(res.Problem, "lost") {
		t.Errorf("got %+v %v, want a failure that says so", res, run.lost)
	}
}

// TestSpaceIsGivenBackWhileReading: a file of which most was read takes little of the disk, where the file system can do that.
func TestSpaceIsGivenBackWhileReading(t *testing.T) {
	t.Parallel()
	const size = 4 * spillHole
	file, _ := testFile(t, size)
	defer file.close()
	block := make([]byte, readSize)
	for i := range block {
		block[i] = byte(i)
	}
	for range size / readSize {
		if n := file.write(block); n != readSize {
			t.Fatalf("wrote %d", n)
		}
	}
	if n := file.write(block); n != 0 {
		t.Errorf("wrote %d beyond the limit", n)
	}
	for range 3 * size / 4 / readSize {
		if n, err := file.read(block); n != readSize || err != nil {
			t.Fatal(n, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(file.f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if got := st.Blocks * 512; !file.solid && got > size/2 {
		t.Errorf("%d bytes of the disk are taken, want about %d", got, size/4)
	}
	if n := file.write(block); !file.solid && n != readSize {
		t.Errorf("wrote %d after room was made", n)
	}
}

// TestAFileWithoutName: also where the file system knows no files without a name.
func TestAFileWithoutName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := unlinked(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("x"), 0); err != nil {
		t.Error(err)
	}
	if names, err := os.ReadDir(dir); len(names) != 0 || err != nil {
		t.Errorf("left: %v %v", names, err)
	}
}

// FuzzBacklog holds a backlog against a plain buffer, with a file that has room at some times only.
func FuzzBacklog(f *testing.F) {
	f.Add([]byte{255, 255, 255, 255, 255, 255, 0, 3, 255, 1, 255, 1, 1, 1}, uint32(100_000))
	f.Fuzz(func(t *testing.T, steps []byte, limit uint32) {
		file, _ := testFile(t, int64(limit%(1<<20)))
		k := backlog{file: file}
		defer k.drop()
		var want bytes.Buffer
		for i, step := range steps[:min(len(steps), 500)] {
			if step%4 != 0 { // Add, as long as there is room.
				if b := bytes.Repeat([]byte{byte(i)}, int(step)*readSize/255); k.room() {
					k.add(b)
					want.Write(b)
				}
				continue
			}
			got := make([]byte, 1+int(step)*readSize/255)
			if k.empty() != (want.Len() == 0) {
				t.Fatalf("empty: %v, with %d bytes", k.empty(), want.Len())
			}
			if k.empty() {
				continue
			}
			n, err := k.read(got)
			if err != nil || n == 0 || !bytes.Equal(got[:n], want.Next(n)) {
				t.Fatalf("read %d bytes: %v", n, err)
			}
			if len(k.memory) > memoryBacklog || len(k.rest) > readSize {
				t.Fatalf("%d and %d bytes in memory", len(k.memory), len(k.rest))
			}
		}
	})
}

// TestTheAnswerGoesOnAfterTheEnd: a command has ended, with its exit code known, before its reader took anything.
func TestTheAnswerGoesOnAfterTheEnd(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	sink := &namedSink{gatedSink: newGatedSink(), id: make(chan string, 1)}
	const each = memoryBacklog / 2
	type end struct {
		res Result
		err error
	}
	ended := make(chan end, 1)
	go func() {
		script := "head -c " + strconv.Itoa(each) + " /dev/zero; head -c " + strconv.Itoa(each) + " /dev/zero >&2; exit 3"
		res, err := m.Foreground(t.Context(), &Request{Command: script}, sink)
		ended <- end{res, err}
	}()
	awaitEnd(t, m, <-sink.id)
	select {
	case e := <-ended:
		t.Errorf("the answer is over before its reader took it: %+v", e)
	default:
	}
	close(sink.open)
	if e := <-ended; e.err != nil || e.res.Code != 3 || sink.got.Len() != 2*each {
		t.Errorf("got %+v and %d bytes, want code 3 and %d", e, sink.got.Len(), 2*each)
	}
}

// namedSink tells the id of its command, and may be used for two streams.
type namedSink struct {
	*gatedSink
	id chan string
	mu sync.Mutex
}

func (s *namedSink) Started(id string) { s.id <- id }

func (s *namedSink) Output(stream string, lines [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gatedSink.Output(stream, lines)
}
