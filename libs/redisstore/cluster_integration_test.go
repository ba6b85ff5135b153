//go:build integration

package redisstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
	"opensandbox/libs/secrettest"
)

// ledger is what writers were told that has been done.
type ledger struct {
	mu   sync.Mutex
	told map[sandbox.ID]sandbox.Record
}

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.told)
}

func (l *ledger) note(r sandbox.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told[r.ID] = r
}

// write makes changes until stop, each of which it notes when it is told that the change was made. That the store is away is no mistake.
func (l *ledger) write(t *testing.T, s *Store, writer int, stop <-chan struct{}) {
	ctx := context.Background()
	for i := 0; ; i++ {
		id := sandbox.ID(fmt.Sprintf("w%d-%d", writer, i))
		value := fmt.Sprint(i)
		for _, step := range []func() (sandbox.Record, error){
			func() (sandbox.Record, error) {
				return s.Insert(ctx, sandbox.New{ID: id, Tenant: "t", Accepted: true, Spec: sandboxtest.Spec(time.Hour), Key: sandbox.Key{Name: string(id), Hash: "h"}})
			},
			func() (sandbox.Record, error) {
				return s.Place(ctx, sandbox.PlaceRequest{ID: id, Ports: []int{1, 2}, Candidates: []sandbox.Candidate{{Node: "n", PortMin: 40000, PortMax: 59999}}})
			},
			func() (sandbox.Record, error) {
				return s.Renew(ctx, id, "t", time.Now().Add(2*time.Hour+time.Duration(i)*time.Second))
			},
			func() (sandbox.Record, error) {
				return s.PatchMetadata(ctx, id, "t", map[string]*string{"i": &value})
			},
			func() (sandbox.Record, error) {
				if i%2 == 0 {
					return s.Get(ctx, id)
				}
				return s.SetGone(ctx, id, sandbox.ReasonDeleted)
			},
		} {
			select {
			case <-stop:
				return
			default:
			}
			r, err := step()
			if err != nil {
				if !fault.Is(err, fault.Unavailable) {
					t.Errorf("writer %d: %v", writer, err)
				}
				break
			}
			l.note(r)
		}
	}
}

// lasts checks that all that was told is still so, or has gone further: what a writer could not confirm may have been done, too.
func (l *ledger) lasts(t *testing.T, s *Store) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, told := range l.told {
		r, err := s.Get(t.Context(), id)
		switch {
		case err != nil:
			t.Errorf("%s, which was made, is lost: %v", id, err)
		case r.Version < told.Version:
			t.Errorf("%s went back from version %d to %d", id, told.Version, r.Version)
		case told.Gone() && !r.Gone():
			t.Errorf("%s is back", id)
		case r.Intent.ExpiresAt.Before(told.Intent.ExpiresAt):
			t.Errorf("%s: the deadline went back from %s to %s", id, told.Intent.ExpiresAt, r.Intent.ExpiresAt)
		case r.Placement.Epoch < told.Placement.Epoch:
			t.Errorf("%s is not placed any more", id)
		case told.Intent.Metadata["i"] != "" && r.Intent.Metadata["i"] != told.Intent.Metadata["i"]:
			t.Errorf("%s: metadata %v", id, r.Intent.Metadata)
		}
	}
}

// failover is a set of servers of which one takes the place of another.
type failover struct {
	// replace makes the replica the master, by an order or by the end of the master.
	replace func(t *testing.T)
	// settled waits until there is a replica again.
	settled func(t *testing.T)
}

// outlasts checks that nothing is lost which durable writers were told, when the master changes under them, and that all comes back.
func outlasts(t *testing.T, s *Store, f failover) {
	t.Helper()
	hints, cancel := s.Subscribe(sandbox.TopicPlacement)
	defer cancel()
	l, stop := &ledger{told: map[sandbox.ID]sandbox.Record{}}, make(chan struct{})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() { l.write(t, s, int(installations.Add(1))*10+w, stop) })
	}
	end := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer end()
	progress := func(what string) {
		t.Helper()
		some := l.count() + 20
		eventually(t, what, func() bool { return l.count() >= some })
	}
	progress("the writers make progress")
	f.replace(t)
	f.settled(t)
	progress("the writers go on")
	for len(hints) > 0 {
		<-hints
	}
	select {
	case <-hints:
	case <-time.After(30 * time.Second):
		t.Error("no hint comes any more")
	}
	end()
	l.lasts(t, s)
	sound(t, s)
	r, err := s.Recovery(t.Context())
	if err != nil || r.Going() {
		t.Errorf("recovery %+v, %v", r, err)
	}
	eventually(t, "the lease can be renewed", func() bool { return s.RenewLease(t.Context(), "n", 1) == nil })
	t.Logf("%d records were written", l.count())
}

// openDurable opens a durable store with a node. The node is registered by another one: on a busy machine a replica may take longer than
// DurableTimeout.
func openDurable(t *testing.T, cfg ClientConfig) *Store {
	t.Helper()
	installation := fresh()
	register(t, open(t, Config{Client: client(t, cfg), Installation: installation}))
	return open(t, Config{Client: client(t, cfg), Installation: installation, Durable: true})
}

// With TLS and a user, as in production. An ordered failover and the end of a master lose nothing that was confirmed.
func TestDurableClusterFailover(t *testing.T) {
	t.Parallel()
	certs := redistest.NewCertificates(t)
	password := newPassword()
	cluster := redistest.StartReplicatedCluster(t, redistest.Options{TLS: certs, User: "osb", Password: password})
	right := ClientConfig{Mode: ModeCluster, Addrs: cluster.Addrs(), User: "osb", Password: password, TLS: true, Roots: certs.Roots}
	s := openDurable(t, right)
	key := s.keys.meta()
	master, replica := cluster.Owner(t, key)
	t.Run("ordered", func(t *testing.T) {
		outlasts(t, s, failover{func(t *testing.T) { replica.Do("CLUSTER", "FAILOVER") }, func(t *testing.T) {
			eventually(t, "they have changed places", func() bool { m, _ := cluster.Owner(t, key); return m == replica })
			redistest.AwaitReplica(t, replica, master)
		}})
	})
	t.Run("killed", func(t *testing.T) {
		master, replica := cluster.Owner(t, key)
		outlasts(t, s, failover{func(*testing.T) { master.Kill() }, func(t *testing.T) {
			eventually(t, "the replica takes over", func() bool { return redistest.IsMaster(replica) })
			master.Start()
			redistest.AwaitReplica(t, replica, master)
		}})
	})
	for what, change := range map[string]func(c *ClientConfig){
		"wrong password":    func(c *ClientConfig) { c.Password = secrettest.New("a wrong password") },
		"unknown authority": func(c *ClientConfig) { c.Roots = nil },
	} {
		cfg := right
		change(&cfg)
		if err := tryOpen(t, Config{Client: client(t, cfg), Installation: "x"}); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%s: %v (%s)", what, err, fault.KindOf(err))
		}
	}
}

// The same with Sentinel.
func TestDurableSentinelFailover(t *testing.T) {
	t.Parallel()
	certs := redistest.NewCertificates(t)
	password := newPassword()
	group := redistest.StartGroup(t, redistest.Options{TLS: certs, User: "osb", Password: password})
	cfg := ClientConfig{
		Mode: ModeSentinel, Addrs: group.SentinelAddrs(), MasterName: redistest.MasterName, User: "osb", Password: password, TLS: true, Roots: certs.Roots,
	}
	s := openDurable(t, cfg)
	master, replica := group.Master, group.Replica
	outlasts(t, s, failover{func(*testing.T) { master.Kill() }, func(t *testing.T) {
		eventually(t, "the replica takes over", func() bool { return redistest.IsMaster(replica) })
		group.AwaitMaster(t, replica)
		master.Start()
		// The sentinels come to that, too, after a while. One that does so at this moment breaks the connection.
		host, port, _ := strings.Cut(replica.Addr(), ":")
		old := master.Client()
		defer old.Close() //nolint:errcheck // whether it follows is seen below
		_ = old.Do(t.Context(), "REPLICAOF", host, port).Err()
		redistest.AwaitReplica(t, replica, master)
	}})
}

// A replica of a cluster that was cut off from its master is promoted when the master dies: what was written meanwhile, which nobody could
// confirm, is lost, and found out before anything ends by it.
func TestStaleReplicaOfAClusterIsPromoted(t *testing.T) {
	t.Parallel()
	password := newPassword()
	cluster, ctx := redistest.StartReplicatedCluster(t, redistest.Options{User: "osb", Password: password}), t.Context()
	cfg := ClientConfig{Mode: ModeCluster, Addrs: cluster.Addrs(), User: "osb", Password: password}
	s := open(t, Config{Client: client(t, cfg), Installation: "stale"})
	master, replica := cluster.Owner(t, s.keys.meta())
	due := writeBefore(t, s, master, replica)
	replica.Do("CONFIG", "SET", "masterauth", secrettest.New("a wrong password")) // it follows its master no longer than this connection lasts
	replica.Do("CLIENT", "KILL", "TYPE", "master")
	lost := writeLost(t, s)
	durable := open(t, Config{Client: client(t, cfg), Installation: "stale", Durable: true})
	if _, err := durable.SetGone(ctx, "due", sandbox.ReasonDeleted); fault.CodeOf(err) != CodeUnconfirmed {
		t.Errorf("a durable write meanwhile: %v", err)
	}
	master.Kill()
	eventually(t, "the replica takes over", func() bool { return redistest.IsMaster(replica) })
	eventually(t, "it is found", func() bool {
		_, err := s.Get(ctx, "lost")
		return fault.Is(err, fault.NotFound)
	})
	isRecovered(t, s, due, lost)
}
