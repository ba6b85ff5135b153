// Package schedulermetrics is what a scheduler tells of its work. The scheduler's steps know only the methods that they call, as
// interfaces of their own with plain types, so that they stay free of everything but their ports.
package schedulermetrics

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Kinds of repairs. Each does what another process has left undone, so all of them should stay at 0.
const (
	// RepairWithdrawnIntent: a failed pause or resume was taken back for an api that died.
	RepairWithdrawnIntent = "withdrawn_intent"
	// RepairAbandonedCreate: a failed create that no client knows of was removed for an api that died.
	RepairAbandonedCreate = "abandoned_create"
	// RepairNodeLost: a sandbox was taken from a node that did not come back.
	RepairNodeLost = "node_lost"
	// RepairStoreRecovered: a record was made again, or ended, after the store had lost it.
	RepairStoreRecovered = "store_recovered"
)

// Outcomes of a placement.
const (
	Placed = "placed"
	// PlacementWaits: nothing fits now; it is tried again.
	PlacementWaits = "waits"
	// PlacementFailed: nothing fitted for too long; the create failed.
	PlacementFailed = "failed"
	// PlacementStale: another scheduler was faster, or the sandbox is no longer wanted.
	PlacementStale = "stale"
	PlacementError = "error"
)

// Outcomes of an intent to renew a sandbox that is in use.
const (
	IntentRenewed = "renewed"
	// IntentNothing: the sandbox is not running, has no deadline, has not asked for renewals, or has a later deadline already.
	IntentNothing = "nothing_to_do"
	// IntentOld: it waited for too long.
	IntentOld = "too_old"
	// IntentMalformed: it cannot be read.
	IntentMalformed = "malformed"
	// IntentFailed: the store is away; the intent is dropped.
	IntentFailed = "failed"
)

// Other is the label of a word that is in no list above.
const Other = "other"

var (
	repairKinds = []string{RepairWithdrawnIntent, RepairAbandonedCreate, RepairNodeLost, RepairStoreRecovered, Other}
	intents     = []string{IntentRenewed, IntentNothing, IntentOld, IntentMalformed, IntentFailed, Other}
	outcomes    = []string{Placed, PlacementWaits, PlacementFailed, PlacementStale, PlacementError, Other}
)

// Metrics of one scheduler. The methods of nil do nothing. Safe for concurrent use.
type Metrics struct {
	lateness                   prometheus.Histogram
	expired                    prometheus.Counter
	clockLag, depth, heldNodes prometheus.Gauge
	repairs, placings, renews  map[string]prometheus.Counter

	mu     sync.Mutex
	oldest time.Time
}

// New registers the metrics; without reg it returns nil, which measures nothing.
func New(reg prometheus.Registerer) (*Metrics, error) {
	if reg == nil {
		return nil, nil
	}
	repairs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "opensandbox_scheduler_repairs_total", Help: "Repairs of what a process that died left undone, by kind. Should stay 0.",
	}, []string{"kind"})
	placings := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "opensandbox_scheduler_placements_total", Help: "Attempts to give a sandbox to a node, by outcome.",
	}, []string{"outcome"})
	renews := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "opensandbox_scheduler_renew_intents_total", Help: "Intents to renew a sandbox that is in use, by outcome.",
	}, []string{"outcome"})
	m := &Metrics{
		lateness: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "opensandbox_scheduler_deadline_lateness_seconds", Help: "Time from a deadline to the decision to end the sandbox.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
		expired: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "opensandbox_scheduler_expired_total", Help: "Sandboxes that were ended because their deadline had come.",
		}),
		clockLag: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "opensandbox_scheduler_clock_lag_seconds", Help: "How far the clock that deadlines are judged by is behind the machine's, after that jumped ahead.",
		}),
		depth: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "opensandbox_scheduler_queue_depth", Help: "Sandboxes without a node at the last look.",
		}),
		heldNodes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "opensandbox_scheduler_lost_nodes_held", Help: "Unreachable nodes whose sandboxes are not given up because too many nodes would go at once. Should be 0.",
		}),
		repairs: each(repairs, repairKinds), placings: each(placings, outcomes), renews: each(renews, intents),
	}
	age := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "opensandbox_scheduler_queue_oldest_age_seconds", Help: "Age of the oldest sandbox without a node; 0 when there is none. Grows also while the scheduler hangs.",
	}, m.oldestAge)
	for _, c := range []prometheus.Collector{repairs, placings, renews, m.lateness, m.expired, m.clockLag, m.depth, m.heldNodes, age} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register scheduler metrics: %w", err)
		}
	}
	return m, nil
}

// each makes all members of a closed set, so that they show 0 before anything happens.
func each(v *prometheus.CounterVec, set []string) map[string]prometheus.Counter {
	out := make(map[string]prometheus.Counter, len(set))
	for _, s := range set {
		out[s] = v.WithLabelValues(s)
	}
	return out
}

// count adds to a member of a closed set, or to Other.
func count(set map[string]prometheus.Counter, member string) {
	c, ok := set[member]
	if !ok {
		c = set[Other]
	}
	c.Inc()
}

// Expired notes the end of count sandboxes in one decision, the oldest deadline of which was late by lateness.
func (m *Metrics) Expired(count int, lateness time.Duration) {
	if m == nil || count <= 0 {
		return
	}
	m.expired.Add(float64(count))
	m.lateness.Observe(max(0, lateness.Seconds()))
}

// ClockLag notes how far the scheduler's clock is behind the machine's.
func (m *Metrics) ClockLag(lag time.Duration) {
	if m != nil {
		m.clockLag.Set(lag.Seconds())
	}
}

// Repaired counts a repair of one of the kinds above.
func (m *Metrics) Repaired(kind string) {
	if m != nil {
		count(m.repairs, kind)
	}
}

// RenewIntent counts an intent with one of the outcomes above.
func (m *Metrics) RenewIntent(outcome string) {
	if m != nil {
		count(m.renews, outcome)
	}
}

// Held notes how many nodes are lost and are not given up.
func (m *Metrics) Held(nodes int) {
	if m != nil {
		m.heldNodes.Set(float64(nodes))
	}
}

// Placement counts an attempt with one of the outcomes above.
func (m *Metrics) Placement(outcome string) {
	if m != nil {
		count(m.placings, outcome)
	}
}

// Queue notes how many sandboxes had no node and when the oldest of them was created; the zero time when there is none.
func (m *Metrics) Queue(depth int, oldest time.Time) {
	if m == nil {
		return
	}
	m.depth.Set(float64(depth))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.oldest = oldest
}

func (m *Metrics) oldestAge() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.oldest.IsZero() {
		return 0
	}
	return max(0, time.Since(m.oldest).Seconds())
}
