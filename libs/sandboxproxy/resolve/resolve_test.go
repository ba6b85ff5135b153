package resolve_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandboxproxy/resolve"
	"opensandbox/libs/sandboxproxy/resolve/resolvetest"
	"opensandbox/libs/sandboxproxy/target"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var config = resolve.Config{MaxAge: time.Second, StoreAway: 30 * time.Second, ReadTimeout: time.Second, Size: 100}

func newResolver(t *testing.T, s *resolvetest.Store, cfg resolve.Config, log *bytes.Buffer) *resolve.Resolver {
	t.Helper()
	if log == nil {
		log = &bytes.Buffer{}
	}
	r, err := resolve.New(cfg, resolve.Deps{Queries: s, Hints: s, Nodes: s, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// outcome is an answer in one line.
func outcome(r *resolve.Resolver, id sandbox.ID, port int) string {
	u, err := r.Resolve(context.Background(), target.Target{ID: id, Port: port})
	if err == nil {
		return u.Address + u.Prefix
	}
	s := fmt.Sprintf("%v: %s", fault.KindOf(err), fault.TextOf(err))
	if d := fault.RetryAfterOf(err); d > 0 {
		s += fmt.Sprintf(" (after %v)", d)
	}
	return s
}

func check(t *testing.T, what string, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

const notRunning = "unavailable: sandbox not ready: "

func TestAddresses(t *testing.T) {
	t.Parallel()
	ports := map[int]int{44772: 40001, 8080: 40002}
	for host, cases := range map[string]map[int]string{
		"":              {44772: "127.0.0.1:40001", 8080: "127.0.0.1:40002", 80: "127.0.0.1:40001/proxy/80"},
		"node1.example": {44772: "node1.example:40001", 8080: "node1.example:40002", 65535: "node1.example:40001/proxy/65535"},
		"fd00::1":       {44772: "[fd00::1]:40001", 9: "[fd00::1]:40001/proxy/9"},
	} {
		s := resolvetest.New(t, host)
		s.Run(t, "sb", ports)
		r := newResolver(t, s, config, nil)
		for port, want := range cases {
			check(t, fmt.Sprintf("%q %d", host, port), outcome(r, "sb", port), want)
		}
	}
}

func TestNoAddress(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	ports := map[int]int{44772: 40001}
	desire := func(t *testing.T, s *resolvetest.Store, d sandbox.Desired, generation uint64) {
		t.Helper()
		if _, err := s.SetDesired(ctx, "sb", d, generation); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		prepare func(t *testing.T, s *resolvetest.Store)
		want    string
	}{
		"unknown": {func(*testing.T, *resolvetest.Store) {}, "not found: sandbox not found: sb"},
		"unplaced": {func(t *testing.T, s *resolvetest.Store) { s.InsertPending(t, "sb") },
			notRunning + "it is pending (after 1s)"},
		"failed create": {func(t *testing.T, s *resolvetest.Store) {
			s.InsertPending(t, "sb")
			if _, err := s.FailUnplaced(ctx, "sb", sandbox.Failure{Reason: "R", RetainFor: time.Hour}); err != nil {
				t.Fatal(err)
			}
		}, notRunning + "it is failed (after 1s)"},
		"no address": {func(t *testing.T, s *resolvetest.Store) { s.Run(t, "sb", nil) },
			notRunning + "it has no address yet (after 1s)"},
		"pausing": {func(t *testing.T, s *resolvetest.Store) {
			s.Run(t, "sb", ports)
			desire(t, s, sandbox.DesiredPaused, 1)
		}, "127.0.0.1:40001"},
		"paused": {func(t *testing.T, s *resolvetest.Store) {
			s.Run(t, "sb", ports)
			desire(t, s, sandbox.DesiredPaused, 1)
			s.See(t, "sb", sandbox.StatePaused, nil)
		}, notRunning + "it is paused (after 1s)"},
		"resuming": {func(t *testing.T, s *resolvetest.Store) {
			s.Run(t, "sb", ports)
			desire(t, s, sandbox.DesiredPaused, 1)
			s.See(t, "sb", sandbox.StatePaused, nil)
			desire(t, s, sandbox.DesiredRunning, 2)
		}, notRunning + "it is paused (after 1s)"},
		"exited": {func(t *testing.T, s *resolvetest.Store) {
			s.Run(t, "sb", ports)
			s.See(t, "sb", sandbox.StateTerminated, nil)
		}, notRunning + "it is terminated (after 1s)"},
		"failed later": {func(t *testing.T, s *resolvetest.Store) {
			s.Run(t, "sb", ports)
			s.See(t, "sb", sandbox.StateFailed, nil)
		}, notRunning + "it is failed (after 1s)"},
		"gone": {func(t *testing.T, s *resolvetest.Store) {
			s.Run(t, "sb", ports)
			if _, err := s.SetGone(ctx, "sb", sandbox.ReasonDeleted); err != nil {
				t.Fatal(err)
			}
		}, "not found: sandbox not found: sb"},
		"ended": {func(t *testing.T, s *resolvetest.Store) {
			s.InsertPending(t, "sb")
			if _, err := s.SetGone(ctx, "sb", sandbox.ReasonDeleted); err != nil {
				t.Fatal(err)
			}
		}, "not found: sandbox not found: sb"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := resolvetest.New(t, "")
			c.prepare(t, s)
			check(t, "outcome", outcome(newResolver(t, s, config, nil), "sb", 44772), c.want)
		})
	}
}

func TestHintInvalidates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := resolvetest.New(t, "")
		s.Run(t, "sb", map[int]int{44772: 40001})
		r := newResolver(t, s, config, nil)
		check(t, "first", outcome(r, "sb", 44772), "127.0.0.1:40001")
		check(t, "again", outcome(r, "sb", 44772), "127.0.0.1:40001")
		if n := s.Gets.Load(); n != 1 {
			t.Errorf("two requests read %d times, want 1", n)
		}
		// No time passes in a bubble that does not sleep: only the hint can tell.
		s.See(t, "sb", sandbox.StateRunning, map[int]int{44772: 40009})
		check(t, "moved", outcome(r, "sb", 44772), "127.0.0.1:40009")
		if n := s.Gets.Load(); n != 2 {
			t.Errorf("%d reads, want 2", n)
		}
		r.Forget("sb")
		check(t, "forgotten", outcome(r, "sb", 44772), "127.0.0.1:40009")
		if n := s.Gets.Load(); n != 3 {
			t.Errorf("%d reads, want 3", n)
		}
		r.Forget("never seen")
	})
}

func TestAgeIsBoundedWithoutHints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := resolvetest.New(t, "")
		s.Run(t, "sb", map[int]int{44772: 40001})
		deaf := resolvetest.New(t, "") // its hints are about nothing that happens here
		r, err := resolve.New(config, resolve.Deps{Queries: s, Hints: deaf, Nodes: s, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		check(t, "first", outcome(r, "sb", 44772), "127.0.0.1:40001")
		s.See(t, "sb", sandbox.StateRunning, map[int]int{44772: 40009})
		time.Sleep(time.Second)
		check(t, "in time", outcome(r, "sb", 44772), "127.0.0.1:40001")
		time.Sleep(time.Nanosecond)
		check(t, "too old", outcome(r, "sb", 44772), "127.0.0.1:40009")
	})
}

func TestMissesShareOneRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := resolvetest.New(t, "")
		s.Run(t, "sb", map[int]int{44772: 40001})
		open := make(chan struct{})
		s.BeforeGet = func() { <-open }
		r := newResolver(t, s, config, nil)
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if got := outcome(r, "sb", 44772); got != "127.0.0.1:40001" {
					t.Error(got)
				}
			})
		}
		synctest.Wait()
		// One whose client goes away does not wait on.
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() {
			if _, err := r.Resolve(ctx, target.Target{ID: "sb", Port: 1}); !errors.Is(err, context.Canceled) {
				t.Errorf("%v, want the client's own end", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(open)
		all.Wait()
		if n := s.Gets.Load(); n != 1 {
			t.Errorf("%d reads for 51 misses, want 1", n)
		}
	})
}

// A request that comes after a change must not be answered from a read that began before it.
func TestReadInProgressIsNotTrustedAfterAChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := resolvetest.New(t, "")
		s.Run(t, "sb", map[int]int{44772: 40001})
		var once sync.Once
		open := make(chan struct{})
		s.AfterGet = func() { once.Do(func() { <-open }) }
		r := newResolver(t, s, config, nil)
		var all sync.WaitGroup
		all.Go(func() { check(t, "before", outcome(r, "sb", 44772), "127.0.0.1:40001") })
		synctest.Wait()
		s.See(t, "sb", sandbox.StateRunning, map[int]int{44772: 40009})
		all.Go(func() { check(t, "after", outcome(r, "sb", 44772), "127.0.0.1:40009") })
		synctest.Wait()
		close(open)
		all.Wait()
		check(t, "last", outcome(r, "sb", 44772), "127.0.0.1:40009")
	})
}

func TestStoreAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := resolvetest.New(t, "")
		s.Run(t, "sb", map[int]int{44772: 40001})
		s.Run(t, "other", map[int]int{44772: 40002})
		var log bytes.Buffer
		r := newResolver(t, s, config, &log)
		check(t, "before", outcome(r, "sb", 44772), "127.0.0.1:40001")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()

		s.Away.Store(true)
		const unknown = notRunning + "the store does not answer (after 1s)"
		for range 30 {
			time.Sleep(time.Second)
			r.Forget("sb") // also what a failed dial does
			check(t, "away", outcome(r, "sb", 44772), "127.0.0.1:40001")
			check(t, "away, unknown", outcome(r, "other", 44772), unknown)
		}
		time.Sleep(2 * time.Second)
		check(t, "away for too long", outcome(r, "sb", 44772), unknown)

		s.Away.Store(false)
		synctest.Wait()
		time.Sleep(time.Second)
		// The lease of the node ran out meanwhile, as nobody could renew it.
		check(t, "back", outcome(r, "sb", 44772), "127.0.0.1:40001")
		check(t, "back, other", outcome(r, "other", 44772), "127.0.0.1:40002")
		time.Sleep(node.LeaseTime)
		check(t, "still no renewal", outcome(r, "sb", 44772), notRunning+"its node does not answer (after 1s)")
		s.RenewNode(t)
		time.Sleep(time.Second + time.Millisecond)
		check(t, "renewed", outcome(r, "sb", 44772), "127.0.0.1:40001")

		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
		if n := strings.Count(log.String(), "the store does not answer; traffic"); n != 1 {
			t.Errorf("said %d times that the store is away, want once:\n%s", n, &log)
		}
		if n := strings.Count(log.String(), "the store answers again"); n != 1 {
			t.Errorf("said %d times that the store is back, want once:\n%s", n, &log)
		}
	})
}

func TestNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := resolvetest.New(t, "")
		s.Run(t, "sb", map[int]int{44772: 40001})
		r := newResolver(t, s, config, nil)
		check(t, "live", outcome(r, "sb", 44772), "127.0.0.1:40001")
		time.Sleep(2*node.LeaseTime - time.Second)
		check(t, "lease over, as while an agent starts anew", outcome(r, "sb", 44772), "127.0.0.1:40001")
		time.Sleep(3 * time.Second)
		check(t, "lease long over", outcome(r, "sb", 44772), notRunning+"its node does not answer (after 1s)")
		s.RenewNode(t)
		time.Sleep(time.Second + time.Millisecond)
		check(t, "renewed", outcome(r, "sb", 44772), "127.0.0.1:40001")
		s.Stop(t, resolvetest.NodeName)
		time.Sleep(node.LeaseTime - time.Second)
		check(t, "lease given back", outcome(r, "sb", 44772), "127.0.0.1:40001")
		if err := s.Remove(t.Context(), resolvetest.NodeName); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second + time.Millisecond)
		check(t, "removed", outcome(r, "sb", 44772), notRunning+"its node does not answer (after 1s)")

		r, err := resolve.New(config, resolve.Deps{Queries: s, Hints: s, Nodes: nodesFunc(func() []node.Node { return nil }), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		check(t, "unknown node", outcome(r, "sb", 44772), notRunning+"its node does not answer (after 1s)")
	})
}

// A node that joins is found without waiting for the registry to grow old.
func TestNewNode(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := resolvetest.New(t, "")
		s.Run(t, "sb", map[int]int{44772: 40001})
		joined := false
		nodes := nodesFunc(func() []node.Node {
			if !joined {
				return nil
			}
			all, _ := s.Nodes(context.Background())
			return all
		})
		r, err := resolve.New(config, resolve.Deps{Queries: s, Hints: s, Nodes: nodes, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		check(t, "before", outcome(r, "sb", 44772), notRunning+"its node does not answer (after 1s)")
		joined = true
		time.Sleep(101 * time.Millisecond)
		check(t, "after", outcome(r, "sb", 44772), "127.0.0.1:40001")
	})
}

type nodesFunc func() []node.Node

func (f nodesFunc) Nodes(context.Context) ([]node.Node, error) { return f(), nil }

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*resolve.Config){
		"age":     func(c *resolve.Config) { c.MaxAge = 0 },
		"away":    func(c *resolve.Config) { c.StoreAway = -1 },
		"timeout": func(c *resolve.Config) { c.ReadTimeout = 0 },
		"size":    func(c *resolve.Config) { c.Size = 0 },
	} {
		cfg := config
		change(&cfg)
		if _, err := resolve.New(cfg, resolve.Deps{}); err == nil {
			t.Errorf("%s out of range was taken", name)
		}
	}
}
