//go:build integration

package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
)

// trips counts round trips, of which a pipeline is one, and how often the server is asked to wait for a replica before it answers.
type trips struct{ n, waits atomic.Int64 }

func (c *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(1)
		for _, cmd := range cmds {
			if cmd.Name() == "wait" {
				c.waits.Add(1)
			}
		}
		return next(ctx, cmds)
	}
}

// counted is a store on a server of its own whose round trips are counted.
type counted struct {
	*Store
	server *redistest.Server
	clock  *sandboxtest.Clock
	trips  *trips
}

func openCounted(t *testing.T) counted {
	t.Helper()
	return countedOn(t, redistest.Start(t, redistest.Options{}), Config{})
}

// countedOn opens a counted store on a server.
func countedOn(t *testing.T, server *redistest.Server, cfg Config) counted {
	t.Helper()
	c := counted{server: server, clock: sandboxtest.NewClock(), trips: &trips{}}
	cl := client(t, single(server))
	cl.AddHook(c.trips)
	cfg.Client, cfg.Clock = cl, c.clock.Now
	c.Store = open(t, cfg)
	return c
}

// call is a call and how many round trips it may take, confirmed by a replica or not.
type call struct {
	name string
	most int64
	do   func() error
}

func (c counted) run(t *testing.T, calls []call) {
	t.Helper()
	for _, tc := range calls {
		before := c.trips.n.Load()
		if err := tc.do(); err != nil && fault.CodeOf(err) != CodeUnconfirmed {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if n := c.trips.n.Load() - before; n > tc.most {
			t.Errorf("%s: %d round trips; at most %d", tc.name, n, tc.most)
		}
	}
}

func (c counted) insert(id sandbox.ID, k sandbox.Key) error {
	n := sandbox.New{ID: id, Tenant: "t", Spec: sandboxtest.Spec(time.Hour), Metadata: map[string]string{"a": "1", "b": "2"}, Key: k}
	_, err := c.Insert(context.Background(), n)
	return err
}

// list returns a call that has to find something.
func (c counted) list(metadata map[string]string, states ...sandbox.State) func() error {
	return func() error {
		page, err := c.List(context.Background(), sandbox.Query{Tenant: "t", Metadata: metadata, States: states, Limit: 10})
		if err == nil && len(page.Items) == 0 {
			err = errors.New("nothing is listed")
		}
		return err
	}
}

// TestRoundTripsOfTheAPI holds what the api is promised, from the first call on.
func TestRoundTripsOfTheAPI(t *testing.T) {
	t.Parallel()
	s, ctx := openCounted(t), t.Context()
	key := sandbox.Key{Name: "k", Hash: "h"}
	s.run(t, []call{
		{"insert", 1, func() error { return s.insert("a", sandbox.Key{}) }},
		{"insert with a key", 1, func() error { return s.insert("b", key) }},
		{"insert again", 1, func() error { return s.insert("c", key) }},
		{"accept", 1, func() error { _, err := s.Accept(ctx, "a"); return err }},
		{"get", 1, func() error { _, err := s.Get(ctx, "a"); return err }},
		{"renew", 1, func() error { _, err := s.Renew(ctx, "a", "t", s.clock.Now().Add(2*time.Hour)); return err }},
		{"renew by the platform", 1, func() error { _, err := s.Renew(ctx, "a", sandbox.AnyTenant, s.clock.Now().Add(time.Hour)); return err }},
		{"list", 2, s.list(nil)},
		{"list of one state", 2, s.list(nil, sandbox.StatePending)},
		{"list by one label", 2, s.list(map[string]string{"a": "1"})},
		{"list by two labels", 4, s.list(map[string]string{"a": "1", "b": "2"})},
		{"patch metadata", 2, func() error { _, err := s.PatchMetadata(ctx, "a", "t", map[string]*string{"a": nil}); return err }},
		{"set desired", 2, func() error { _, err := s.SetDesired(ctx, "a", sandbox.DesiredPaused, 1); return err }},
		{"set gone", 2, func() error { _, err := s.SetGone(ctx, "a", sandbox.ReasonDeleted); return err }},
		{"nodes", 1, func() error { _, err := s.Nodes(ctx); return err }},
		{"counts", 1, func() error { _, err := s.Counts(ctx); return err }},
	})
	sound(t, s.Store)
	// Keys do not stay for ever, although nobody removes them.
	left, _ := s.server.Do("PTTL", s.keys.idempotent("t", "k")).(int64)
	if left <= 0 || left > sandbox.KeepKey.Milliseconds() {
		t.Errorf("the key is kept for %d ms", left)
	}
}

// TestRoundTripsOfDurableMode holds what durable mode costs the api: no round trip for a change that is made, one wait for each, and
// nothing for reads. Only what finds its change made already goes to the server once more, to have it confirmed.
func TestRoundTripsOfDurableMode(t *testing.T) {
	group := redistest.StartReplicated(t, redistest.Options{})
	s, ctx := countedOn(t, group.Master, Config{Durable: true}), t.Context()
	key := sandbox.Key{Name: "k", Hash: "h"}
	for _, tc := range []struct {
		call
		waits int64
	}{
		{call{"insert", 1, func() error { return s.insert("a", sandbox.Key{}) }}, 1},
		{call{"insert with a key", 1, func() error { return s.insert("b", key) }}, 1},
		{call{"insert again", 1, func() error { return s.insert("c", key) }}, 1},
		{call{"accept", 1, func() error { _, err := s.Accept(ctx, "a"); return err }}, 1},
		{call{"get", 1, func() error { _, err := s.Get(ctx, "a"); return err }}, 0},
		{call{"renew", 1, func() error { _, err := s.Renew(ctx, "a", "t", s.clock.Now().Add(2*time.Hour)); return err }}, 1},
		{call{"list", 2, s.list(nil)}, 0},
		{call{"patch metadata", 2, func() error { _, err := s.PatchMetadata(ctx, "a", "t", map[string]*string{"a": nil}); return err }}, 1},
		{call{"set desired", 2, func() error { _, err := s.SetDesired(ctx, "a", sandbox.DesiredPaused, 1); return err }}, 1},
		{call{"set gone", 2, func() error { _, err := s.SetGone(ctx, "a", sandbox.ReasonDeleted); return err }}, 1},
		{call{"set gone again", 2, func() error { _, err := s.SetGone(ctx, "a", sandbox.ReasonDeleted); return err }}, 1},
	} {
		before := s.trips.waits.Load()
		s.run(t, []call{tc.call})
		if n := s.trips.waits.Load() - before; n != tc.waits {
			t.Errorf("%s: waits %d times for a replica, want %d", tc.name, n, tc.waits)
		}
	}
	sound(t, s.Store)
}

// TestRoundTripsOfWorkers holds what keeps scheduler and agents fast.
func TestRoundTripsOfWorkers(t *testing.T) {
	t.Parallel()
	s, ctx := openCounted(t), t.Context()
	candidates := []sandbox.Candidate{{Node: "n", PortMin: 40000, PortMax: 40099}}
	s.run(t, []call{
		{"insert", 1, func() error { return s.insert("a", sandbox.Key{}) }},
		{"register", 3, func() error {
			_, err := s.Register(ctx, node.Registration{Name: "n", EngineID: "e", PortMin: 40000, PortMax: 40099})
			return err
		}},
		{"renew lease", 2, func() error { return s.RenewLease(ctx, "n", 1) }},
		{"images", 1, func() error { return s.SetImages(ctx, "n", 1, []string{"i"}) }},
		{"unplaced", 2, func() error { _, err := s.Unplaced(ctx, 100); return err }},
		{"count unplaced", 1, func() error { _, err := s.CountUnplaced(ctx); return err }},
		{"place", 2, func() error {
			_, err := s.Place(ctx, sandbox.PlaceRequest{ID: "a", Ports: []int{1, 2}, Candidates: candidates})
			return err
		}},
		{"work", 1, func() error { _, err := s.Work(ctx, "n", 10); return err }},
		{"report", 2, func() error {
			_, err := s.Report(ctx, sandbox.Report{ID: "a", Node: "n", Epoch: 1, Session: 1, Generation: 1, State: sandbox.StateRunning})
			return err
		}},
		{"unmirrored", 2, func() error { _, err := s.Unmirrored(ctx, "n", 100); return err }},
		{"mirrored", 1, func() error { return s.Mirrored(ctx, "n", map[sandbox.ID]uint64{"a": 3}) }},
		{"nothing due", 1, func() error { _, err := s.ExpireDue(ctx, s.clock.Now(), 500); return err }},
		{"next deadline", 1, func() error { _, _, err := s.NextDeadline(ctx); return err }},
	})
	for i := range 499 {
		if err := s.insert(sandbox.ID(fmt.Sprintf("due-%d", i)), sandbox.Key{}); err != nil {
			t.Fatal(err)
		}
	}
	s.clock.Advance(2 * time.Hour)
	// What is due, the time (none with the clock of a test), the records, the changes.
	s.run(t, []call{{"500 due", 4, func() error {
		due, err := s.ExpireDue(ctx, s.clock.Now(), 500)
		if err == nil && len(due) != 500 {
			err = fmt.Errorf("%d were expired", len(due))
		}
		return err
	}}})
	sound(t, s.Store)
}
