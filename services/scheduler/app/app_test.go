package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shakyStore is a store that can be away, and whose clock can be wrong.
type shakyStore struct {
	*memstore.Store
	away  atomic.Bool
	calls atomic.Int64
}

func (s *shakyStore) Now(ctx context.Context) (time.Time, error) {
	if s.away.Load() {
		return time.Time{}, fault.New(fault.Unavailable, "away")
	}
	return s.Store.Now(ctx)
}

func (s *shakyStore) Unplaced(ctx context.Context, max int) ([]sandbox.Record, error) {
	s.calls.Add(1)
	return s.Store.Unplaced(ctx, max)
}

// rig is a scheduler that runs in a bubble, with one agent that only renews its lease and reports.
type rig struct {
	*testing.T
	store   *shakyStore
	reg     *prometheus.Registry
	session uint64
	s       *Scheduler
	stop    func()
}

// start runs a scheduler whose store's clock is ahead of that of the machine. stop must be called.
func start(t *testing.T, ahead time.Duration, cfg Config, intents IntentSource) *rig {
	t.Helper()
	began := time.Now()
	r := &rig{T: t, reg: prometheus.NewPedanticRegistry()}
	r.store = &shakyStore{Store: memstore.New(memstore.WithClock(func() time.Time { return time.Now().Add(ahead) }))}
	n, err := r.store.Register(t.Context(), node.Registration{Name: "n", EngineID: "e", PortMin: 1, PortMax: 99, MaxSandboxes: 2})
	if err != nil {
		t.Fatal(err)
	}
	r.session = n.Session
	r.s, err = New(cfg, Deps{Store: r.store, Intents: intents, Registry: r.reg, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r.s.boot = func() time.Duration { return time.Since(began) }
	ctx, cancel := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	for _, p := range r.s.Parts() {
		parts.Go(func() {
			if err := p.Run(ctx); err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
		})
	}
	r.stop = func() {
		cancel()
		parts.Wait()
	}
	return r
}

func (r *rig) insert(id sandbox.ID, change func(*sandbox.New)) {
	r.Helper()
	n := sandbox.New{ID: id, Accepted: true, Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"e"}}}
	if change != nil {
		change(&n)
	}
	if _, err := r.store.Insert(r.Context(), n); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) get(id sandbox.ID) sandbox.Record {
	r.Helper()
	rec, err := r.store.Get(r.Context(), id)
	if err != nil {
		r.Fatal(err)
	}
	return rec
}

func (r *rig) report(id sandbox.ID, state sandbox.State) {
	r.Helper()
	rec := r.get(id)
	_, err := r.store.Report(r.Context(), sandbox.Report{
		ID: id, Node: "n", Epoch: rec.Placement.Epoch, Session: r.session, Generation: rec.Intent.Generation, State: state, RetainFor: time.Hour,
	})
	if err != nil {
		r.Fatal(err)
	}
}

// alive lets time pass while the agent renews.
func (r *rig) alive(d time.Duration) {
	r.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(min(5*time.Second, time.Until(end))) {
		if err := r.store.RenewLease(r.Context(), "n", r.session); err != nil {
			r.Fatal(err)
		}
	}
	synctest.Wait()
}

// metrics checks lines of the metrics, each "name{labels} value" without the prefix that all have.
func (r *rig) metrics(lines ...string) {
	r.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.Fatal(err)
	}
	got := map[string]bool{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := ""
			for _, l := range m.GetLabel() {
				labels = "{" + l.GetValue() + "}"
			}
			value := m.GetCounter().GetValue() + m.GetGauge().GetValue()
			if m.GetHistogram() != nil {
				value = float64(m.GetHistogram().GetSampleCount())
			}
			got[fmt.Sprintf("%s%s %v", strings.TrimPrefix(f.GetName(), "opensandbox_scheduler_"), labels, value)] = true
		}
	}
	for _, line := range lines {
		if !got[line] {
			r.Errorf("the metrics do not have %q: %v", line, got)
		}
	}
}

func TestScheduler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		intents := NewIntentQueue()
		r := start(t, 0, Config{RetainFailed: time.Hour, NodeLostAfter: 10 * time.Minute}, intents)
		defer r.stop()
		r.insert("a", func(n *sandbox.New) { n.Spec.Timeout = time.Hour })
		r.insert("b", func(n *sandbox.New) { n.Spec.Timeout, n.Spec.RenewOnAccess = time.Hour, 2*time.Hour })
		synctest.Wait() // hints, not time
		r.insert("c", nil)
		synctest.Wait()
		if a, b, c := r.get("a"), r.get("b"), r.get("c"); a.Placement.Node != "n" || b.Placement.Node != "n" || c.Observed.Reason != sandbox.ReasonNoCapacity {
			t.Fatalf("a %+v, b %+v, c %+v", a.Placement, b.Placement, c.Observed)
		}
		r.report("b", sandbox.StateRunning)
		if err := intents.Publish(t.Context(), fmt.Appendf(nil, `{"sandbox_id":"b","observed_at":%q}`, time.Now().Format(time.RFC3339))); err != nil {
			t.Fatal(err)
		}
		r.alive(time.Hour)
		if a, b := r.get("a"), r.get("b"); !a.Gone() || b.Gone() {
			t.Errorf("after an hour: a %+v, b %+v", a.Intent, b.Intent)
		}
		if err := r.s.Ready(); err != nil {
			t.Errorf("Ready = %v", err)
		}
		r.metrics("expired_total 1", "deadline_lateness_seconds 1", "placements_total{placed} 2", "placements_total{failed} 1", "placements_total{other} 0",
			"renew_intents_total{renewed} 1", "renew_intents_total{other} 0", "clock_lag_seconds 0", "queue_depth 0", "lost_nodes_held 0")
		time.Sleep(node.LeaseTime + 11*time.Minute) // the agent is dead
		synctest.Wait()
		if b := r.get("b"); b.Observed.Reason != sandbox.ReasonNodeLost {
			t.Errorf("after the loss of the node: %+v", b.Observed)
		}
		r.metrics("repairs_total{node_lost} 2", "repairs_total{other} 0")
	})
}

// TestRepairs makes every kind of repair, so that none is counted as another.
func TestRepairs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, 0, Config{RetainFailed: time.Hour}, nil)
		defer r.stop()
		r.insert("withdrawn", nil)
		r.insert("abandoned", func(n *sandbox.New) { n.Accepted = false })
		synctest.Wait()
		r.report("abandoned", sandbox.StateFailed)
		r.report("withdrawn", sandbox.StateRunning)
		if _, err := r.store.SetDesired(t.Context(), "withdrawn", sandbox.DesiredPaused, 1); err != nil {
			t.Fatal(err)
		}
		r.report("withdrawn", sandbox.StateRunning) // finished, and not paused
		r.alive(2 * time.Minute)
		r.metrics("repairs_total{withdrawn_intent} 1", "repairs_total{abandoned_create} 1", "repairs_total{other} 0")
	})
}

func TestReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Config{}
		idle, err := New(cfg, Deps{Store: memstore.New(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		if err := idle.Ready(); err == nil {
			t.Error("ready before anything runs")
		}
		r := start(t, 0, cfg, nil)
		defer r.stop()
		synctest.Wait()
		if err := r.s.Ready(); err != nil {
			t.Errorf("Ready = %v", err)
		}
		r.store.away.Store(true)
		time.Sleep(10 * time.Second)
		if err := r.s.Ready(); !fault.Is(err, fault.Unavailable) {
			t.Errorf("while the store is away: %v", err)
		}
		r.store.away.Store(false)
		time.Sleep(2 * time.Second)
		if err := r.s.Ready(); err != nil {
			t.Errorf("after the store has come back: %v", err)
		}
	})
}

// TestClocksThatDiffer shows that a store with another time neither makes loops spin nor lets them sleep too long.
func TestClocksThatDiffer(t *testing.T) {
	for _, ahead := range []time.Duration{-time.Hour, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, ahead, Config{PlacementWait: time.Minute}, nil)
			defer r.stop()
			for _, id := range []sandbox.ID{"a", "b", "waits"} {
				r.insert(id, nil)
				synctest.Wait()
			}
			before := r.store.calls.Load()
			r.alive(10 * time.Second)
			if n := r.store.calls.Load() - before; n < 35 || n > 45 {
				t.Errorf("%v ahead: %d looks at the queue in 10 s, want one each 250 ms", ahead, n)
			}
		})
	}
}

func TestIntentQueue(t *testing.T) {
	t.Parallel()
	q := NewIntentQueue()
	for range intentQueueSize {
		if err := q.Publish(t.Context(), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Publish(t.Context(), []byte("x")); !fault.Is(err, fault.Exhausted) {
		t.Errorf("a full queue gave %v", err)
	}
	if got, err := q.Take(t.Context()); err != nil || string(got) != "x" {
		t.Errorf("Take = %q, %v", got, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewIntentQueue().Take(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Take = %v", err)
	}
}

func TestMetricsAreRegisteredOnce(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	d := Deps{Store: memstore.New(), Registry: reg, Log: slog.New(slog.DiscardHandler)}
	if _, err := New(Config{}, d); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{}, d); err == nil {
		t.Error("two schedulers share one registry, and nobody notices")
	}
	if n, err := testutil.GatherAndCount(reg); err != nil || n == 0 {
		t.Errorf("%d metrics, %v", n, err)
	}
}
