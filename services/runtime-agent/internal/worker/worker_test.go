package worker_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/wakeup"
	"opensandbox/services/runtime-agent/internal/converge"
	"opensandbox/services/runtime-agent/internal/worker"
)

// steps counts the steps of each id and does what the test says.
type steps struct {
	mu      sync.Mutex
	count   map[sandbox.ID]int
	running map[sandbox.ID]bool
	overlap bool
	do      func(id sandbox.ID, n int) (converge.Outcome, error)
}

func (s *steps) Step(_ context.Context, _ time.Time, id sandbox.ID) (converge.Outcome, error) {
	s.mu.Lock()
	if s.running[id] {
		s.overlap = true
	}
	s.running[id] = true
	s.count[id]++
	n := s.count[id]
	s.mu.Unlock()
	out, err := s.do(id, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[id] = false
	return out, err
}

func (s *steps) of(id sandbox.ID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count[id]
}

// work is a work set.
type work struct {
	wakeup.Hub
	mu  sync.Mutex
	ids []sandbox.ID
	// since rises with each set.
	since uint64
	// fail is what Work returns.
	fail   error
	depth  int
	oldest time.Time
	log    lines
	news   wakeup.Hub
}

func (w *work) Work(context.Context, string, int) ([]sandbox.Task, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var tasks []sandbox.Task
	for _, id := range w.ids {
		tasks = append(tasks, sandbox.Task{ID: id, Since: w.since})
	}
	return tasks, w.fail
}

func (w *work) failing(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = err
}

// Queue makes work its own worker.Queue.
func (w *work) Queue(depth int, oldest time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.depth, w.oldest = depth, oldest
}

// lines counts what is logged.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(b))
	return len(b), nil
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

func (w *work) set(ids ...sandbox.ID) {
	w.mu.Lock()
	w.ids = ids
	w.since++
	w.mu.Unlock()
	w.Publish(sandbox.WorkTopic("n"))
}

// running starts a worker that ends with the test.
func running(t *testing.T, do func(id sandbox.ID, n int) (converge.Outcome, error)) (*worker.Worker, *steps, *work) {
	t.Helper()
	s, w := &steps{count: map[sandbox.ID]int{}, running: map[sandbox.ID]bool{}, do: do}, &work{}
	x := worker.New("n", s, w, w, &w.news, slog.New(slog.NewTextHandler(&w.log, nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		if s.overlap {
			t.Error("two steps of one sandbox ran at once")
		}
	})
	return x, s, w
}

func TestHintsAndTicksFindWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, w := running(t, func(sandbox.ID, int) (converge.Outcome, error) { return converge.Outcome{Done: true}, nil })
		synctest.Wait()
		w.set("a")
		synctest.Wait()
		if s.of("a") != 1 {
			t.Errorf("%d steps after a hint, want 1", s.of("a"))
		}
		time.Sleep(1500 * time.Millisecond) // the hint for b is lost
		w.mu.Lock()
		w.ids = []sandbox.ID{"b"}
		w.mu.Unlock()
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if s.of("b") == 0 {
			t.Error("work without a hint was not found by the tick")
		}
	})
}

func TestStepsGoOnUntilDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var ended time.Duration
		x, s, _ := running(t, func(_ sandbox.ID, n int) (converge.Outcome, error) {
			switch n {
			case 1:
				return converge.Outcome{}, nil
			case 2:
				return converge.Outcome{Again: 100 * time.Millisecond}, nil
			case 3:
				return converge.Outcome{}, errors.New("the store is away")
			}
			ended = time.Since(began)
			return converge.Outcome{Done: true}, nil
		})
		x.Enqueue("a")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s.of("a") != 4 || ended != 350*time.Millisecond {
			t.Errorf("%d steps, the last after %v; want 4 in 100 ms and a retry of 250", s.of("a"), ended)
		}
	})
}

func TestNewsDuringAStepIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		x, s, _ := running(t, func(_ sandbox.ID, n int) (converge.Outcome, error) {
			if n == 1 {
				<-hold
			}
			return converge.Outcome{Done: true}, nil
		})
		x.Enqueue("a")
		synctest.Wait()
		x.Enqueue("a", "a")
		close(hold)
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		if s.of("a") != 2 {
			t.Errorf("%d steps, want one more for the news", s.of("a"))
		}
	})
}

func TestManySandboxesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, w := running(t, func(sandbox.ID, int) (converge.Outcome, error) {
			time.Sleep(time.Second)
			return converge.Outcome{Done: true}, nil
		})
		synctest.Wait()
		var ids []sandbox.ID
		for i := range 100 {
			ids = append(ids, sandbox.ID(string(rune('A'+i))))
		}
		w.set(ids...)
		time.Sleep(500 * time.Millisecond)
		w.set()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		for _, id := range ids {
			if s.of(id) == 0 {
				t.Fatalf("%s was never stepped", id)
			}
		}
	})
}

// What is read of the work set while a step is in progress makes another step, and news for this one, only if it is something else.
func TestAnotherTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proceed := make(chan struct{})
		_, s, w := running(t, func(_ sandbox.ID, n int) (converge.Outcome, error) {
			if n == 1 {
				<-proceed
			}
			return converge.Outcome{Done: true}, nil
		})
		news, cancel := w.news.Subscribe(sandbox.RecordTopic("a"))
		defer cancel()
		w.set("a")
		time.Sleep(5 * time.Second) // it is read again and again
		synctest.Wait()
		if len(news) != 0 {
			t.Error("the same task was news")
		}
		w.set("a")
		synctest.Wait()
		if len(news) != 1 {
			t.Error("another task was no news")
		}
		w.mu.Lock()
		w.ids = nil
		w.mu.Unlock()
		close(proceed)
		synctest.Wait()
		if n := s.of("a"); n != 2 {
			t.Errorf("%d steps, want one for each task", n)
		}
	})
}

func TestGiveUp(t *testing.T) {
	t.Parallel()
	st := memstore.New()
	if _, err := st.Insert(t.Context(), sandbox.New{ID: "a", Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"e"}}}); err != nil {
		t.Fatal(err)
	}
	wanted, free := worker.GiveUp(st, st)(t.Context(), "a")
	if wanted.Err() != nil {
		t.Fatal("given up although it is wanted")
	}
	if _, err := st.SetGone(t.Context(), "a", sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	<-wanted.Done()
	free()
}

func TestAStoreThatIsAway(t *testing.T) {
	unavailable := fault.New(fault.Unavailable, "the store is away")
	for name, reads := range map[string]error{"wholly": unavailable, "for writes": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				back := make(chan struct{})
				x, s, w := running(t, func(sandbox.ID, int) (converge.Outcome, error) {
					select {
					case <-back:
						return converge.Outcome{Done: true}, nil
					default:
						return converge.Outcome{}, unavailable
					}
				})
				w.failing(reads)
				x.Enqueue("a", "b", "c")
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				if n := s.of("a"); n < 50 || n > 100 {
					t.Errorf("%d steps in 5 min, want one in 4 s", n)
				}
				if n := w.log.count(); n > 2 {
					t.Errorf("%d lines in the log while the store is away", n)
				}
				before := s.of("a")
				close(back)
				w.failing(nil)
				time.Sleep(4 * time.Second)
				synctest.Wait()
				if s.of("a") != before+1 {
					t.Errorf("%d steps after the store is back, want 1", s.of("a")-before)
				}
				if n := w.log.count(); n > 4 {
					t.Errorf("%d lines in the log", n)
				}
			})
		})
	}
}

// origins is a log of which request each line belongs to.
type origins struct {
	slog.Handler
	mu  *sync.Mutex
	all *[]string
}

func (o origins) Handle(ctx context.Context, line slog.Record) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	*o.all = append(*o.all, line.Message+" of "+sandbox.OriginOf(ctx).Request)
	return nil
}

func TestAFailedStepBelongsToItsRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []string
		s, w := &steps{count: map[sandbox.ID]int{}, running: map[sandbox.ID]bool{}, do: func(_ sandbox.ID, n int) (converge.Outcome, error) {
			if n == 1 {
				return converge.Outcome{For: sandbox.Origin{Request: "request-1"}}, errors.New("refused")
			}
			return converge.Outcome{Done: true}, nil
		}}, &work{}
		x := worker.New("n", s, w, w, &w.news, slog.New(origins{slog.NewTextHandler(io.Discard, nil), &mu, &told}))
		ctx, cancel := context.WithCancel(t.Context())
		var over sync.WaitGroup
		over.Go(func() { _ = x.Run(ctx) })
		x.Enqueue("a")
		time.Sleep(10 * time.Second)
		cancel()
		over.Wait()
		if want := []string{"step failed; trying again of request-1"}; !slices.Equal(told, want) || s.of("a") != 2 {
			t.Errorf("%d steps, the log says %q, want %q", s.of("a"), told, want)
		}
	})
}

func TestTheQueueIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, w := running(t, func(sandbox.ID, int) (converge.Outcome, error) { return converge.Outcome{Again: time.Minute}, nil })
		synctest.Wait()
		began := time.Now()
		w.set("a", "b")
		time.Sleep(10 * time.Second)
		w.set("b", "c")
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.depth != 2 || !w.oldest.Equal(began) {
			t.Errorf("depth %d, oldest %v; want 2, since %v", w.depth, w.oldest, began)
		}
	})
}
