package nodeloss_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

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
