package jupytertest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/services/execd/internal/code"
	"opensandbox/services/execd/internal/jupyter"
)

// patience bounds every wait. A kernel takes seconds to start, and many of them on a slow machine.
const patience = 2 * time.Minute

// The snippets of the suite.
const (
	snippetValue   = `1 + 1`
	snippetStreams = `import sys; print("out"); print("err", file=sys.stderr)`
	snippetError   = `1 / 0`
	snippetSet     = `x = 41`
	snippetGet     = `x + 1`
	snippetDisplay = `display({"text/plain": "shown", "text/html": "<b>shown</b>"}, raw=True)`
	snippetJSON    = `display({"application/json": {"a": 1}}, raw=True)`
	snippetSleep   = `import time; print("started", flush=True); time.sleep(600)`
	snippetInput   = `input()`
	snippetDie     = `import os; os._exit(3)`
	snippetWhere   = `import os; os.getcwd()`
)

// Recorder keeps what a snippet does. It may be used concurrently.
type Recorder struct {
	mu      sync.Mutex
	seen    Seen
	printed chan struct{} // Closed at the first text.
	once    sync.Once
}

// Seen is what a snippet did.
type Seen struct {
	Out, Err string
	// Values and Displays are in their order.
	Values, Displays []map[string]string
	// Counts are those of the values.
	Counts []int
	// Errors are names and values.
	Errors []string
	// Traces counts the lines of the traces of all errors.
	Traces int
}

// NewRecorder returns an empty one.
func NewRecorder() *Recorder { return &Recorder{printed: make(chan struct{})} }

// Text implements code.Output.
func (r *Recorder) Text(stream, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stream == "stderr" {
		r.seen.Err += text
	} else {
		r.seen.Out += text
	}
	r.once.Do(func() { close(r.printed) })
}

// Result implements code.Output.
func (r *Recorder) Result(count int, values map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.Values, r.seen.Counts = append(r.seen.Values, values), append(r.seen.Counts, count)
}

// Display implements code.Output.
func (r *Recorder) Display(values map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.Displays = append(r.seen.Displays, values)
}

// Raised implements code.Output.
func (r *Recorder) Raised(name, value string, trace []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.Errors, r.seen.Traces = append(r.seen.Errors, name+": "+value), r.seen.Traces+len(trace)
}

// Seen returns what was recorded so far.
func (r *Recorder) Seen() Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

// Printed waits for the first text.
func (r *Recorder) Printed(t testing.TB) {
	t.Helper()
	select {
	case <-r.printed:
	case <-time.After(patience):
		t.Error("the snippet printed nothing")
	}
}

// suite is one server under test.
type suite struct {
	url, token string
}

// Test runs the suite against a Jupyter server with a kernel for Python, whose root directory is that of the file system.
// wrong is a token that it must refuse.
func Test(t *testing.T, url, token, wrong string) {
	s := &suite{url: url, token: token}
	for name, test := range map[string]func(*testing.T, *jupyter.Client){
		"Outputs": testOutputs, "State": testState, "Interrupt": testInterrupt, "SideBySide": testSideBySide, "Death": testDeath, "Stop": testStop,
		"Leave": testLeave, "Directory": testDirectory, "Languages": testLanguages,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s.client(t, token))
		})
	}
	t.Run("Token", func(t *testing.T) {
		t.Parallel()
		_, err := s.client(t, wrong).Start(bounded(t), "python", "")
		if err == nil || !strings.Contains(err.Error(), "JUPYTER_TOKEN") || strings.Contains(err.Error(), wrong) {
			t.Errorf("wrong token: got %v, want an error that names JUPYTER_TOKEN", err)
		}
	})
}

func (s *suite) client(t *testing.T, token string) *jupyter.Client {
	t.Helper()
	c, err := jupyter.New(jupyter.Config{URL: s.url, Token: token, Look: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// Python starts a kernel that ends with the test.
func Python(t *testing.T, c *jupyter.Client, dir string) code.Kernel {
	t.Helper()
	k, err := c.Start(bounded(t), "python", dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Stop(bounded(t)); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return k
}

// Run runs a snippet.
func Run(ctx context.Context, t *testing.T, k code.Kernel, snippet string, out code.Output) error {
	t.Helper()
	run, err := k.Connect(bounded(t))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	return run.Run(ctx, snippet, out)
}

// Want runs a snippet that must end by itself, and compares what it did. Counts and traces are not compared.
func Want(t *testing.T, k code.Kernel, snippet string, want Seen) {
	t.Helper()
	rec := NewRecorder()
	if err := Run(bounded(t), t, k, snippet, rec); err != nil {
		t.Errorf("%s: %v", snippet, err)
		return
	}
	got := rec.Seen()
	for _, n := range got.Counts {
		if n < 1 {
			t.Errorf("%s: execution count %d", snippet, n)
		}
	}
	if len(got.Errors) > 0 && got.Traces == 0 {
		t.Errorf("%s: an error without a trace", snippet)
	}
	got.Counts, got.Traces = nil, 0
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", snippet, d)
	}
}

func value(text string) Seen { return Seen{Values: []map[string]string{{"text/plain": text}}} }

func testOutputs(t *testing.T, c *jupyter.Client) {
	k := Python(t, c, "")
	Want(t, k, snippetValue, value("2"))
	Want(t, k, snippetStreams, Seen{Out: "out\n", Err: "err\n"})
	Want(t, k, snippetError, Seen{Errors: []string{"ZeroDivisionError: division by zero"}})
	Want(t, k, snippetValue, value("2"))
	Want(t, k, snippetDisplay, Seen{Displays: []map[string]string{{"text/plain": "shown", "text/html": "<b>shown</b>"}}})
	Want(t, k, snippetInput, Seen{Errors: []string{"StdinNotImplementedError: raw_input was called, but this frontend does not support input requests."}})
	rec := NewRecorder()
	if err := Run(bounded(t), t, k, snippetJSON, rec); err != nil || len(rec.Seen().Displays) != 1 ||
		strings.ReplaceAll(rec.Seen().Displays[0]["application/json"], " ", "") != `{"a":1}` {
		t.Errorf("JSON that is displayed: %+v, %v", rec.Seen(), err)
	}
}

func testState(t *testing.T, c *jupyter.Client) {
	one, two := Python(t, c, ""), Python(t, c, "")
	if one.ID() == two.ID() || one.ID() == "" {
		t.Errorf("ids %q and %q", one.ID(), two.ID())
	}
	Want(t, one, snippetSet, Seen{})
	Want(t, one, snippetGet, value("42"))
	Want(t, two, snippetGet, Seen{Errors: []string{"NameError: name 'x' is not defined"}})
}

// background runs the snippet that sleeps, and returns once it runs.
func background(ctx context.Context, t *testing.T, k code.Kernel) (*Recorder, <-chan error) {
	t.Helper()
	rec, done := NewRecorder(), make(chan error, 1)
	run, err := k.Connect(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- run.Run(ctx, snippetSleep, rec) }()
	rec.Printed(t)
	return rec, done
}

func wait(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatal("the run does not end")
		return nil
	}
}

func testInterrupt(t *testing.T, c *jupyter.Client) {
	k := Python(t, c, "")
	if err := k.Interrupt(bounded(t)); err != nil {
		t.Errorf("interrupt of a kernel that does nothing: %v", err)
	}
	Want(t, k, snippetSet, Seen{})
	rec, done := background(bounded(t), t, k)
	if err := k.Interrupt(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, done); err != nil || len(rec.Seen().Errors) != 1 || !strings.HasPrefix(rec.Seen().Errors[0], "KeyboardInterrupt") {
		t.Errorf("interrupted: %+v, %v", rec.Seen(), err)
	}
	Want(t, k, snippetGet, value("42"))
}

func testSideBySide(t *testing.T, c *jupyter.Client) {
	slow := Python(t, c, "")
	_, done := background(bounded(t), t, slow)
	var runs sync.WaitGroup
	for range 2 {
		quick := Python(t, c, "")
		runs.Go(func() { Want(t, quick, snippetValue, value("2")) })
	}
	runs.Wait()
	select {
	case err := <-done:
		t.Errorf("the slow run ended: %v", err)
	default:
	}
	if err := slow.Interrupt(bounded(t)); err != nil {
		t.Error(err)
	}
	if err := wait(t, done); err != nil {
		t.Error(err)
	}
}

func testDeath(t *testing.T, c *jupyter.Client) {
	k := Python(t, c, "")
	Want(t, k, snippetSet, Seen{})
	if err := Run(bounded(t), t, k, snippetDie, NewRecorder()); err == nil || !strings.Contains(err.Error(), "the kernel died") {
		t.Errorf("death: got %v", err)
	}
	Want(t, k, snippetGet, Seen{Errors: []string{"NameError: name 'x' is not defined"}})
	for range 2 { // What runs at once after a death is heard.
		if err := Run(bounded(t), t, k, snippetDie, NewRecorder()); err == nil {
			t.Error("the kernel does not die again")
		}
		Want(t, k, snippetValue, value("2"))
	}
}

func testStop(t *testing.T, c *jupyter.Client) {
	k := Python(t, c, "")
	_, done := background(bounded(t), t, k)
	for range 2 {
		if err := k.Stop(bounded(t)); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	if err := wait(t, done); err == nil {
		t.Error("a run whose kernel was stopped ended without an error")
	}
	if _, err := k.Connect(bounded(t)); !errors.Is(err, code.ErrGone) {
		t.Errorf("connect to a kernel that was stopped: got %v, want ErrGone", err)
	}
	if err := k.Interrupt(bounded(t)); !errors.Is(err, code.ErrGone) {
		t.Errorf("interrupt of a kernel that was stopped: got %v, want ErrGone", err)
	}
}

func testLeave(t *testing.T, c *jupyter.Client) {
	k := Python(t, c, "")
	ctx, leave := context.WithCancelCause(bounded(t))
	_, done := background(ctx, t, k)
	why := errors.New("nobody listens")
	leave(why)
	if err := wait(t, done); !errors.Is(err, why) {
		t.Errorf("got %v, want the cause", err)
	}
	// The kernel goes on, so the next run waits until it is interrupted.
	if err := k.Interrupt(bounded(t)); err != nil {
		t.Error(err)
	}
	Want(t, k, snippetValue, value("2"))
}

func testDirectory(t *testing.T, c *jupyter.Client) {
	Want(t, Python(t, c, "/tmp"), snippetWhere, value("'/tmp'"))
}

func testLanguages(t *testing.T, c *jupyter.Client) {
	_, err := c.Start(bounded(t), "java", "")
	if err == nil || !strings.Contains(err.Error(), "no kernel for java") || !strings.Contains(err.Error(), "python") {
		t.Errorf("a language without a kernel: got %v, want an error that names those there are", err)
	}
}
