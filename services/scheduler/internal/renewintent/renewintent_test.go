package renewintent_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/scheduler/internal/renewintent"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// outcomes counts them. It may be used concurrently.
type outcomes struct {
	mu sync.Mutex
	m  map[string]int
}

func (o *outcomes) RenewIntent(outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.m == nil {
		o.m = map[string]int{}
	}
	o.m[outcome]++
}

// rig is a store with a node.
type rig struct {
	t       *testing.T
	now     time.Time
	store   *memstore.Store
	session uint64
	told    outcomes
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, now: start}
	r.store = memstore.New(memstore.WithClock(func() time.Time { return r.now }))
	n, err := r.store.Register(t.Context(), node.Registration{Name: "n", EngineID: "e", PortMin: 1, PortMax: 99})
	if err != nil {
		t.Fatal(err)
	}
	r.session = n.Session
	return r
}

// running makes a sandbox that is Running.
func (r *rig) running(id sandbox.ID, timeout, extend time.Duration) {
	r.t.Helper()
	ctx := r.t.Context()
	_, err := r.store.Insert(ctx, sandbox.New{ID: id, Tenant: "team", Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"e"}, Timeout: timeout, RenewOnAccess: extend}})
	if err == nil {
		_, err = r.store.Place(ctx, sandbox.PlaceRequest{ID: id, Candidates: []sandbox.Candidate{{Node: "n", PortMin: 1, PortMax: 99}}})
	}
	if err == nil {
		_, err = r.store.Report(ctx, sandbox.Report{ID: id, Node: "n", Epoch: 1, Session: r.session, Generation: 1, State: sandbox.StateRunning})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) deadline(id sandbox.ID) time.Duration {
	r.t.Helper()
	rec, err := r.store.Get(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	if rec.Intent.ExpiresAt.IsZero() {
		return 0
	}
	return rec.Intent.ExpiresAt.Sub(start)
}

func (r *rig) consumer(cfg renewintent.Config) *renewintent.Consumer {
	return renewintent.New(cfg, nil, r.store, &r.told, slog.New(slog.DiscardHandler))
}

func payload(id sandbox.ID, at time.Time) []byte {
	return fmt.Appendf(nil, `{"sandbox_id":%q,"observed_at":%q,"port":8080,"request_uri":"/"}`, string(id), at.Format(time.RFC3339Nano))
}

func TestHandle(t *testing.T) {
	t.Parallel()
	const extend = 5 * time.Minute
	for name, tc := range map[string]struct {
		setUp    func(r *rig)
		interval time.Duration
		// after is the time of the access, age that of the intent about it.
		after, age time.Duration
		want       time.Duration
		outcome    string
	}{
		"renewed":                    {func(r *rig) { r.running("s", 4*time.Minute, extend) }, 0, time.Minute, 0, 6 * time.Minute, renewintent.OutcomeRenewed},
		"never shorter":              {func(r *rig) { r.running("s", time.Hour, extend) }, 0, time.Minute, 0, time.Hour, renewintent.OutcomeNothing},
		"did not ask":                {func(r *rig) { r.running("s", 4*time.Minute, 0) }, 0, time.Minute, 0, 4 * time.Minute, renewintent.OutcomeNothing},
		"no deadline":                {func(r *rig) { r.running("s", 0, extend) }, 0, time.Minute, 0, 0, renewintent.OutcomeNothing},
		"old":                        {func(r *rig) { r.running("s", 10*time.Minute, time.Hour) }, 0, 8 * time.Minute, 300*time.Second + 1, 10 * time.Minute, renewintent.OutcomeOld},
		"just not old":               {func(r *rig) { r.running("s", 10*time.Minute, time.Hour) }, 0, 8 * time.Minute, 300 * time.Second, 68 * time.Minute, renewintent.OutcomeRenewed},
		"from a clock that is ahead": {func(r *rig) { r.running("s", 4*time.Minute, extend) }, 0, time.Minute, -time.Hour, 6 * time.Minute, renewintent.OutcomeRenewed},
		"unknown":                    {func(r *rig) { r.running("other", time.Hour, extend) }, 0, 0, 0, -1, renewintent.OutcomeNothing},
		"paused": {func(r *rig) {
			r.running("s", 4*time.Minute, extend)
			r.must(r.store.SetDesired(r.t.Context(), "s", sandbox.DesiredPaused, 1))
		}, 0, time.Minute, 0, 4 * time.Minute, renewintent.OutcomeNothing},
		"stopping": {func(r *rig) {
			r.running("s", 4*time.Minute, extend)
			r.must(r.store.SetGone(r.t.Context(), "s", sandbox.ReasonDeleted))
		}, 0, time.Minute, 0, 4 * time.Minute, renewintent.OutcomeNothing},
		"too soon again": {func(r *rig) {
			r.running("s", 4*time.Minute, extend)
			r.must(r.store.Renew(r.t.Context(), "s", sandbox.AnyTenant, start.Add(extend)))
		}, time.Minute, time.Minute, 0, extend, renewintent.OutcomeNothing},
		"late enough": {func(r *rig) {
			r.running("s", 4*time.Minute, extend)
			r.must(r.store.Renew(r.t.Context(), "s", sandbox.AnyTenant, start.Add(extend)))
		}, time.Minute, time.Minute + 1000, 0, extend + time.Minute + 1000, renewintent.OutcomeRenewed},
		"an interval that is longer than the extension": {func(r *rig) { r.running("s", extend, extend) }, time.Hour, 3 * time.Minute, 0, 8 * time.Minute, renewintent.OutcomeRenewed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			tc.setUp(r)
			r.now = start.Add(tc.after)
			r.consumer(renewintent.Config{MinInterval: tc.interval}).Handle(t.Context(), payload("s", r.now.Add(-tc.age)))
			if tc.want >= 0 {
				if got := r.deadline("s"); got != tc.want {
					t.Errorf("deadline after %v, want %v", got, tc.want)
				}
			}
			if diff := cmp.Diff(map[string]int{tc.outcome: 1}, r.told.m); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
		})
	}
}

// between is a store in which a client changes something after a record was read.
type between struct {
	*memstore.Store
	change func()
}

func (b between) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	r, err := b.Store.Get(ctx, id)
	b.change()
	return r, err
}

// A client that renews for longer at the same moment keeps what it was told.
func TestAClientsLongerRenewalHolds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running("s", 4*time.Minute, 5*time.Minute)
	r.now = start.Add(time.Minute)
	store := between{r.store, func() { r.must(r.store.Renew(t.Context(), "s", "team", start.Add(time.Hour))) }}
	renewintent.New(renewintent.Config{}, nil, store, &r.told, slog.New(slog.DiscardHandler)).Handle(t.Context(), payload("s", r.now))
	if got := r.deadline("s"); got != time.Hour {
		t.Errorf("deadline after %v, want an hour", got)
	}
}

func (r *rig) must(_ sandbox.Record, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// broken is a store that is away.
type broken struct{ err error }

func (b broken) Get(context.Context, sandbox.ID) (sandbox.Record, error) {
	return sandbox.Record{}, b.err
}
func (b broken) Now(context.Context) (time.Time, error) { return time.Time{}, b.err }
func (b broken) Extend(context.Context, sandbox.ID, time.Time) (sandbox.Record, error) {
	return sandbox.Record{}, b.err
}

func TestMalformedAndFailed(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	var told outcomes
	away := fault.New(fault.Unavailable, "away")
	c := renewintent.New(renewintent.Config{}, nil, broken{away}, &told, slog.New(slog.NewTextHandler(&log, nil)))
	c.Handle(t.Context(), []byte("{"))
	for range 10 {
		c.Handle(t.Context(), payload("s", start))
	}
	if diff := cmp.Diff(map[string]int{renewintent.OutcomeMalformed: 1, renewintent.OutcomeFailed: 10}, told.m); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Errorf("%d lines are logged about one outage:\n%s", n, log.String())
	}
}

// queue is a channel of answers; an error in it is a failure of the queue.
type queue chan any

func (q queue) Take(ctx context.Context) ([]byte, error) {
	select {
	case v := <-q:
		if err, failed := v.(error); failed {
			return nil, err
		}
		return v.([]byte), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for i := range 20 {
			r.running(sandbox.ID(fmt.Sprint(i)), time.Minute, time.Hour)
		}
		q := make(queue, 100)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		c := renewintent.New(renewintent.Config{Workers: 4}, q, r.store, &r.told, slog.New(slog.DiscardHandler))
		go func() { ended <- c.Run(ctx) }()
		for range 4 {
			q <- errors.New("the queue is away") // each worker gets one, and pauses
		}
		synctest.Wait()
		for i := range 20 {
			q <- payload(sandbox.ID(fmt.Sprint(i)), r.now)
		}
		synctest.Wait()
		if len(q) != 20 {
			t.Errorf("%d of 20 are left: the workers do not pause after a failure", len(q))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if diff := cmp.Diff(map[string]int{renewintent.OutcomeRenewed: 20}, r.told.m); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}
