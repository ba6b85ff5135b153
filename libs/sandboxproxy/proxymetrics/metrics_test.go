package proxymetrics_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"opensandbox/libs/sandboxproxy"
	"opensandbox/libs/sandboxproxy/proxymetrics"
	"opensandbox/libs/sandboxproxy/renewintent"
	"opensandbox/libs/sandboxproxy/resolve"
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
	m, err := proxymetrics.New(reg, proxymetrics.Router)
	if err != nil {
		t.Fatal(err)
	}
	if got := values(t, reg); len(got) != 0 {
		t.Errorf("before anything has happened: %v", got)
	}
	m.Active(sandboxproxy.KindWebSocket, 1)
	m.Active(sandboxproxy.KindHTTP, 1)
	m.Active(sandboxproxy.KindHTTP, -1)
	m.Answered(sandboxproxy.KindHTTP, sandboxproxy.Proxied, time.Millisecond)
	m.Answered(sandboxproxy.KindSSE, sandboxproxy.Proxied, time.Second)
	m.Answered(sandboxproxy.KindHTTP, sandboxproxy.NotFound, time.Millisecond)
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
	if _, err := proxymetrics.New(reg, proxymetrics.Router); err == nil {
		t.Error("the same metrics were registered twice")
	}
}

func TestWithoutARegistry(t *testing.T) {
	t.Parallel()
	m, err := proxymetrics.New(nil, proxymetrics.Router)
	if m != nil || err != nil {
		t.Fatalf("%v, %v", m, err)
	}
	m.Active(sandboxproxy.KindHTTP, 1)
	m.Answered(sandboxproxy.KindHTTP, sandboxproxy.Proxied, 0)
	m.Resolved(resolve.FromCache)
	m.Intent(renewintent.Failed)
}
