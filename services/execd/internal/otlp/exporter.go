package otlp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// pushTimeout bounds one push, as OpenTelemetry defines it.
	pushTimeout = 10 * time.Second
	// lastPush bounds the one at the end: a sandbox does not wait for a collector.
	lastPush = 500 * time.Millisecond
	// maxSeries bounds the memory that series take. Their attributes come from closed sets, so it is never reached.
	maxSeries = 2000
)

// bounds are the limits of the buckets, in milliseconds, that OpenTelemetry gives histograms by default.
var bounds = []float64{0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000}

// Reading is a value that is read at the time of a push.
type Reading struct {
	Name, Unit string
	Attributes []Attribute
	Value      float64
	// Counter says that the value only grows; otherwise it is a gauge.
	Counter bool
}

// Exporter collects durations and pushes them with the readings. Its methods may be called concurrently.
type Exporter struct {
	cfg    Config
	read   func(context.Context) []Reading
	log    *slog.Logger
	client *http.Client
	began  time.Time

	mu     sync.Mutex
	series map[string]*histogram // By name and attributes.
}

type histogram struct {
	name       string
	attributes []Attribute
	count      uint64
	sum        float64
	buckets    []uint64
}

// New returns an Exporter. read gives the values of one moment; it may take a while.
func New(cfg Config, read func(context.Context) []Reading, log *slog.Logger) *Exporter {
	return &Exporter{cfg: cfg, read: read, log: log, client: &http.Client{Timeout: pushTimeout}, began: time.Now(), series: map[string]*histogram{}}
}

// Duration adds one duration to a histogram in milliseconds.
func (e *Exporter) Duration(name string, took time.Duration, attributes ...Attribute) {
	key := name
	for _, a := range attributes {
		key += "\x00" + a.Key + "\x00" + a.Value
	}
	ms := float64(took) / float64(time.Millisecond)
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.series[key]
	if h == nil {
		if len(e.series) >= maxSeries {
			return
		}
		h = &histogram{name: name, attributes: attributes, buckets: make([]uint64, len(bounds)+1)}
		e.series[key] = h
	}
	i, _ := slices.BinarySearch(bounds, ms) // A bucket includes its upper limit.
	h.buckets[i]++
	h.count++
	h.sum += ms
}

// Run pushes at every interval until ctx ends, and then once more. A collector that is away is one log line, not one per push: the
// next push holds everything.
func (e *Exporter) Run(ctx context.Context) {
	defer e.client.CloseIdleConnections()
	t := time.NewTicker(e.cfg.Interval)
	defer t.Stop()
	healthy := true
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastPush)
			defer cancel()
			if err := e.push(last); err != nil && healthy {
				e.log.Warn("metrics not pushed", "error", err)
			}
			return
		case <-t.C:
		}
		err := e.push(ctx)
		if err != nil && healthy && ctx.Err() == nil {
			e.log.Warn("metrics not pushed", "error", err)
		}
		healthy = err == nil
	}
}

func (e *Exporter) push(ctx context.Context) error {
	body, err := json.Marshal(e.snapshot(e.read(ctx), time.Now()))
	if err != nil {
		return fmt.Errorf("encode metrics: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.cfg.Endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for _, h := range e.cfg.Headers {
		req.Header.Set(h.Key, h.Value)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // So that the connection can be kept.
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answered %s", res.Status)
	}
	return nil
}

// snapshot builds the message of one moment.
func (e *Exporter) snapshot(readings []Reading, now time.Time) message {
	byName := map[string]*metric{}
	var metrics []*metric
	get := func(name, unit string) *metric {
		m := byName[name]
		if m == nil {
			m = &metric{Name: name, Unit: unit}
			byName[name], metrics = m, append(metrics, m)
		}
		return m
	}
	e.mu.Lock()
	for _, h := range e.series {
		m := get(h.name, "ms")
		if m.Histogram == nil {
			m.Histogram = &histogramData{Temporality: cumulative}
		}
		p := histogramPoint{Start: nanos(e.began), Time: nanos(now), Attributes: e.attributes(h.attributes), Count: number(h.count), Sum: h.sum, Bounds: bounds}
		for _, n := range h.buckets {
			p.Buckets = append(p.Buckets, number(n))
		}
		m.Histogram.Points = append(m.Histogram.Points, p)
	}
	e.mu.Unlock()
	for _, r := range readings {
		m := get(r.Name, r.Unit)
		p := point{Time: nanos(now), Attributes: e.attributes(r.Attributes), Value: r.Value}
		if r.Counter {
			if p.Start = nanos(e.began); m.Sum == nil {
				m.Sum = &sumData{Temporality: cumulative, Monotonic: true}
			}
			m.Sum.Points = append(m.Sum.Points, p)
			continue
		}
		if m.Gauge == nil {
			m.Gauge = &gaugeData{}
		}
		m.Gauge.Points = append(m.Gauge.Points, p)
	}
	slices.SortFunc(metrics, func(a, b *metric) int { return strings.Compare(a.Name, b.Name) })
	return message{[]resourceMetrics{{
		Resource: resource{keyValues(e.cfg.Resource)},
		Scopes:   []scopeMetrics{{Scope: scope{"opensandbox/execd"}, Metrics: metrics}},
	}}}
}

func (e *Exporter) attributes(own []Attribute) []keyValue {
	return append(keyValues(own), keyValues(e.cfg.Common)...)
}
