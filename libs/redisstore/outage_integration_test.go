//go:build integration

package redisstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
)

// eventually polls until done.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// unavailable checks that a call fails as one that can be repeated later.
func unavailable(t *testing.T, what string, err error) {
	t.Helper()
	if !fault.Is(err, fault.Unavailable) || fault.RetryAfterOf(err) <= 0 {
		t.Errorf("%s: %v (%s, retry after %s)", what, err, fault.KindOf(err), fault.RetryAfterOf(err))
	}
}

func TestServerIsAway(t *testing.T) {
	t.Parallel()
	server, ctx := redistest.Start(t, redistest.Options{}), t.Context()
	s := open(t, Config{Client: client(t, single(server))})
	if _, err := s.Insert(ctx, sandbox.New{ID: "a", Spec: sandboxtest.Spec(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	calls := map[string]func() error{
		"get":   func() error { _, err := s.Get(ctx, "a"); return err },
		"renew": func() error { _, err := s.Renew(ctx, "a", "", time.Now().Add(time.Hour)); return err },
		"gone":  func() error { _, err := s.SetGone(ctx, "a", sandbox.ReasonDeleted); return err },
		"list":  func() error { _, err := s.List(ctx, sandbox.Query{Limit: 1}); return err },
		"nodes": func() error { _, err := s.Nodes(ctx); return err },
		"due":   func() error { _, err := s.ExpireDue(ctx, time.Now(), 1); return err },
	}
	failing := func(how string) {
		var wg sync.WaitGroup
		for name, call := range calls {
			wg.Go(func() {
				began := time.Now()
				// Without a bound of its own a call to a frozen server would take for ever.
				unavailable(t, how+": "+name, call())
				t.Logf("%s: %s failed after %s", how, name, time.Since(began))
			})
		}
		wg.Wait()
	}
	server.Freeze()
	failing("frozen")
	server.Thaw()
	eventually(t, "it answers again", func() bool { return calls["get"]() == nil })
	server.Kill()
	failing("killed")
	server.Start()
	eventually(t, "it answers after a restart", func() bool { return calls["renew"]() == nil })
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.Get(cancelled, "a"); err == nil || fault.Is(err, fault.Unavailable) {
		t.Errorf("a caller that gave up got %v", err)
	}
	sound(t, s)
}

func TestHintsAfterReconnect(t *testing.T) {
	t.Parallel()
	server, ctx := redistest.Start(t, redistest.Options{}), t.Context()
	s := open(t, Config{Client: client(t, single(server))})
	c, cancel := s.Subscribe(sandbox.TopicPlacement)
	defer cancel()
	hint := func(what string) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(30 * time.Second):
			t.Fatalf("no hint: %s", what)
		}
	}
	insert := func(id sandbox.ID) {
		t.Helper()
		eventually(t, "insert", func() bool {
			_, err := s.Insert(ctx, sandbox.New{ID: id, Spec: sandboxtest.Spec(time.Hour)})
			return err == nil
		})
	}
	insert("a")
	hint("a first insert")
	server.Do("CLIENT", "KILL", "TYPE", "pubsub")
	hint("the connection is back, and something may have been missed")
	insert("b")
	hint("an insert after the reconnect")
	server.Kill()
	server.Start()
	hint("after the restart")
	insert("c")
	hint("an insert after the restart")
}

// writers change many records at once until stop, and return when each has ended. Errors that say that the store is away are what this
// is about; all others are reported.
func writers(t *testing.T, s *Store, n int, stop <-chan struct{}) (wait func(), done *atomic.Int64) {
	t.Helper()
	var wg sync.WaitGroup
	done = &atomic.Int64{}
	for w := range n {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := life(s, sandbox.ID(fmt.Sprintf("w%d-%d", w, i)), i); err == nil {
					done.Add(1)
				} else if !fault.Is(err, fault.Unavailable) {
					t.Errorf("writer %d: %v", w, err)
				}
			}
		})
	}
	return wg.Wait, done
}

// life is a sandbox from its create to, mostly, its end.
func life(s *Store, id sandbox.ID, i int) error {
	ctx := context.Background()
	n := sandbox.New{
		ID: id, Tenant: "t", Accepted: true, Spec: sandboxtest.Spec(time.Hour), Metadata: map[string]string{"i": fmt.Sprint(i % 3)},
		Key: sandbox.Key{Name: string(id), Hash: "h"},
	}
	if _, err := s.Insert(ctx, n); err != nil {
		return err
	}
	_, err := s.Place(ctx, sandbox.PlaceRequest{
		ID: id, Ports: []int{1, 2}, Reserve: sandbox.Resources{CPU: 100, Memory: 1 << 20},
		Candidates: []sandbox.Candidate{{Node: "n", PortMin: 40000, PortMax: 59999}},
	})
	if err != nil {
		return err
	}
	nodes, err := s.Nodes(ctx)
	if err != nil {
		return err
	}
	rep := sandbox.Report{ID: id, Node: "n", Epoch: 1, Session: nodes[0].Session, Generation: 1, State: sandbox.StateRunning}
	if _, err := s.Report(ctx, rep); err != nil {
		return err
	}
	if _, err := s.Renew(ctx, id, "t", time.Now().Add(2*time.Hour)); err != nil {
		return err
	}
	value := "changed"
	if _, err := s.PatchMetadata(ctx, id, "t", map[string]*string{"i": nil, "more": &value}); err != nil {
		return err
	}
	if i%3 == 0 {
		return nil
	}
	if _, err := s.SetGone(ctx, id, sandbox.ReasonDeleted); err != nil {
		return err
	}
	return s.Cleaned(ctx, sandbox.Cleaned{ID: id, Node: "n", Epoch: 1, Session: rep.Session})
}

func register(t *testing.T, s *Store) {
	t.Helper()
	r := node.Registration{Name: "n", EngineID: "e", PortMin: 40000, PortMax: 59999, TakeOver: true}
	if _, err := s.Register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

// A server that is killed in the middle of writes leaves nothing half done, and no writer gets an answer that is not true.
func TestRestartUnderWriters(t *testing.T) {
	t.Parallel()
	// With everysec, a server whose disk is busy answers before it has written.
	server := redistest.Start(t, redistest.Options{Args: []string{"--appendfsync", "always"}})
	s := open(t, Config{Client: client(t, single(server))})
	register(t, s)
	stop := make(chan struct{})
	wait, done := writers(t, s, 8, stop)
	for range 3 {
		some := done.Load() + 50
		eventually(t, "the writers make progress", func() bool { return done.Load() >= some })
		server.Kill()
		server.Start()
		eventually(t, "the node is back", func() bool { return s.RenewLease(t.Context(), "n", 1) == nil })
	}
	some := done.Load() + 50
	eventually(t, "the writers go on", func() bool { return done.Load() >= some })
	close(stop)
	wait()
	sound(t, s)
	page, err := s.List(t.Context(), sandbox.Query{Tenant: "t", Limit: 1})
	if err != nil || page.Total == 0 {
		t.Errorf("%d records, %v", page.Total, err)
	}
}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	group := redistest.StartGroup(t, redistest.Options{})
	cfg := ClientConfig{Mode: ModeSentinel, Addrs: group.SentinelAddrs(), MasterName: redistest.MasterName}
	s := open(t, Config{Client: client(t, cfg)})
	register(t, s)
	ctx := t.Context()
	hints, cancel := s.Subscribe(sandbox.TopicPlacement)
	defer cancel()
	if err := life(s, "before", 0); err != nil {
		t.Fatal(err)
	}
	group.Master.Kill()
	eventually(t, "the replica takes over", func() bool { return life(s, sandbox.ID(fmt.Sprint("after-", time.Now().UnixNano())), 1) == nil })
	if _, err := s.Get(ctx, "before"); err != nil {
		t.Errorf("what was written before: %v", err)
	}
	for len(hints) > 0 {
		<-hints
	}
	eventually(t, "hints arrive", func() bool {
		if _, err := s.Insert(ctx, sandbox.New{ID: sandbox.ID(fmt.Sprint("hint-", time.Now().UnixNano())), Spec: sandboxtest.Spec(time.Hour)}); err != nil {
			return false
		}
		select {
		case <-hints:
			return true
		case <-time.After(100 * time.Millisecond):
			return false
		}
	})
	sound(t, s)
}
