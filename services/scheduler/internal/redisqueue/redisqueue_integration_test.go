//go:build integration

package redisqueue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"opensandbox/libs/memstore"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
	"opensandbox/services/scheduler/internal/redisqueue"
	"opensandbox/services/scheduler/internal/renewintent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "opensandbox:renew:intent"

// connect returns a client with the bounds of the real process.
func connect(t *testing.T, s *redistest.Server) redis.UniversalClient {
	t.Helper()
	c, err := redisstore.NewClient(redisstore.ClientConfig{Mode: redisstore.ModeSingle, Addrs: []string{s.Addr()}, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestTake(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	q := redisqueue.New(connect(t, s), key)
	for _, payload := range []string{"one", "two", "three"} {
		s.Do("LPUSH", key, payload)
	}
	for _, want := range []string{"one", "two", "three"} {
		if got, err := q.Take(t.Context()); err != nil || string(got) != want {
			t.Fatalf("Take = %q, %v; want %q", got, err, want)
		}
	}
}

func TestTakeWaits(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	q := redisqueue.New(connect(t, s), key)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := make(chan string, 3)
	var takers sync.WaitGroup
	for range 3 {
		takers.Go(func() {
			payload, err := q.Take(ctx)
			if err != nil {
				payload = []byte(err.Error())
			}
			got <- string(payload)
		})
	}
	for i := range 3 {
		s.Do("LPUSH", key, fmt.Sprint(i))
	}
	takers.Wait()
	seen := map[string]bool{}
	for range 3 {
		seen[<-got] = true
	}
	if !seen["0"] || !seen["1"] || !seen["2"] {
		t.Errorf("taken %v", seen)
	}
}

func TestTakeEnds(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	q := redisqueue.New(connect(t, s), key)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := q.Take(ctx)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Take = %v, want the end of its context", err)
	}
	s.Do("LPUSH", key, "kept") // what comes later is for others
	if n := s.Do("LLEN", key); fmt.Sprint(n) != "1" {
		t.Errorf("%v intents are left, want 1", n)
	}
}

func TestTakeFails(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	s.Do("SET", "text", "x")
	if _, err := redisqueue.New(connect(t, s), "text").Take(t.Context()); err == nil {
		t.Error("a key of another type was taken")
	}
	s.Freeze()
	if _, err := redisqueue.New(connect(t, s), key).Take(t.Context()); err == nil {
		t.Error("a server that hangs gave no error")
	}
	s.Thaw()
	s.Kill()
	if _, err := redisqueue.New(connect(t, s), key).Take(t.Context()); err == nil {
		t.Error("a server that is not there gave no error")
	}
}

type told struct {
	mu sync.Mutex
	m  map[string]int
}

func (o *told) RenewIntent(outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.m[outcome]++
}

func (o *told) count(outcome string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.m[outcome]
}

// TestConsumer runs workers through a restart of the server.
func TestConsumer(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	store := memstore.New()
	if _, err := store.Insert(t.Context(), sandbox.New{ID: "s", Spec: sandbox.Spec{Image: "i", Timeout: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	o := &told{m: map[string]int{}}
	c := renewintent.New(renewintent.Config{Workers: 4}, redisqueue.New(connect(t, s), key), store, o, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	push := func(n int) {
		for range n {
			s.Do("LPUSH", key, `{"sandbox_id":"s","observed_at":"`+time.Now().UTC().Format(time.RFC3339Nano)+`"}`)
		}
	}
	push(10)
	await(t, func() bool { return o.count(renewintent.OutcomeNothing) == 10 })
	s.Kill()
	s.Start()
	push(10)
	// It may be more: what was taken right before the server died can be there again, which does no harm.
	await(t, func() bool { return o.count(renewintent.OutcomeNothing) >= 20 })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to that")
		}
	}
}
