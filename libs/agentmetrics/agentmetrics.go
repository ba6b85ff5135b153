// Package agentmetrics is what an agent tells of its work. The agent's steps know only the methods that they call, as interfaces of
// their own with plain types, so that they stay free of everything but their ports.
package agentmetrics

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"opensandbox/libs/executor"
)

// Stages of a create, in their order. Together with the waits for a turn they are what a client waits for.
const (
	// StageQueue: from the insert of the record until its agent begins: the placement, the hint, and the agent's own queue.
	StageQueue = "queue"
	StagePull  = "pull"
	// StageCreate and StageStart are calls of the engine.
	StageCreate = "create"
	StageStart  = "start"
	// StageReady: from the start until the daemon inside answers.
	StageReady = "ready"
	// StageReport: writing Running to the store.
	StageReport = "report"
)

// Turns that engine calls wait for.
const (
	TurnMake   = "make"
	TurnKill   = "kill"
	TurnRemove = "remove"
)

// Differences between the engine and the store that a comparison finds.
const (
	// DifferenceBehind: the engine does not have what was last reported.
	DifferenceBehind = "behind"
	// DifferenceStranger: a container without a record.
	DifferenceStranger = "stranger"
	// DifferenceSuperseded: a container that its record has given up.
	DifferenceSuperseded = "superseded"
	// DifferenceOlder: a container without a record that is older than the store; it is left alone.
	DifferenceOlder = "older"
	// DifferenceUnread: a sandbox whose record cannot be read because a newer version of this program wrote it; it is left alone.
	DifferenceUnread = "unread"
)

// Other is the label of a word that is in no list above.
const Other = "other"

var (
	stages      = []string{StageQueue, StagePull, StageCreate, StageStart, StageReady, StageReport, Other}
	turns       = []string{TurnMake, TurnKill, TurnRemove, Other}
	differences = []string{DifferenceBehind, DifferenceStranger, DifferenceSuperseded, DifferenceOlder, DifferenceUnread, Other}
	phases      = []executor.Phase{executor.Created, executor.Running, executor.Paused, executor.Exited, executor.Removing}
)

// Metrics of one agent. The methods of nil do nothing. Safe for concurrent use.
type Metrics struct {
	stages     map[string]prometheus.Observer
	engine     *prometheus.HistogramVec
	waiting    map[string]prometheus.Gauge
	waits      map[string]prometheus.Observer
	containers map[executor.Phase]prometheus.Gauge
	garbage    prometheus.Counter
	diffs      map[string]prometheus.Counter
	depth      prometheus.Gauge

	mu     sync.Mutex
	oldest time.Time
}

// New registers the metrics; without reg it returns nil, which measures nothing.
func New(reg prometheus.Registerer) (*Metrics, error) {
	if reg == nil {
		return nil, nil
	}
	long := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: long}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	stage := histogram("opensandbox_agent_create_stage_duration_seconds", "Duration of the stages of creates.", "stage")
	waits := histogram("opensandbox_agent_gate_wait_seconds", "Time that engine calls waited for their turn, by turn.", "turn")
	waiting := gauge("opensandbox_agent_gate_waiting", "Engine calls that wait for their turn now, by turn.", "turn")
	containers := gauge("opensandbox_agent_containers", "Containers of this agent at the last comparison, by phase.", "phase")
	diffs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "opensandbox_agent_comparison_differences_total", Help: "Differences between engine and store that comparisons found, by kind.",
	}, []string{"kind"})
	m := &Metrics{
		engine: histogram("opensandbox_agent_engine_call_duration_seconds", "Duration of engine calls by operation and outcome.", "operation", "outcome"),
		garbage: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "opensandbox_agent_garbage_removed_total", Help: "Containers that were removed because they had no record.",
		}),
		depth: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "opensandbox_agent_queue_depth", Help: "Sandboxes of this node that need work, at the last look.",
		}),
		stages:  members(stages, stage.WithLabelValues),
		waits:   members(turns, waits.WithLabelValues),
		waiting: members(turns, waiting.WithLabelValues), diffs: members(differences, diffs.WithLabelValues),
		containers: members(phases, func(p ...string) prometheus.Gauge { return containers.WithLabelValues(p...) }),
	}
	age := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "opensandbox_agent_queue_oldest_age_seconds", Help: "Time for which some sandbox of this node has needed work; 0 when none does. Grows also while the agent hangs.",
	}, m.oldestAge)
	for _, c := range []prometheus.Collector{stage, waits, waiting, containers, diffs, m.engine, m.garbage, m.depth, age} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register agent metrics: %w", err)
		}
	}
	return m, nil
}

// members makes all members of a closed set, so that they show 0 before anything happens.
func members[K ~string, M any](set []K, with func(...string) M) map[K]M {
	out := make(map[K]M, len(set))
	for _, s := range set {
		out[s] = with(string(s))
	}
	return out
}

// member returns a member of a closed set, or Other.
func member[M any](set map[string]M, name string) M {
	if m, ok := set[name]; ok {
		return m
	}
	return set[Other]
}

// Stage notes how long a stage of a create took.
func (m *Metrics) Stage(stage string, took time.Duration) {
	if m != nil {
		member(m.stages, stage).Observe(max(0, took.Seconds()))
	}
}

// Begin notes the start of a stage of a create, for callers that have no clock; the returned function notes its end.
func (m *Metrics) Begin(stage string) (over func()) {
	if m == nil {
		return func() {}
	}
	began := time.Now()
	return func() { m.Stage(stage, time.Since(began)) }
}

// Waiting notes that a call waits for its turn; the returned function notes that it waits no longer.
func (m *Metrics) Waiting(turn string) (over func()) {
	if m == nil {
		return func() {}
	}
	began := time.Now()
	waiting := member(m.waiting, turn)
	waiting.Inc()
	return func() {
		waiting.Dec()
		member(m.waits, turn).Observe(time.Since(began).Seconds())
	}
}

// Containers notes how many containers there are of each phase; what is missing is 0.
func (m *Metrics) Containers(count map[executor.Phase]int) {
	if m == nil {
		return
	}
	for p, g := range m.containers {
		g.Set(float64(count[p]))
	}
}

// GarbageRemoved counts a container that was removed because it had no record.
func (m *Metrics) GarbageRemoved() {
	if m != nil {
		m.garbage.Inc()
	}
}

// Difference counts a difference of one of the kinds above.
func (m *Metrics) Difference(kind string) {
	if m != nil {
		member(m.diffs, kind).Inc()
	}
}

// Queue notes how many sandboxes need work and since when the oldest of them does; the zero time when none does.
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
