// Package proxymetrics is what a router or the proxy of a server tells of its work. The other packages know only the methods that they call, as interfaces of their own
// with plain types.
package proxymetrics

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"opensandbox/libs/sandboxproxy"
	"opensandbox/libs/sandboxproxy/renewintent"
	"opensandbox/libs/sandboxproxy/resolve"
)

var (
	_ sandboxproxy.Observer = (*Metrics)(nil)
	_ resolve.Observer      = (*Metrics)(nil)
	_ renewintent.Observer  = (*Metrics)(nil)
)

// Metrics of one proxy. The methods of nil do nothing. Safe for concurrent use.
type Metrics struct {
	requests  *prometheus.CounterVec
	firstByte *prometheus.HistogramVec
	active    *prometheus.GaugeVec
	resolved  *prometheus.CounterVec
	intents   *prometheus.CounterVec
	usual     usual
}

// usual are the series that nearly every request changes: finding them by their labels takes longer than changing them.
type usual struct {
	active    prometheus.Gauge
	proxied   prometheus.Counter
	firstByte prometheus.Observer
	cached    prometheus.Counter
}

// The proxies whose metrics there are: the first part of their names.
const (
	Router      = "router"
	ServerProxy = "server_proxy"
)

// New registers the metrics of one proxy; without reg it returns nil, which measures nothing.
func New(reg prometheus.Registerer, proxy string) (*Metrics, error) {
	if reg == nil {
		return nil, nil
	}
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "opensandbox_" + proxy + "_requests_total", Help: "Requests by kind and outcome, counted when their answer begins.",
		}, []string{"kind", "outcome"}),
		firstByte: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "opensandbox_" + proxy + "_first_byte_seconds", Help: "Time from a request to the first byte of the application's answer, which includes the application's own.",
			Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"kind"}),
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "opensandbox_" + proxy + "_active_requests", Help: "Requests in progress by kind; a WebSocket is one until it is closed.",
		}, []string{"kind"}),
		resolved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "opensandbox_" + proxy + "_resolutions_total", Help: "Look-ups of a sandbox, by where the answer came from: cache, store, stale (known, and the store is away) or none.",
		}, []string{"source"}),
		intents: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "opensandbox_" + proxy + "_renew_intents_total", Help: "Notices that a sandbox is in use, by what became of them: published, failed or dropped.",
		}, []string{"result"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.firstByte, m.active, m.resolved, m.intents} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register proxy metrics: %w", err)
		}
	}
	m.show()
	m.usual = usual{
		active: m.active.WithLabelValues(sandboxproxy.KindHTTP), proxied: m.requests.WithLabelValues(sandboxproxy.KindHTTP, sandboxproxy.Proxied),
		firstByte: m.firstByte.WithLabelValues(sandboxproxy.KindHTTP), cached: m.resolved.WithLabelValues(resolve.FromCache),
	}
	return m, nil
}

// show makes what is looked at most appear as 0 before anything happens.
func (m *Metrics) show() {
	for _, kind := range []string{sandboxproxy.KindHTTP, sandboxproxy.KindSSE, sandboxproxy.KindWebSocket, sandboxproxy.KindUpgrade} {
		m.active.WithLabelValues(kind)
		for _, outcome := range []string{sandboxproxy.Proxied, sandboxproxy.NotFound, sandboxproxy.NotReady, sandboxproxy.ConnectionFailed, sandboxproxy.ResponseFailed} {
			if kind != sandboxproxy.KindSSE || outcome == sandboxproxy.Proxied { // only an answer of the application makes a request one
				m.requests.WithLabelValues(kind, outcome)
			}
		}
	}
	for _, source := range []string{resolve.FromCache, resolve.FromStore, resolve.FromStale, resolve.FromNowhere} {
		m.resolved.WithLabelValues(source)
	}
	for _, result := range []string{renewintent.Published, renewintent.Failed, renewintent.Dropped} {
		m.intents.WithLabelValues(result)
	}
}

// Active implements sandboxproxy.Observer.
func (m *Metrics) Active(kind string, delta int) {
	switch {
	case m == nil:
	case kind == sandboxproxy.KindHTTP:
		m.usual.active.Add(float64(delta))
	default:
		m.active.WithLabelValues(kind).Add(float64(delta))
	}
}

// Answered implements sandboxproxy.Observer.
func (m *Metrics) Answered(kind, outcome string, took time.Duration) {
	if m == nil {
		return
	}
	if kind == sandboxproxy.KindHTTP && outcome == sandboxproxy.Proxied {
		m.usual.proxied.Inc()
		m.usual.firstByte.Observe(took.Seconds())
		return
	}
	m.requests.WithLabelValues(kind, outcome).Inc()
	if outcome == sandboxproxy.Proxied {
		m.firstByte.WithLabelValues(kind).Observe(took.Seconds())
	}
}

// Resolved implements resolve.Observer.
func (m *Metrics) Resolved(source string) {
	switch {
	case m == nil:
	case source == resolve.FromCache:
		m.usual.cached.Inc()
	default:
		m.resolved.WithLabelValues(source).Inc()
	}
}

// Intent implements renewintent.Observer.
func (m *Metrics) Intent(result string) {
	if m != nil {
		m.intents.WithLabelValues(result).Inc()
	}
}
