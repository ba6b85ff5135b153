package storemetrics_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/node/nodetest"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
	"opensandbox/libs/sqlitestore"
	"opensandbox/libs/storemetrics"
)

var (
	_ storemetrics.Counter = (*memstore.Store)(nil)
	_ storemetrics.Counter = (*sqlitestore.Store)(nil)
	_ storemetrics.Counter = (*redisstore.Store)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func measured(t *testing.T, next storemetrics.Both) storemetrics.Store {
	t.Helper()
	s, err := storemetrics.New(next, prometheus.NewRegistry(), sdktrace.NewTracerProvider())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The decorator passes the suites of both ports, as the store inside does.
func TestStore(t *testing.T) {
	t.Parallel()
	sandboxtest.TestStore(t, func(t *testing.T, clock func() time.Time) sandboxtest.Store {
		return measured(t, memstore.New(memstore.WithClock(clock)))
	})
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	nodetest.TestRegistry(t, func(t *testing.T, clock func() time.Time) node.Registry {
		return measured(t, memstore.New(memstore.WithClock(clock)))
	})
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	for want, errs := range map[string][]error{
		"ok":          {nil},
		"stale":       {sandbox.ErrStale("x"), fmt.Errorf("wrapped: %w", sandbox.ErrStale("x"))},
		"conflict":    {sandbox.ErrStopping("x"), fault.New(fault.Conflict, "x"), fault.New(fault.Unavailable, "full").WithCode(sandbox.ReasonNoCapacity)},
		"notfound":    {sandbox.ErrNotFound("x")},
		"unavailable": {fault.New(fault.Unavailable, "x"), context.DeadlineExceeded, fault.New(fault.Internal, "x").Because(context.DeadlineExceeded)},
		"canceled":    {context.Canceled, fault.New(fault.Unavailable, "x").Because(context.Canceled)},
		"error":       {errors.New("x"), fault.New(fault.Internal, "x"), fault.New(fault.Invalid, "x")},
	} {
		for _, err := range errs {
			if got := storemetrics.Outcome(err); got != want {
				t.Errorf("Outcome(%v) = %s, want %s", err, got, want)
			}
		}
	}
}

func TestOperationsAreMeasuredAndTraced(t *testing.T) {
	t.Parallel()
	reg, spans := prometheus.NewRegistry(), tracetest.NewSpanRecorder()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	s, err := storemetrics.New(memstore.New(), reg, tracers)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), "x"); !fault.Is(err, fault.NotFound) {
		t.Errorf("Get = %v", err)
	}
	if n := len(spans.Ended()); n != 0 {
		t.Errorf("%d spans for a caller without a trace", n)
	}
	ctx, root := tracers.Tracer("t").Start(t.Context(), "root")
	if _, err := s.Now(ctx); err != nil {
		t.Error(err)
	}
	if err := s.RenewLease(ctx, "n", 1); err == nil {
		t.Error("an unknown node has a lease")
	}
	root.End()
	var names []string
	for _, sp := range spans.Ended() {
		names = append(names, sp.Name())
	}
	if got := strings.Join(names, ", "); got != "store now, store renew_lease, root" {
		t.Errorf("spans: %s", got)
	}
	// Three operations, one outcome each.
	if n, err := testutil.GatherAndCount(reg, "opensandbox_store_operation_duration_seconds"); n != 3 || err != nil {
		t.Errorf("%d series, %v", n, err)
	}
	if _, err := storemetrics.New(memstore.New(), reg, nil); err == nil {
		t.Error("the same metrics were registered twice")
	}
	if s, err = storemetrics.New(memstore.New(), nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Now(ctx); err != nil {
		t.Error(err)
	}
}

// registry is a store as the inventory sees it.
type registry struct {
	nodes  []node.Node
	now    time.Time
	counts map[storemetrics.NodeState]int
	broken error
	reads  int
}

func (r *registry) Nodes(context.Context) ([]node.Node, error) { r.reads++; return r.nodes, r.broken }
func (r *registry) Now(context.Context) (time.Time, error)     { return r.now, r.broken }
func (r *registry) Counts(context.Context) (map[storemetrics.NodeState]int, error) {
	return r.counts, r.broken
}

func TestInventory(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := &registry{now: now, nodes: []node.Node{
		{Name: "a", LeaseUntil: now.Add(node.LeaseTime - 3*time.Second)}, {Name: "b", LeaseUntil: now.Add(-time.Minute), Draining: true},
	}, counts: map[storemetrics.NodeState]int{{Node: "a", State: sandbox.StateRunning}: 5, {Node: "gone", State: sandbox.StateStopping}: 1, {State: sandbox.StatePending}: 2}}
	reg := prometheus.NewPedanticRegistry()
	if _, err := storemetrics.NewInventory(r, r, reg); err != nil {
		t.Fatal(err)
	}
	want := `
# HELP opensandbox_inventory_read_failures_total Readings of the store for metrics that failed.
# TYPE opensandbox_inventory_read_failures_total counter
opensandbox_inventory_read_failures_total 0
# HELP opensandbox_node_draining 1 for a node that gets no new sandboxes, else 0.
# TYPE opensandbox_node_draining gauge
opensandbox_node_draining{node="a"} 0
opensandbox_node_draining{node="b"} 1
# HELP opensandbox_node_lease_age_seconds Time since the agent of a node last renewed its lease, by the store's clock.
# TYPE opensandbox_node_lease_age_seconds gauge
opensandbox_node_lease_age_seconds{node="a"} 3
opensandbox_node_lease_age_seconds{node="b"} 75
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "opensandbox_inventory_read_failures_total", "opensandbox_node_draining", "opensandbox_node_lease_age_seconds"); err != nil {
		t.Error(err)
	}
	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "opensandbox_sandboxes" {
			for _, m := range f.GetMetric() {
				got[m.GetLabel()[0].GetValue()+"/"+m.GetLabel()[1].GetValue()] = m.GetGauge().GetValue()
			}
		}
	}
	if len(got) != 4*len(sandbox.States()) || got["a/Running"] != 5 || got["/Pending"] != 2 || got["gone/Stopping"] != 1 || got["b/Running"] != 0 {
		t.Errorf("sandboxes: %v", got)
	}
	if r.reads != 1 {
		t.Errorf("%d readings for several scrapes at once", r.reads)
	}
}

func TestInventoryWithoutStoreOrCounter(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	if _, err := storemetrics.NewInventory(nil, &registry{broken: errors.New("away")}, reg); err != nil {
		t.Fatal(err)
	}
	if n, err := testutil.GatherAndCount(reg); n != 1 || err != nil { // only the failure is shown
		t.Errorf("%d series, %v", n, err)
	}
	reg = prometheus.NewPedanticRegistry()
	if _, err := storemetrics.NewInventory(nil, &registry{nodes: []node.Node{{Name: "a"}}}, reg); err != nil {
		t.Fatal(err)
	}
	if n, err := testutil.GatherAndCount(reg); n != 3 || err != nil {
		t.Errorf("%d series, %v", n, err)
	}
}

func BenchmarkMeasuredNow(b *testing.B) {
	s, err := storemetrics.New(memstore.New(), prometheus.NewRegistry(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Now(context.Background())
	}
}
