//go:build integration

package app

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/installation"
	"opensandbox/libs/node"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
	"opensandbox/services/api/internal/usecase"
)

type countedKey struct{}

// counter counts the round trips of calls whose context is marked: a command, or a pipeline of them.
type counter struct{ trips atomic.Int32 }

func (c *counter) note(ctx context.Context) {
	if ctx.Value(countedKey{}) != nil {
		c.trips.Add(1)
	}
}

func (c *counter) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *counter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.note(ctx); return next(ctx, cmd) }
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.note(ctx); return next(ctx, cmds) }
}

// unmarked waits as the real waiter does; what it reads is not counted.
type unmarked struct {
	waiter Waiter
	agent  func(id sandbox.ID)
}

func (u unmarked) Await(ctx context.Context, id sandbox.ID, timeout time.Duration, done func(*sandbox.Record) bool) (sandbox.Record, bool, error) {
	u.agent(id)
	return u.waiter.Await(context.WithValue(ctx, countedKey{}, nil), id, timeout, done)
}

// TestRoundTripsOnRedis pins what requests cost a real Redis: waits, authentication, and the registry of nodes, which is read once a
// second whatever the number of requests, aside.
func TestRoundTripsOnRedis(t *testing.T) {
	server := redistest.Start(t, redistest.Options{})
	client, err := redisstore.NewClient(redisstore.ClientConfig{Mode: redisstore.ModeSingle, Addrs: []string{server.Addr()}, Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	count := &counter{}
	client.AddHook(count)
	log := slog.New(slog.DiscardHandler)
	store, err := redisstore.Open(t.Context(), redisstore.Config{Client: client, Installation: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	n, err := store.Register(t.Context(), node.Registration{Name: "n", EngineID: "e", PortMin: 40000, PortMax: 40100})
	if err != nil {
		t.Fatal(err)
	}
	agent := func(id sandbox.ID) {
		r, err := store.Place(t.Context(), sandbox.PlaceRequest{ID: id, Ports: []int{ExecdPort, AppPort},
			Candidates: []sandbox.Candidate{{Node: "n", PortMin: 40000, PortMax: 40100}}})
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := store.Report(t.Context(), sandbox.Report{ID: id, Node: "n", Epoch: r.Placement.Epoch, Session: n.Session, Generation: 1,
			State: sandbox.StateRunning, Addresses: sandbox.Addresses{Ports: r.Placement.Ports}}); err != nil {
			t.Error(err)
		}
	}
	vault, err := installation.Shared("test", secrettest.New("the shared secret"))
	if err != nil {
		t.Fatal(err)
	}
	uses := NewUseCases(UseCaseConfig{CreateWait: 20 * time.Second, PublicHost: "h"}, UseCaseDeps{
		Store: store, Waiter: unmarked{usecase.HintedWaiter{Store: store, Hints: store}, agent}, Token: func(sandbox.ID, uint64) string { return token }, Log: log, Vault: vault,
	})
	var ref Ref
	private := CreateRequest{Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"e"}}, Credentials: sandbox.Credentials{Username: "u", Password: secrettest.New("a password of a registry")}}
	request := CreateRequest{Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"e"}, Timeout: time.Hour}}
	keyed := request
	keyed.Key = sandbox.Key{Name: "k", Hash: "h"}
	makeOne := func(ctx context.Context, r CreateRequest) error {
		v, err := uses.Create(ctx, r)
		ref.ID = v.Record.ID
		return err
	}
	async := request
	async.Async = true
	for round := range 2 { // the first teaches the server our scripts
		for _, c := range []struct {
			name string
			do   func(ctx context.Context) error
			most int32
		}{
			{"respond-async", func(ctx context.Context) error { return makeOne(ctx, async) }, 1},
			{"create with credentials", func(ctx context.Context) error { return makeOne(ctx, private) }, 2},
			{"create", func(ctx context.Context) error { return makeOne(ctx, request) }, 2},
			{"get", func(ctx context.Context) error { _, err := uses.Get(ctx, ref); return err }, 1},
			{"renew", func(ctx context.Context) error {
				_, err := uses.Renew(ctx, RenewRequest{Ref: ref, ExpiresAt: time.Now().Add(2 * time.Hour)})
				return err
			}, 1},
			{"endpoint", func(ctx context.Context) error {
				_, err := uses.Endpoint(ctx, EndpointRequest{Ref: ref, Port: AppPort})
				return err
			}, 1},
			{"create with a key", func(ctx context.Context) error { return makeOne(ctx, keyed) }, 2},
		} {
			count.trips.Store(0)
			if err := c.do(context.WithValue(t.Context(), countedKey{}, true)); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if got := count.trips.Load(); round > 0 && (got > c.most || got == 0) {
				t.Errorf("%s: %d round trips, want at most %d", c.name, got, c.most)
			} else if round > 0 {
				t.Logf("%s: %d round trips", c.name, got)
			}
		}
		keyed.Key.Name += "again"
	}
}
