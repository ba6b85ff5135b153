package nodeloss_test

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/scheduler/internal/nodeloss"
)

// TestTheStoresClockIsSetForward has a node that is silent when the clock is set, for less time than it takes to lose one, and another whose
// agent renews after the last look before that, and dies.
func TestTheStoresClockIsSetForward(t *testing.T) {
	t.Parallel()
	const silent = 2 * time.Minute
	r := newRig(t, 4)
	r.put("n0", 1, nil)
	r.put("n1", 1, nil)
	r.pass(time.Minute)
	r.die("n0")
	r.pass(silent)
	r.renew()
	r.die("n1")
	r.now, r.ahead = r.now.Add(time.Hour), time.Hour
	r.pass(node.LeaseTime + lostAfter - silent - time.Second)
	r.on("before it is time", map[string]int{"n0": 1, "n1": 1})
	r.pass(2 * time.Second)
	r.on("one is lost", map[string]int{"n1": 1})
	r.pass(silent - 4*time.Second)
	r.on("before it is time for the other", map[string]int{"n1": 1})
	r.pass(4 * time.Second)
	r.on("afterwards", nil)
}

// TestANodeThatRenewsMeanwhileIsNotLost has an agent that comes back, for one renewal, after the scheduler has read the nodes.
func TestANodeThatRenewsMeanwhileIsNotLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.put("n0", 1, nil)
	session := r.sessions["n0"]
	r.step = nodeloss.New(nodeloss.Config{LostAfter: lostAfter}, renewing{r.store, func() {
		if err := r.store.RenewLease(t.Context(), "n0", session); err != nil {
			t.Error(err)
		}
		r.now = r.now.Add(node.LeaseTime + time.Second)
	}}, r, slog.New(slog.DiscardHandler))
	r.pass(time.Minute)
	r.die("n0")
	r.pass(2*lostAfter - time.Minute)
	r.on("afterwards", map[string]int{"n0": 1})
}

// renewing lets something happen between the reading of what is on a node and what comes of it.
type renewing struct {
	*memstore.Store
	meanwhile func()
}

func (s renewing) OnNode(ctx context.Context, name string) ([]sandbox.Record, error) {
	records, err := s.Store.OnNode(ctx, name)
	s.meanwhile()
	return records, err
}

// TestRecordsOfANewerVersionStayOnTheirNode: the rest is given up, and a node that was removed is not forgotten while it has one.
func TestRecordsOfANewerVersionStayOnTheirNode(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.put("n0", 3, nil)
	r.put("n1", 1, nil)
	r.step = nodeloss.New(nodeloss.Config{LostAfter: lostAfter}, newer{r.store}, r, slog.New(slog.DiscardHandler))
	if err := r.store.Remove(t.Context(), "n0"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		r.now = r.now.Add(time.Second)
		if _, err := r.step.Step(t.Context(), r.now); !sandbox.IsUnread(err) {
			t.Errorf("the step says %v", err)
		}
	}
	r.on("afterwards", map[string]int{"n0": 1, "n1": 1})
	if rec := r.get("n0-1"); rec.Gone() || rec.Observed.Reason == sandbox.ReasonNodeLost {
		t.Errorf("what cannot be read was given up: %+v", rec)
	}
	nodes, err := r.store.Nodes(t.Context())
	if err != nil || len(nodes) != 3 {
		t.Errorf("%d nodes are left, %v", len(nodes), err)
	}
}

// newer is a store with a record that a newer version of the program wrote.
type newer struct{ *memstore.Store }

func (s newer) OnNode(ctx context.Context, name string) ([]sandbox.Record, error) {
	records, err := s.Store.OnNode(ctx, name)
	left := slices.DeleteFunc(records, func(r sandbox.Record) bool { return r.ID == "n0-1" })
	if err == nil && len(left) < len(records) {
		err = &sandbox.Unread{IDs: []sandbox.ID{"n0-1"}, Because: fault.New(fault.Internal, "of a newer version").WithCode(sandbox.CodeNewerRecord)}
	}
	return left, err
}
