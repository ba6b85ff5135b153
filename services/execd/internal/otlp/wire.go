package otlp

import (
	"strconv"
	"time"
)

// The types below are the JSON form of ExportMetricsServiceRequest of OTLP 1.x: names in camel case, 64-bit integers as text.

type message struct {
	Resources []resourceMetrics `json:"resourceMetrics"`
}

type resourceMetrics struct {
	Resource resource       `json:"resource"`
	Scopes   []scopeMetrics `json:"scopeMetrics"`
}

type resource struct {
	Attributes []keyValue `json:"attributes"`
}

type scopeMetrics struct {
	Scope   scope     `json:"scope"`
	Metrics []*metric `json:"metrics"`
}

type scope struct {
	Name string `json:"name"`
}

// metric has exactly one of the three kinds.
type metric struct {
	Name      string         `json:"name"`
	Unit      string         `json:"unit,omitempty"`
	Histogram *histogramData `json:"histogram,omitempty"`
	Sum       *sumData       `json:"sum,omitempty"`
	Gauge     *gaugeData     `json:"gauge,omitempty"`
}

// cumulative is AGGREGATION_TEMPORALITY_CUMULATIVE: every value counts from the start of the process.
const cumulative = 2

type histogramData struct {
	Temporality int              `json:"aggregationTemporality"`
	Points      []histogramPoint `json:"dataPoints"`
}

type histogramPoint struct {
	Attributes []keyValue `json:"attributes"`
	Start      string     `json:"startTimeUnixNano"`
	Time       string     `json:"timeUnixNano"`
	Count      string     `json:"count"`
	Sum        float64    `json:"sum"`
	Buckets    []string   `json:"bucketCounts"`
	Bounds     []float64  `json:"explicitBounds"`
}

type sumData struct {
	Temporality int     `json:"aggregationTemporality"`
	Monotonic   bool    `json:"isMonotonic"`
	Points      []point `json:"dataPoints"`
}

type gaugeData struct {
	Points []point `json:"dataPoints"`
}

type point struct {
	Attributes []keyValue `json:"attributes"`
	Start      string     `json:"startTimeUnixNano,omitempty"`
	Time       string     `json:"timeUnixNano"`
	Value      float64    `json:"asDouble"`
}

type keyValue struct {
	Key   string    `json:"key"`
	Value textValue `json:"value"`
}

type textValue struct {
	Text string `json:"stringValue"`
}

func keyValues(attributes []Attribute) []keyValue {
	out := make([]keyValue, len(attributes))
	for i, a := range attributes {
		out[i] = keyValue{a.Key, textValue{a.Value}}
	}
	return out
}

func nanos(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

func number(n uint64) string { return strconv.FormatUint(n, 10) }
