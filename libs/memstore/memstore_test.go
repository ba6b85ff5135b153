package memstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/node/nodetest"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	t.Parallel()
	sandboxtest.TestStore(t, func(_ *testing.T, clock func() time.Time) sandboxtest.Store {
		return memstore.New(memstore.WithClock(clock))
	})
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	nodetest.TestRegistry(t, func(_ *testing.T, clock func() time.Time) node.Registry {
		return memstore.New(memstore.WithClock(clock))
	})
}

// fill makes a store with placed sandboxes and returns the ports that it chose.
func fill(t *testing.T, s *memstore.Store, ids ...sandbox.ID) map[sandbox.ID]int {
	t.Helper()
	ctx := context.Background()
	ports := map[sandbox.ID]int{}
	for _, id := range ids {
		if _, err := s.Insert(ctx, sandbox.New{ID: id, Spec: sandboxtest.Spec(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		c := sandbox.Candidate{Node: "n", PortMin: 40000, PortMax: 49999}
		r, err := s.Place(ctx, sandbox.PlaceRequest{ID: id, Candidates: []sandbox.Candidate{c}, Ports: []int{8080}})
		if err != nil {
			t.Fatal(err)
		}
		ports[id] = r.Placement.Ports[8080]
	}
	return ports
}

func newStore(t *testing.T, seed uint64) *memstore.Store {
	t.Helper()
	s := memstore.New(memstore.WithClock(sandboxtest.NewClock().Now), memstore.WithSeed(seed))
	if _, err := s.Register(context.Background(), node.Registration{Name: "n", EngineID: "e", PortMin: 40000, PortMax: 49999}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPortsFollowFromTheSeed(t *testing.T) {
	t.Parallel()
	one := fill(t, newStore(t, 1), "a", "b", "c")
	if diff := cmp.Diff(one, fill(t, newStore(t, 1), "a", "b", "c")); diff != "" {
		t.Errorf("the same seed gave other ports:\n%s", diff)
	}
	if cmp.Equal(one, fill(t, newStore(t, 2), "a", "b", "c")) {
		t.Errorf("another seed gave the same ports %v", one)
	}
}

func TestSnapshotAndRestore(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := newStore(t, 1)
	fill(t, s, "a")
	before, err := s.Get(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	snap := s.Snapshot()
	var later []map[sandbox.ID]int
	for range 2 {
		later = append(later, fill(t, s, "b", "c"))
		if _, err := s.SetGone(ctx, "a", sandbox.ReasonDeleted); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Register(ctx, node.Registration{Name: "m", EngineID: "f"}); err != nil {
			t.Fatal(err)
		}
		s.Restore(snap)
		got, err := s.Get(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, got); diff != "" {
			t.Errorf("after the restore (-want +got):\n%s", diff)
		}
		if _, err := s.Get(ctx, "b"); err == nil {
			t.Error("a record that was made after the snapshot is still there")
		}
		if nodes, err := s.Nodes(ctx); err != nil || len(nodes) != 1 {
			t.Errorf("nodes %v, %v", nodes, err)
		}
	}
	if diff := cmp.Diff(later[0], later[1]); diff != "" {
		t.Errorf("the same calls after a restore gave other ports:\n%s", diff)
	}
}
