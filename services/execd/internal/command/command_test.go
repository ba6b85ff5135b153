package command

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/services/execd/internal/reap"
	"opensandbox/services/execd/internal/reap/reaptest"
)

// reaper is the only one of the test process: it collects every child.
var reaper *reap.Reaper

func TestMain(m *testing.M) {
	reaper = reap.New()
	reaptest.Main(m, reaper)
}

func manager(t *testing.T) (*Manager, string) {
	t.Helper()
	dir := t.TempDir()
	m := New(Config{
		Starter: reaper, Env: os.Environ(), OutputDirs: []string{filepath.Join(dir, "out")},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	t.Cleanup(m.Close)
	return m, dir
}

// recorder keeps what a command says; refuse makes Output fail.
type recorder struct {
	mu     sync.Mutex
	id     string
	out    bytes.Buffer
	lines  int
	refuse error
}

func (r *recorder) Started(id string) { r.id = id }

func (r *recorder) Output(_ string, lines [][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range lines {
		r.out.Write(l)
		r.lines++
	}
	return r.refuse
}

func TestSplit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in   string
		want []string
		rest int
	}{
		{"", nil, 0}, {"abc", nil, 0}, {"a\n", []string{"a\n"}, 2}, {"a\r\nb", []string{"a\r\n"}, 3}, {"a\rb\n", []string{"a\r", "b\n"}, 4},
		{"\n\n", []string{"\n", "\n"}, 2}, {"\r", []string{"\r"}, 1}, {"\r\r\n\nx", []string{"\r", "\r\n", "\n"}, 4}, {"a\n\rb", []string{"a\n", "\r"}, 3},
	}
	for _, tt := range tests {
		lines, rest := split(nil, []byte(tt.in), 0)
		var got []string
		for _, l := range lines {
			got = append(got, string(l))
		}
		if d := cmp.Diff(tt.want, got); d != "" || rest != tt.rest {
			t.Errorf("split(%q) rest %d, want %d (-want +got):\n%s", tt.in, rest, tt.rest, d)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte("a\r\n\rb\nc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		lines, rest := split(nil, b, 0)
		if got := append(bytes.Join(lines, nil), b[rest:]...); !bytes.Equal(got, b) {
			t.Errorf("%q comes back as %q", b, got)
		}
		for _, l := range lines {
			body := strings.TrimSuffix(strings.TrimSuffix(string(l), "\n"), "\r")
			if strings.ContainsAny(body, "\r\n") || len(body) == len(l) {
				t.Errorf("%q is not one line", l)
			}
		}
		if len(lines) < givenLines && bytes.ContainsAny(b[rest:], "\r\n") {
			t.Errorf("the rest %q holds a line end", b[rest:])
		}
	})
}

func TestLongLineIsCut(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	r := &recorder{}
	res, err := m.Foreground(t.Context(), &Request{Command: "head -c 9000000 /dev/zero; echo"}, r)
	if err != nil || res.Code != 0 || r.out.Len() != 9000001 || r.lines != 3 {
		t.Errorf("got %+v %v, %d bytes in %d lines, want 9000001 in 3", res, err, r.out.Len(), r.lines)
	}
}

func TestRefusingSinkDoesNotStopTheCommand(t *testing.T) {
	t.Parallel()
	m, dir := manager(t)
	done := filepath.Join(dir, "done")
	res, err := m.Foreground(t.Context(), &Request{Command: "seq 1 100000; : > " + done}, &recorder{refuse: errors.New("gone")})
	if err != nil || res.Code != 0 {
		t.Errorf("got %+v %v", res, err)
	}
	if _, err := os.Stat(done); err != nil {
		t.Error(err)
	}
}

// eventually polls until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// awaitEnd returns the status of a command that is over.
func awaitEnd(t *testing.T, m *Manager, id string) (st Status) {
	t.Helper()
	eventually(t, "the command is over", func() bool {
		var err error
		if st, err = m.Status(id); err != nil {
			t.Fatal(err)
		}
		return !st.Running
	})
	return st
}

func TestKeptForegroundGoesOn(t *testing.T) {
	t.Parallel()
	m, dir := manager(t)
	gate, done := filepath.Join(dir, "gate"), filepath.Join(dir, "done")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &recorder{}
	_, err := m.Foreground(ctx, &Request{Command: "while [ ! -e " + gate + " ]; do sleep 0.01; done; : > " + done, OnDisconnect: KeepCommand}, r)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if st, err := m.Status(r.id); err != nil || !st.Running {
		t.Errorf("got %+v %v, want it running", st, err)
	}
	if err := os.WriteFile(gate, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, m, r.id)
	if _, err := os.Stat(done); err != nil {
		t.Error(err)
	}
}

// TestCancelledForegroundEndsItsGroup: also what ignores SIGTERM ends, and what the command started.
func TestCancelledForegroundEndsItsGroup(t *testing.T) {
	t.Parallel()
	m, dir := manager(t)
	pids := filepath.Join(dir, "pids")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for data, _ := os.ReadFile(pids); len(strings.Fields(string(data))) < 2 && t.Context().Err() == nil; data, _ = os.ReadFile(pids) {
			time.Sleep(time.Millisecond)
		}
	}()
	r := &recorder{}
	_, err := m.Foreground(ctx, &Request{Command: "trap '' TERM; sleep 1000 & echo $$ $! > " + pids + "; wait; wait"}, r)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	data, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range strings.Fields(string(data)) {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the process is gone", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
	}
	if st := awaitEnd(t, m, r.id); *st.ExitCode != -1 {
		t.Errorf("got %+v, want an end by a signal", st)
	}
}

// TestHistoryHasABound: what has run in the foreground is forgotten before its day is over rather than remembered without end.
func TestHistoryHasABound(t *testing.T) {
	t.Parallel()
	m, _ := manager(t)
	run := func(background bool) string {
		r := &recorder{}
		do := func() (Result, error) {
			return m.Foreground(t.Context(), &Request{Command: "true " + strings.Repeat("x", 1000)}, r)
		}
		if background {
			do = func() (Result, error) { return m.Background(&Request{Command: "true"}, r) }
		}
		if res, err := do(); err != nil || res.Code != 0 {
			t.Fatal(res, err)
		}
		awaitEnd(t, m, r.id)
		return r.id
	}
	behind, first := run(true), run(false)
	m.mu.Lock()
	size := m.history.size
	m.history.size = maxHistory // As if there were more.
	m.mu.Unlock()
	second := run(false)
	for id, known := range map[string]bool{behind: true, first: false, second: true} {
		if _, err := m.Status(id); (err == nil) != known {
			t.Errorf("got %v; is it to be known: %t", err, known)
		}
	}
	m.Purge(time.Now().Add(Retention + time.Second))
	if m.history.size != maxHistory-size || len(m.history.records) != 0 || len(m.records) != 0 {
		t.Errorf("left of a day ago: %d bytes, %d and %d records", m.history.size-maxHistory+size, len(m.history.records), len(m.records))
	}
}

// TestNobodyWaitsInVainForATurn: a command whose client leaves before its turn never begins, unless it is to be kept.
func TestNobodyWaitsInVainForATurn(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		keep bool
		run  func(ctx context.Context, m *Manager, r *Request, sink Sink) error
		runs bool
	}{
		"ended": {false, foreground, false}, "kept": {true, foreground, true}, "a job": {false, job, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, dir := manager(t)
			m.cfg.KeepOnDisconnect = tt.keep
			for range startsAtOnce {
				m.starts <- struct{}{}
			}
			ctx, leave := context.WithCancel(t.Context())
			var sink recorder
			ended := make(chan error, 1)
			file := filepath.Join(dir, "began")
			go func() { ended <- tt.run(ctx, m, &Request{Command: "touch " + file}, &sink) }()
			leave()
			if !tt.runs {
				if err := <-ended; !errors.Is(err, context.Canceled) || sink.id != "" {
					t.Errorf("error %v, id %q", err, sink.id)
				}
			}
			for range startsAtOnce {
				<-m.starts
			}
			if tt.runs {
				<-ended
				awaitEnd(t, m, sink.id)
			}
			if _, err := os.Stat(file); (err == nil) != tt.runs {
				t.Errorf("the command has left %v; is it to run: %t", err, tt.runs)
			}
		})
	}
}

func foreground(ctx context.Context, m *Manager, r *Request, sink Sink) error {
	_, err := m.Foreground(ctx, r, sink)
	return err
}

func job(ctx context.Context, m *Manager, r *Request, sink Sink) error {
	_, err := m.RunJob(ctx, &Job{ID: "job", File: "/bin/sh", Argv: []string{"sh", "-c", r.Command}}, sink)
	return err
}

func TestPurge(t *testing.T) {
	t.Parallel()
	m, dir := manager(t)
	out := filepath.Join(dir, "out")
	old, running := &recorder{}, &recorder{}
	if _, err := m.Background(&Request{Command: "echo x"}, old); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Background(&Request{Command: "sleep 1000"}, running); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, m, old.id)
	stray := filepath.Join(out, "earlier.output")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m.Purge(time.Now().Add(Retention - time.Minute))
	if _, err := m.Status(old.id); err != nil {
		t.Errorf("gone before its time: %v", err)
	}
	m.Purge(time.Now().Add(Retention + time.Minute))
	if _, err := m.Status(old.id); err == nil {
		t.Error("still known after the retention time")
	}
	if st, err := m.Status(running.id); err != nil || !st.Running {
		t.Errorf("a running command was forgotten: %v", err)
	}
	names, err := os.ReadDir(out)
	if err != nil || len(names) != 1 || names[0].Name() != running.id+outputSuffix {
		t.Errorf("files left: %v %v, want only that of the running command", names, err)
	}
}

func TestNoOutputDirectory(t *testing.T) {
	t.Parallel()
	m := New(Config{Starter: reaper, Env: os.Environ(), OutputDirs: []string{"/proc/no", "/sys/no"}, Log: slog.New(slog.DiscardHandler)})
	defer m.Close()
	if _, err := m.Background(&Request{Command: "true"}, &recorder{}); err == nil || !strings.Contains(err.Error(), "no directory for command output") {
		t.Errorf("got %v, want a clear error", err)
	}
}

func TestClosedManagerRefuses(t *testing.T) {
	t.Parallel()
	m := New(Config{Starter: reaper, Env: os.Environ(), Log: slog.New(slog.DiscardHandler)})
	m.Close()
	if _, err := m.Foreground(t.Context(), &Request{Command: "true"}, &recorder{}); err == nil {
		t.Error("a closed manager runs commands")
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	if got, want := quote([]string{"a", "", "b c", "it's", "x=1"}), `a '' 'b c' 'it'"'"'s' x=1`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
