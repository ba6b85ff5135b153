package beat_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/beat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// away is a registry that can be away, or hang.
type away struct {
	node.Registry
	mu          sync.Mutex
	gone, hangs bool
}

func (a *away) set(gone, hangs bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone, a.hangs = gone, hangs
}

func (a *away) RenewLease(ctx context.Context, name string, session uint64) error {
	a.mu.Lock()
	gone, hangs := a.gone, a.hangs
	a.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if gone {
		return fault.New(fault.Unavailable, "the store is away")
	}
	return a.Registry.RenewLease(ctx, name, session)
}

// lease notes the last renewal.
type lease struct {
	mu   sync.Mutex
	sent time.Time
}

func (l *lease) Renewed(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = at
}

func (l *lease) last() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

// lines counts what is logged.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(b))
	return len(b), nil
}

// rig is a node with its beat.
type rig struct {
	store *memstore.Store
	away  *away
	lease *lease
	log   *lines
	beat  beat.Beat
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{store: memstore.New(), lease: &lease{}, log: &lines{}}
	r.away = &away{Registry: r.store}
	n, err := r.store.Register(t.Context(), registration)
	if err != nil {
		t.Fatal(err)
	}
	r.beat = beat.Beat{Registry: r.away, Node: "n", Session: n.Session, Lease: r.lease, Clock: time.Now, Log: slog.New(slog.NewTextHandler(r.log, nil))}
	return r
}

var registration = node.Registration{Name: "n", EngineID: "e", PortMin: 1, PortMax: 2, TakeOver: true}

// run runs the beat until the test ends it.
func (r *rig) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.beat.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	}
}

// TestALeaseThatIsOverIsRenewedAtOnce has an agent that came to its beat later than the lease of its registration lasts: it stood still, or had
// much to take up.
func TestALeaseThatIsOverIsRenewedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		time.Sleep(node.LeaseTime + time.Second)
		if r.live(t) {
			t.Fatal("the lease of the registration lasts longer than it should")
		}
		stop := r.run(t)
		defer stop()
		synctest.Wait()
		if !r.live(t) {
			t.Error("the node has no lease when its agent has begun")
		}
	})
}

func (r *rig) live(t *testing.T) bool {
	t.Helper()
	all, err := r.store.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all[0].Live(time.Now())
}

func TestTheLeaseIsKeptAndGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		stop := r.run(t)
		time.Sleep(10 * node.LeaseTime)
		if !r.live(t) {
			t.Error("the lease ran out although it is renewed")
		}
		if ago := time.Since(r.lease.last()); ago > node.LeaseTime/3 {
			t.Errorf("the last noted renewal is %v old", ago)
		}
		stop()
		if r.live(t) {
			t.Error("the lease was not given back")
		}
	})
}

func TestTheLeaseIsRenewedWhenTheRollIsCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		calls := make(chan struct{}, 1)
		r.beat.RollCall = calls
		stop := r.run(t)
		time.Sleep(time.Second)
		calls <- struct{}{}
		synctest.Wait()
		if at := r.lease.last(); !at.Equal(time.Now()) {
			t.Errorf("the last renewal was at %v, and it is %v", at, time.Now())
		}
		stop()
	})
}

func TestALeaseThatRanOutIsRenewed(t *testing.T) {
	for name, hangs := range map[string]bool{"refuses": false, "hangs": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				stop := r.run(t)
				time.Sleep(node.LeaseTime)
				r.away.set(true, hangs)
				gone := time.Now()
				time.Sleep(20 * node.LeaseTime)
				if r.live(t) || r.lease.last().After(gone) {
					t.Errorf("live %v, last renewal noted at %v, although the store is away since %v", r.live(t), r.lease.last(), gone)
				}
				r.away.set(false, false)
				time.Sleep(node.LeaseTime)
				if !r.live(t) || !r.lease.last().After(gone) {
					t.Errorf("live %v, last renewal %v, although the store is back", r.live(t), r.lease.last())
				}
				stop()
				if n := len(r.log.all); n != 2 {
					t.Errorf("%d lines in the log, want one for the beginning and one for the end:\n%s", n, strings.Join(r.log.all, ""))
				}
			})
		})
	}
}

func TestTheTimeOfTheRequestCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		slow := &slowRegistry{Registry: r.store, by: 3 * time.Second}
		r.beat.Registry = slow
		stop := r.run(t)
		time.Sleep(node.LeaseTime/3 + 4*time.Second)
		synctest.Wait()
		if ago := time.Since(r.lease.last()); ago < 4*time.Second {
			t.Errorf("the renewal counts from %v ago; it was sent 4 s ago and answered 1 s ago", ago)
		}
		stop()
	})
}

// slowRegistry answers late.
type slowRegistry struct {
	node.Registry
	by time.Duration
}

func (s *slowRegistry) RenewLease(ctx context.Context, name string, session uint64) error {
	select {
	case <-time.After(s.by):
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.Registry.RenewLease(ctx, name, session)
}

func TestAnAgentWithoutItsNodeEnds(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(*testing.T, *memstore.Store) error
		want    func(error) bool
	}{
		"taken over": {func(t *testing.T, st *memstore.Store) error {
			_, err := st.Register(t.Context(), registration)
			return err
		}, sandbox.IsStale},
		"removed": {func(t *testing.T, st *memstore.Store) error { return st.Remove(t.Context(), "n") }, sandbox.IsStale},
		"forgotten": {func(t *testing.T, st *memstore.Store) error {
			return errors.Join(st.Remove(t.Context(), "n"), st.Forget(t.Context(), "n"))
		}, func(err error) bool { return fault.Is(err, fault.NotFound) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				if err := c.happens(t, r.store); err != nil {
					t.Fatal(err)
				}
				if err := r.beat.Run(t.Context()); !c.want(err) {
					t.Errorf("Run = %v", err)
				}
			})
		})
	}
}

func TestTheGuardLooksWithItsClock(t *testing.T) {
	t.Parallel()
	at, no := time.Unix(5, 0), errors.New("no")
	var seen time.Time
	g := beat.Guard{Clock: func() time.Time { return at }, CutOff: func(_ context.Context, now time.Time) error { seen = now; return no }}
	if again, err := g.Step(t.Context()); !errors.Is(err, no) || !again.IsZero() || !seen.Equal(at) {
		t.Errorf("Step = %v, %v, looked at %v", again, err, seen)
	}
}
