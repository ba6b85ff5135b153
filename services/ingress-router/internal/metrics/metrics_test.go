package metrics_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"opensandbox/services/ingress-router/internal/metrics"
	"opensandbox/services/ingress-router/internal/proxy"
	"opensandbox/services/ingress-router/internal/renewintent"
	"opensandbox/services/ingress-router/internal/resolve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// values returns what is not zero, by name and labels.
func values(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			if v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount()); v != 0 {
				out[key] = v
			}
		}
	}
	return out
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	m, err := metrics.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	if got := values(t, reg); len(got) != 0 {
		t.Errorf("before anything has happened: %v", got)
	}
	m.Active(proxy.KindWebSocket, 1)
	m.Active(proxy.KindHTTP, 1)
	m.Active(proxy.KindHTTP, -1)
	m.Answered(proxy.KindHTTP, proxy.Proxied, time.Millisecond)
	m.Answered(proxy.KindSSE, proxy.Proxied, time.Second)
	m.Answered(proxy.KindHTTP, proxy.NotFound, time.Millisecond)
	m.Resolved(resolve.FromStale)
	m.Intent(renewintent.Dropped)
	want := map[string]float64{
		"opensandbox_router_requests_total http proxied": 1, "opensandbox_router_requests_total sse proxied": 1,
		"opensandbox_router_requests_total http not_found": 1, "opensandbox_router_first_byte_seconds http": 1, "opensandbox_router_first_byte_seconds sse": 1,
		"opensandbox_router_active_requests websocket": 1, "opensandbox_router_resolutions_total stale": 1, "opensandbox_router_renew_intents_total dropped": 1,
	}
	if diff := cmp.Diff(want, values(t, reg)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	if _, err := metrics.New(reg); err == nil {
		t.Error("the same metrics were registered twice")
	}
}

func TestWithoutARegistry(t *testing.T) {
	t.Parallel()
	m, err := metrics.New(nil)
	if m != nil || err != nil {
		t.Fatalf("%v, %v", m, err)
	}
	m.Active(proxy.KindHTTP, 1)
	m.Answered(proxy.KindHTTP, proxy.Proxied, 0)
	m.Resolved(resolve.FromCache)
	m.Intent(renewintent.Failed)
}
