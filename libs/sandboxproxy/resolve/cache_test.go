package resolve

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandboxproxy/target"
	"opensandbox/libs/wakeup"
)

// bounded returns a resolver of a store with n records, and the hub that counts its subscriptions.
func bounded(t *testing.T, size, n int) (*Resolver, *wakeup.Hub) {
	t.Helper()
	s, hub := memstore.New(), &wakeup.Hub{}
	if _, err := s.Register(t.Context(), node.Registration{Name: "n", EngineID: "e"}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := s.Insert(t.Context(), sandbox.New{ID: id(i)}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := New(Config{MaxAge: time.Second, StoreAway: time.Second, ReadTimeout: time.Second, Size: size},
		Deps{Queries: s, Hints: hub, Nodes: s, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return r, hub
}

func id(i int) sandbox.ID { return sandbox.ID(fmt.Sprintf("sb-%d", i)) }

func (r *Resolver) ask(i int) {
	_, _ = r.Resolve(context.Background(), target.Target{ID: id(i), Port: 80})
}

func wantSize(t *testing.T, what string, r *Resolver, hub *wakeup.Hub, want int) {
	t.Helper()
	if r.cache.len() != want || hub.Topics() != want {
		t.Errorf("%s: %d entries, %d subscriptions, want %d of each", what, r.cache.len(), hub.Topics(), want)
	}
}

func TestSizeIsBounded(t *testing.T) {
	t.Parallel()
	r, hub := bounded(t, 10, 50)
	for i := range 50 {
		r.ask(i)
	}
	wantSize(t, "50 sandboxes", r, hub, 10)
	for i := range 5 {
		r.ask(1000 + i)
	}
	if _, _, known := r.cache.of(id(49)).last(); !known {
		t.Error("unknown ids pushed out a known one")
	}
	r.ask(2000)
	if _, ok := r.cache.entries.Peek(id(2000)); ok {
		t.Error("an unknown id is kept")
	}
}

func TestIdleEntriesAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, hub := bounded(t, 10, 3)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		for i := range 3 {
			r.ask(i)
		}
		wantSize(t, "asked", r, hub, 3)
		for range 4 {
			time.Sleep(idleFor / 2)
			r.ask(0)
		}
		synctest.Wait()
		wantSize(t, "two idle", r, hub, 1)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		wantSize(t, "ended", r, hub, 0)
	})
}

func TestPanicOfAReadFreesTheWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s shared[int]
		open := make(chan struct{})
		go func() {
			defer func() { _ = recover() }()
			_, _ = s.get(t.Context(), time.Second, func(context.Context) (int, error) { <-open; panic("broken") })
		}()
		synctest.Wait()
		got := make(chan error, 1)
		go func() {
			_, err := s.get(t.Context(), time.Second, func(context.Context) (int, error) { return 1, nil })
			got <- err
		}()
		synctest.Wait()
		close(open)
		if err := <-got; err == nil {
			t.Error("the one that waited got a value that nobody read")
		}
		if v, err := s.get(t.Context(), time.Second, func(context.Context) (int, error) { return 2, nil }); v != 2 || err != nil {
			t.Errorf("afterwards: %d, %v", v, err)
		}
	})
}
