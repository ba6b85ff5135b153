package enginewatch_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/enginewatch"
)

// sink takes everything that a watch tells.
type sink struct {
	mu       sync.Mutex
	queued   []sandbox.ID
	outages  int
	compared int
	fail     error
	kept     []executor.Event
}

func (s *sink) Enqueue(ids ...sandbox.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued = append(s.queued, ids...)
}

func (s *sink) Add(e executor.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, e)
}

func (s *sink) EngineAway(from, to time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !from.Before(to) {
		panic("an outage without a length")
	}
	s.outages++
}

func (s *sink) Compare(context.Context, time.Time) ([]sandbox.ID, time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compared++
	return []sandbox.ID{"compared"}, time.Time{}, s.fail
}

func TestEventsAndOutages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, s := fakeexec.New("e", time.Now), &sink{}
		e.Put(executor.Plan{Ref: executor.Ref{ID: "a", Epoch: 1}}, executor.Running)
		w := enginewatch.New(e, s, s, s, s, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		<-w.Hint() // connected
		if err := e.Create(t.Context(), executor.Plan{Ref: executor.Ref{ID: "b", Epoch: 1}}); err != nil {
			t.Fatal(err)
		}
		e.Exit("a", 1)
		synctest.Wait()
		if len(s.kept) != 2 || slices.Contains(s.queued, "b") {
			t.Errorf("kept %v, queued %v; want both kept, and only what nobody asked for queued", s.kept, s.queued)
		}
		if !slices.Contains(s.queued, "a") {
			t.Errorf("queued %v, want a", s.queued)
		}
		e.Stop()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if !w.Away() {
			t.Error("the engine is stopped and not away")
		}
		e.Go()
		<-w.Hint()
		synctest.Wait()
		if w.Away() || s.outages != 1 {
			t.Errorf("away %v, outages %d", w.Away(), s.outages)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestStepQueuesDifferences(t *testing.T) {
	t.Parallel()
	s := &sink{fail: errors.New("the store is away")}
	w := enginewatch.New(nil, s, s, s, s, slog.New(slog.DiscardHandler))
	if _, err := w.Step(t.Context()); !errors.Is(err, s.fail) || !slices.Contains(s.queued, "compared") {
		t.Errorf("Step = %v, queued %v; what was found before the failure counts", err, s.queued)
	}
}
