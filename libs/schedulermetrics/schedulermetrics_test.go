package schedulermetrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"opensandbox/libs/schedulermetrics"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func feed(m *schedulermetrics.Metrics) {
	m.Expired(0, time.Hour) // nothing was ended
	m.Expired(3, 20*time.Millisecond)
	m.Expired(1, -time.Second) // the store's clock is ahead
	m.ClockLag(1500 * time.Millisecond)
	m.Repaired(schedulermetrics.RepairWithdrawnIntent)
	m.Repaired("an invented kind")
	m.Placement(schedulermetrics.Placed)
	m.Placement("id-of-a-sandbox")
	m.Queue(2, time.Time{})
	m.Held(3)
	m.RenewIntent(schedulermetrics.IntentRenewed)
	m.RenewIntent("id-of-a-sandbox")
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	m, err := schedulermetrics.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	feed(m)
	want := `
# HELP opensandbox_scheduler_clock_lag_seconds How far the clock that deadlines are judged by is behind the machine's, after that jumped ahead.
# TYPE opensandbox_scheduler_clock_lag_seconds gauge
opensandbox_scheduler_clock_lag_seconds 1.5
# HELP opensandbox_scheduler_expired_total Sandboxes that were ended because their deadline had come.
# TYPE opensandbox_scheduler_expired_total counter
opensandbox_scheduler_expired_total 4
# HELP opensandbox_scheduler_lost_nodes_held Unreachable nodes whose sandboxes are not given up because too many nodes would go at once. Should be 0.
# TYPE opensandbox_scheduler_lost_nodes_held gauge
opensandbox_scheduler_lost_nodes_held 3
# HELP opensandbox_scheduler_placements_total Attempts to give a sandbox to a node, by outcome.
# TYPE opensandbox_scheduler_placements_total counter
opensandbox_scheduler_placements_total{outcome="error"} 0
opensandbox_scheduler_placements_total{outcome="failed"} 0
opensandbox_scheduler_placements_total{outcome="other"} 1
opensandbox_scheduler_placements_total{outcome="placed"} 1
opensandbox_scheduler_placements_total{outcome="stale"} 0
opensandbox_scheduler_placements_total{outcome="waits"} 0
# HELP opensandbox_scheduler_queue_depth Sandboxes without a node at the last look.
# TYPE opensandbox_scheduler_queue_depth gauge
opensandbox_scheduler_queue_depth 2
# HELP opensandbox_scheduler_queue_oldest_age_seconds Age of the oldest sandbox without a node; 0 when there is none. Grows also while the scheduler hangs.
# TYPE opensandbox_scheduler_queue_oldest_age_seconds gauge
opensandbox_scheduler_queue_oldest_age_seconds 0
# HELP opensandbox_scheduler_renew_intents_total Intents to renew a sandbox that is in use, by outcome.
# TYPE opensandbox_scheduler_renew_intents_total counter
opensandbox_scheduler_renew_intents_total{outcome="failed"} 0
opensandbox_scheduler_renew_intents_total{outcome="malformed"} 0
opensandbox_scheduler_renew_intents_total{outcome="nothing_to_do"} 0
opensandbox_scheduler_renew_intents_total{outcome="other"} 1
opensandbox_scheduler_renew_intents_total{outcome="renewed"} 1
opensandbox_scheduler_renew_intents_total{outcome="too_old"} 0
# HELP opensandbox_scheduler_repairs_total Repairs of what a process that died left undone, by kind. Should stay 0.
# TYPE opensandbox_scheduler_repairs_total counter
opensandbox_scheduler_repairs_total{kind="abandoned_create"} 0
opensandbox_scheduler_repairs_total{kind="node_lost"} 0
opensandbox_scheduler_repairs_total{kind="other"} 1
opensandbox_scheduler_repairs_total{kind="store_recovered"} 0
opensandbox_scheduler_repairs_total{kind="withdrawn_intent"} 1
`
	names := []string{
		"opensandbox_scheduler_clock_lag_seconds", "opensandbox_scheduler_expired_total", "opensandbox_scheduler_placements_total",
		"opensandbox_scheduler_queue_depth", "opensandbox_scheduler_queue_oldest_age_seconds", "opensandbox_scheduler_repairs_total",
		"opensandbox_scheduler_lost_nodes_held", "opensandbox_scheduler_renew_intents_total",
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "opensandbox_scheduler_deadline_lateness_seconds" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		b := h.GetBucket()
		if h.GetSampleCount() != 2 || b[0].GetUpperBound() != .001 || b[len(b)-1].GetUpperBound() != 60 || b[0].GetCumulativeCount() != 1 {
			t.Errorf("lateness: %v", h)
		}
	}
}

func TestTheOldestAgeGrowsByItself(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m, err := schedulermetrics.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	m.Queue(1, time.Now().Add(-time.Hour))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if v := f.GetMetric()[0].GetGauge().GetValue(); f.GetName() == "opensandbox_scheduler_queue_oldest_age_seconds" && v < 3600 {
			t.Errorf("age %v, want an hour or more", v)
		}
	}
}

func TestNilMeasuresNothing(t *testing.T) {
	t.Parallel()
	m, err := schedulermetrics.New(nil)
	if m != nil || err != nil {
		t.Fatalf("New(nil) = %v, %v", m, err)
	}
	feed(m)
	reg := prometheus.NewRegistry()
	for i, wantErr := range []bool{false, true} {
		if _, err := schedulermetrics.New(reg); (err != nil) != wantErr {
			t.Errorf("registration %d: %v", i, err)
		}
	}
}
