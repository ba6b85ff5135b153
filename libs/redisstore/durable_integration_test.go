//go:build integration

package redisstore

import (
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

func TestDurableNeedsOneConnection(t *testing.T) {
	t.Parallel()
	c := client(t, ClientConfig{Mode: ModeCluster, Addrs: []string{"127.0.0.1:1"}})
	if _, err := Open(t.Context(), Config{Client: c, Installation: "x", Durable: true}); !fault.Is(err, fault.Invalid) {
		t.Errorf("durable on a cluster: %v", err)
	}
}
