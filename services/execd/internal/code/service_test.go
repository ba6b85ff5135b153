package code

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"opensandbox/libs/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory has kernels that run "forever" until they are interrupted or stopped, and everything else at once.
type memory struct {
	mu     sync.Mutex
	made   int
	start  func(context.Context) error // nil succeeds.
	broken error                       // What Stop, Connect and Interrupt answer.
}

func (m *memory) Start(ctx context.Context, language, _ string) (Kernel, error) {
	if m.start != nil {
		if err := m.start(ctx); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made++
	return &memoryKernel{memory: m, id: fmt.Sprintf("%s-%d", language, m.made), interrupts: make(chan struct{}, 1)}, nil
}

func (m *memory) setBroken(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

func (m *memory) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.broken
}

type memoryKernel struct {
	*memory
	id         string
	interrupts chan struct{}
}

func (k *memoryKernel) ID() string                 { return k.id }
func (k *memoryKernel) Stop(context.Context) error { return k.failure() }
func (k *memoryKernel) Interrupt(context.Context) error {
	k.interrupts <- struct{}{}
	return k.failure()
}
func (k *memoryKernel) Connect(context.Context) (Execution, error) {
	if err := k.failure(); err != nil {
		return nil, err
	}
	return k, nil
}
func (k *memoryKernel) Close() {}
func (k *memoryKernel) Run(ctx context.Context, snippet string, out Output) error {
	if snippet == "forever" {
		select {
		case <-k.interrupts:
			out.Raised("Interrupted", "", nil)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	out.Text("stdout", snippet)
	return nil
}

// heard is a Sink that keeps what it hears.
type heard struct {
	mu    sync.Mutex
	lines []string
}

func (h *heard) add(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, fmt.Sprintf(format, args...))
}
func (h *heard) Started(id string)                 { h.add("started %s", id) }
func (h *heard) Text(stream, text string)          { h.add("%s %s", stream, text) }
func (h *heard) Result(n int, _ map[string]string) { h.add("result %d", n) }
func (h *heard) Display(map[string]string)         { h.add("display") }
func (h *heard) Raised(name, _ string, _ []string) { h.add("raised %s", name) }
func (h *heard) all() string                       { h.mu.Lock(); defer h.mu.Unlock(); return strings.Join(h.lines, ", ") }

// forever starts a snippet in a context and returns its sink and its end. It is running once synctest.Wait returns.
func forever(ctx context.Context, s *Service, id string) (*heard, <-chan error) {
	sink, done := &heard{}, make(chan error, 1)
	go func() {
		_, err := s.Run(ctx, Request{Code: "forever", ContextID: id}, sink)
		done <- err
	}()
	synctest.Wait()
	return sink, done
}

func wantFault(t *testing.T, what string, err error, kind fault.Kind, text string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(fault.TextOf(err), text) {
		t.Errorf("%s: got %v (%v), want %v with %q", what, err, fault.KindOf(err), kind, text)
	}
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Kernels: &memory{}})
		c, err := s.Create(t.Context(), "python", "")
		if err != nil {
			t.Fatal(err)
		}
		_, done := forever(t.Context(), s, c.ID)
		s.Close()
		wantFault(t, "what ran", <-done, fault.Unavailable, "shutting down")
		_, err = s.Create(t.Context(), "python", "")
		wantFault(t, "create", err, fault.Unavailable, "shutting down")
		_, err = s.Run(t.Context(), Request{Code: "x", ContextID: c.ID}, &heard{})
		wantFault(t, "run", err, fault.Unavailable, "shutting down")
		wantFault(t, "interrupt", s.Interrupt(t.Context(), c.ID), fault.Unavailable, "shutting down")
		wantFault(t, "delete", s.Delete(t.Context(), c.ID), fault.Unavailable, "shutting down")
	})
}

// TestStartTakesTooLong has kernels that never start: a client that waits for 30 s gets its answer.
func TestStartTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Kernels: &memory{start: func(ctx context.Context) error { <-ctx.Done(); return runtimeFault("too late") }}})
		defer s.Close()
		began := time.Now()
		// Some want the same default context, of which one makes it.
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				_, err := s.Run(t.Context(), Request{Code: "x", Language: "python"}, &heard{})
				wantFault(t, "run", err, fault.Internal, "")
			})
		}
		_, err := s.Create(t.Context(), "python", "")
		wantFault(t, "create", err, fault.Internal, "too late")
		all.Wait()
		if took := time.Since(began); took != startWait {
			t.Errorf("took %s, want %s", took, startWait)
		}
	})
}

func TestBusyUntilDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Kernels: &memory{}})
		defer s.Close()
		c, err := s.Create(t.Context(), "go", "")
		if err != nil {
			t.Fatal(err)
		}
		ctx, leave := context.WithCancel(t.Context())
		sink, done := forever(ctx, s, c.ID)
		leave()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the client left: got %v", err)
		}
		second := &heard{}
		_, err = s.Run(t.Context(), Request{Code: "x", ContextID: c.ID}, second)
		wantFault(t, "busy", err, fault.Internal, "error running codes session is busy")
		if err := s.Interrupt(t.Context(), c.ID); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if _, err = s.Run(t.Context(), Request{Code: "x", ContextID: c.ID}, second); err != nil {
			t.Errorf("the context is free again: got %v", err)
		}
		if d := cmp.Diff([]string{"started go-1, raised Interrupted", "started go-1, started go-1, stdout x"}, []string{sink.all(), second.all()}); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

func TestDeleteThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kernels := &memory{}
		s := New(Config{Kernels: kernels})
		defer s.Close()
		for range 2 {
			if _, err := s.Create(t.Context(), "python", ""); err != nil {
				t.Fatal(err)
			}
		}
		_, done := forever(t.Context(), s, "python-1")
		kernels.setBroken(runtimeFault("broken"))
		wantFault(t, "delete", s.Delete(t.Context(), "python-1"), fault.Internal, "broken")
		wantFault(t, "delete of all", s.DeleteAll(t.Context(), "python"), fault.Internal, "broken")
		if all, err := s.List("python"); len(all) != 2 || err != nil {
			t.Errorf("contexts that could not be ended: got %v, %v, want both", all, err)
		}
		kernels.setBroken(nil)
		if err := s.DeleteAll(t.Context(), "python"); err != nil {
			t.Error(err)
		}
		wantFault(t, "what ran", <-done, fault.Internal, "the context was deleted")
		if all, err := s.List(""); len(all) != 0 || all == nil || err != nil {
			t.Errorf("got %v, %v, want none", all, err)
		}
	})
}

func TestKernelIsGone(t *testing.T) {
	t.Parallel()
	kernels := &memory{}
	s := New(Config{Kernels: kernels})
	defer s.Close()
	for _, use := range []func(id string) error{
		func(id string) error { return s.Interrupt(t.Context(), id) },
		func(id string) error {
			_, err := s.Run(t.Context(), Request{Code: "x", ContextID: id}, &heard{})
			return err
		},
	} {
		kernels.setBroken(nil)
		c, err := s.Create(t.Context(), "python", "")
		if err != nil {
			t.Fatal(err)
		}
		kernels.setBroken(fmt.Errorf("404: %w", ErrGone))
		wantFault(t, "use", use(c.ID), fault.Internal, "is lost with its variables")
		if s.Has(c.ID) {
			t.Error("a context without a kernel is still there")
		}
	}
}

func TestTexts(t *testing.T) {
	t.Parallel()
	var bundle map[string]json.RawMessage
	in := `{"text":"a","pieces":["a","b"],"none":[],"object":{"a":[1]},"null":null,"mixed":["a",1],"number":1.50}`
	if err := json.Unmarshal([]byte(in), &bundle); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"text": "a", "pieces": "ab", "none": "", "object": `{"a":[1]}`, "null": "", "mixed": `["a",1]`, "number": "1.50"}
	if d := cmp.Diff(want, Texts(bundle)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestTheNextSnippetFindsTheContextFree has a client that sends the next snippet as soon as it has heard of the end of the one before, while others
// keep the Service busy.
func TestTheNextSnippetFindsTheContextFree(t *testing.T) {
	t.Parallel()
	s := New(Config{Kernels: &memory{}})
	defer s.Close()
	var others sync.WaitGroup
	defer others.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 4 {
		others.Go(func() {
			for ctx.Err() == nil {
				_, _ = s.List("")
			}
		})
	}
	for i := range 2000 {
		if _, err := s.Run(ctx, Request{Code: "x", Language: "python"}, &heard{}); err != nil {
			t.Fatalf("snippet %d: %v", i, err)
		}
	}
}
