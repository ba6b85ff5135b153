//go:build integration

package redisstore

import (
	"sync"
	"testing"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
)

// Not beside the other tests: on a busy machine a replica may take longer than DurableTimeout, and then a write is rightly not confirmed.
func TestDurable(t *testing.T) {
	group, ctx := redistest.StartReplicated(t, redistest.Options{}), t.Context()
	s := open(t, Config{Client: client(t, single(group.Master)), Durable: true})
	register(t, s)
	for i, id := range []sandbox.ID{"a", "b", "c"} {
		if err := life(s, id, i); err != nil {
			t.Fatal(err)
		}
	}
	replica := open(t, Config{Client: client(t, single(group.Master)), Installation: s.keys.base[len("osb:") : len(s.keys.base)-1]})
	sound(t, replica)
	// What was confirmed is on the replica, without waiting.
	if n, ok := group.Replica.Do("EXISTS", s.keys.record("c")).(int64); !ok || n != 1 {
		t.Errorf("the replica has %v of the record", n)
	}
	group.Replica.Kill()
	_, err := s.Renew(ctx, "a", "t", time.Now().Add(3*time.Hour))
	unavailable(t, "renew without a replica", err)
	if fault.CodeOf(err) != CodeUnconfirmed {
		t.Errorf("code %q", fault.CodeOf(err))
	}
	_, err = s.Insert(ctx, sandbox.New{ID: "d", Spec: sandboxtest.Spec(time.Minute), Key: sandbox.Key{Name: "d", Hash: "h"}})
	if fault.CodeOf(err) != CodeUnconfirmed {
		t.Errorf("insert without a replica: %v", err)
	}
	if _, err := s.ExpireDue(ctx, time.Now(), 10); err != nil {
		t.Errorf("nothing was due, and yet: %v", err)
	}
	// The outcome was unknown; here it lasted, and with its key the create can be repeated.
	group.Replica.Start()
	eventually(t, "writes are confirmed again", func() bool {
		r, err := s.Insert(ctx, sandbox.New{ID: "e", Spec: sandboxtest.Spec(time.Minute), Key: sandbox.Key{Name: "d", Hash: "h"}})
		return err == nil && r.ID == "d"
	})
	sound(t, s)
}

// What is asked for once more, after nobody could confirm it, is confirmed by itself or refused again: that it has been made already is no
// proof that it lasts.
func TestDurableRepetition(t *testing.T) {
	group, ctx := redistest.StartReplicated(t, redistest.Options{}), t.Context()
	s := open(t, Config{Client: client(t, single(group.Master)), Durable: true})
	register(t, s)
	if err := life(s, "a", 0); err != nil {
		t.Fatal(err)
	}
	at, key := time.Now().Add(3*time.Hour), sandbox.Key{Name: "k", Hash: "h"}
	group.Replica.Freeze()
	var wg sync.WaitGroup
	for what, call := range map[string]func() error{
		"insert": func() error {
			_, err := s.Insert(ctx, sandbox.New{ID: sandbox.ID("b-" + fresh()), Spec: sandboxtest.Spec(time.Minute), Key: key})
			return err
		},
		"accept": func() error { _, err := s.Accept(ctx, "a"); return err },
		"renew":  func() error { _, err := s.Renew(ctx, "a", "t", at); return err },
		"patch": func() error {
			v := "v"
			_, err := s.PatchMetadata(ctx, "a", "t", map[string]*string{"k": &v})
			return err
		},
		"desired": func() error { _, err := s.SetDesired(ctx, "a", sandbox.DesiredRunning, 1); return err },
	} {
		wg.Go(func() {
			for _, round := range []string{"first", "second"} {
				if err := call(); fault.CodeOf(err) != CodeUnconfirmed {
					t.Errorf("%s, %s time: %v", what, round, err)
				}
			}
		})
	}
	wg.Wait()
	for range 2 {
		if _, err := s.SetGone(ctx, "a", sandbox.ReasonDeleted); fault.CodeOf(err) != CodeUnconfirmed {
			t.Errorf("delete: %v", err)
		}
	}
	group.Replica.Thaw()
	eventually(t, "the repetition is confirmed", func() bool { _, err := s.SetGone(ctx, "a", sandbox.ReasonDeleted); return err == nil })
	if n, ok := group.Replica.Do("EXISTS", s.keys.idempotent("", "k")).(int64); !ok || n != 1 {
		t.Errorf("the replica has %v of the idempotency key", n)
	}
}

// In a cluster the replica that confirms is that of the master which has the keys.
func TestDurableCluster(t *testing.T) {
	cluster, ctx := redistest.StartReplicatedCluster(t, redistest.Options{}), t.Context()
	cfg := ClientConfig{Mode: ModeCluster, Addrs: cluster.Addrs()}
	suites(t, Config{Durable: true}, cfg)
	s := open(t, Config{Client: client(t, cfg), Durable: true})
	register(t, s)
	if err := life(s, "a", 0); err != nil {
		t.Fatal(err)
	}
	_, replica := cluster.Owner(t, s.keys.meta())
	replica.Freeze()
	if _, err := s.Renew(ctx, "a", "t", time.Now().Add(3*time.Hour)); fault.CodeOf(err) != CodeUnconfirmed {
		t.Errorf("renew while the replica hangs: %v", err)
	}
	if _, err := s.Insert(ctx, sandbox.New{ID: "b", Spec: sandboxtest.Spec(time.Minute)}); fault.CodeOf(err) != CodeUnconfirmed {
		t.Errorf("insert while the replica hangs: %v", err)
	}
	replica.Thaw()
	eventually(t, "writes are confirmed again", func() bool { return life(s, sandbox.ID("c-"+fresh()), 1) == nil })
	sound(t, s)
}
