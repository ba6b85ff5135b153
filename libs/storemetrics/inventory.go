package storemetrics

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// NodeState says where sandboxes are and in which state. It is an alias, so that a store can have the method Counts without importing
// this package.
type NodeState = struct {
	// Node is empty for sandboxes that hold nothing on a node: those that have none yet, and failed ones that were cleaned up.
	Node  string
	State sandbox.State
}

// Counter counts without reading records: scraping must not become the store's heaviest client.
type Counter interface {
	// Counts returns how many visible records there are of each node and state; what is missing is 0.
	Counts(ctx context.Context) (map[NodeState]int, error)
}

// Registry is what is read about nodes.
type Registry interface {
	Nodes(ctx context.Context) ([]node.Node, error)
	// Now returns the store's time: leases are written by its clock.
	Now(ctx context.Context) (time.Time, error)
}

const (
	// keep is how long one reading serves all scrapers.
	keep = 2 * time.Second
	// readLimit bounds a reading: Prometheus gives a whole scrape 10 s.
	readLimit = 2 * time.Second
)

// Inventory is a collector of what is in the store. Several schedulers show the same numbers: take the maximum, not the sum. While the
// store cannot be read it shows nothing of sandboxes or nodes, and counts the failure. Safe for concurrent use.
type Inventory struct {
	counter  Counter
	registry Registry

	sandboxes, leaseAge, draining *prometheus.Desc
	failures                      prometheus.Counter

	mu     sync.Mutex
	readAt time.Time
	last   []prometheus.Metric
}

// NewInventory registers the collector with reg. counter may be nil for a store that cannot count; then only nodes are shown.
func NewInventory(counter Counter, registry Registry, reg prometheus.Registerer) (*Inventory, error) {
	v := &Inventory{
		counter: counter, registry: registry,
		sandboxes: prometheus.NewDesc("opensandbox_sandboxes", "Sandboxes that clients see, by node (empty: not placed yet) and state.", []string{"node", "state"}, nil),
		leaseAge:  prometheus.NewDesc("opensandbox_node_lease_age_seconds", "Time since the agent of a node last renewed its lease, by the store's clock.", []string{"node"}, nil),
		draining:  prometheus.NewDesc("opensandbox_node_draining", "1 for a node that gets no new sandboxes, else 0.", []string{"node"}, nil),
		failures:  prometheus.NewCounter(prometheus.CounterOpts{Name: "opensandbox_inventory_read_failures_total", Help: "Readings of the store for metrics that failed."}),
	}
	if err := reg.Register(v); err != nil {
		return nil, fmt.Errorf("register inventory metrics: %w", err)
	}
	return v, nil
}

// Describe implements prometheus.Collector.
func (v *Inventory) Describe(out chan<- *prometheus.Desc) {
	out <- v.sandboxes
	out <- v.leaseAge
	out <- v.draining
	v.failures.Describe(out)
}

// Collect implements prometheus.Collector. It reads the store at most once in two seconds, whatever the number of scrapers.
func (v *Inventory) Collect(out chan<- prometheus.Metric) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.readAt) >= keep {
		ctx, cancel := context.WithTimeout(context.Background(), readLimit)
		defer cancel()
		last, err := v.read(ctx)
		if err != nil {
			v.failures.Inc()
		}
		v.readAt, v.last = time.Now(), last
	}
	for _, m := range v.last {
		out <- m
	}
	v.failures.Collect(out)
}

// read returns what could be read, also with an error.
func (v *Inventory) read(ctx context.Context) ([]prometheus.Metric, error) {
	nodes, err := v.registry.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	now, err := v.registry.Now(ctx)
	if err != nil {
		return nil, err
	}
	var out []prometheus.Metric
	names := map[string]bool{"": true}
	for i := range nodes {
		n := &nodes[i]
		names[n.Name] = true
		age := now.Sub(n.LeaseUntil.Add(-node.LeaseTime))
		draining := 0.0
		if n.Draining {
			draining = 1
		}
		out = append(out, prometheus.MustNewConstMetric(v.leaseAge, prometheus.GaugeValue, max(0, age.Seconds()), n.Name),
			prometheus.MustNewConstMetric(v.draining, prometheus.GaugeValue, draining, n.Name))
	}
	if v.counter == nil {
		return out, nil
	}
	counts, err := v.counter.Counts(ctx)
	if err != nil {
		return out, err
	}
	for k := range counts {
		names[k.Node] = true // a node that was removed may still have sandboxes
	}
	for name := range names {
		for _, s := range sandbox.States() {
			n := counts[NodeState{name, s}]
			out = append(out, prometheus.MustNewConstMetric(v.sandboxes, prometheus.GaugeValue, float64(n), name, string(s)))
		}
	}
	return out, nil
}
