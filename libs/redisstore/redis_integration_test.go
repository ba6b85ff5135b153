//go:build integration

package redisstore

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/node"
	"opensandbox/libs/node/nodetest"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox/sandboxtest"
)

// installations counts the key spaces of tests that share a server.
var installations atomic.Uint64

func fresh() string { return fmt.Sprintf("test-%d", installations.Add(1)) }

// client returns a client as the programs have it.
func client(t testing.TB, cfg ClientConfig) redis.UniversalClient {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func single(s *redistest.Server) ClientConfig {
	return ClientConfig{Mode: ModeSingle, Addrs: []string{s.Addr()}, Name: "a test"}
}

// open opens a store that is closed at the end of the test.
func open(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Installation == "" {
		cfg.Installation = fresh()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	s, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// sound checks that all indexes agree with the records.
func sound(t testing.TB, s *Store) {
	t.Helper()
	problems, err := s.Check(context.Background())
	if err != nil {
		t.Errorf("check: %v", err)
	}
	for _, p := range problems {
		t.Errorf("not sound: %s", p)
	}
}

// suites runs the suites of both ports on stores that are opened by base, and looks after each test whether the store is sound.
func suites(t *testing.T, base Config, cfg ClientConfig) {
	t.Helper()
	with := func(clock func() time.Time) Config {
		c := base
		c.Client, c.Clock = client(t, cfg), clock
		return c
	}
	t.Run("Store", func(t *testing.T) {
		sandboxtest.TestStore(t, func(t *testing.T, clock func() time.Time) sandboxtest.Store {
			s := open(t, with(clock))
			t.Cleanup(func() { sound(t, s) })
			return s
		})
	})
	t.Run("Registry", func(t *testing.T) {
		nodetest.TestRegistry(t, func(t *testing.T, clock func() time.Time) node.Registry {
			return open(t, with(clock))
		})
	})
}

func TestStandalone(t *testing.T) {
	t.Parallel()
	suites(t, Config{}, single(redistest.Start(t, redistest.Options{})))
}

// TestCheckNotices has keys that no record asks for.
func TestCheckNotices(t *testing.T) {
	t.Parallel()
	cfg := single(redistest.Start(t, redistest.Options{}))
	s, ctx := open(t, Config{Client: client(t, cfg)}), t.Context()
	sound(t, s)
	for name, leave := range map[string]func() error{
		"port":     func() error { return s.client.HSet(ctx, s.keys.ports("n"), "20001", holder("a", 1)).Err() },
		"secret":   func() error { return s.client.Set(ctx, s.keys.secret("a"), "sealed", 0).Err() },
		"deadline": func() error { return s.client.ZAdd(ctx, s.keys.deadlines(), redis.Z{Score: 1, Member: "a"}).Err() },
	} {
		before, err := s.Check(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := leave(); err != nil {
			t.Fatal(err)
		}
		if after, err := s.Check(ctx); err != nil || len(after) != len(before)+1 {
			t.Errorf("%s: %q, %v, want one problem more than %q", name, after, err, before)
		}
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	suites(t, Config{}, ClientConfig{Mode: ModeCluster, Addrs: redistest.StartCluster(t, redistest.Options{}).Addrs()})
}
