// Package otlp pushes metrics of this daemon to an OpenTelemetry collector: OTLP 1.x over HTTP in its JSON form. It is written by
// hand because the official exporter brings gRPC and protocol buffers, which would double a program that is in every sandbox (ADR 15).
package otlp

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"opensandbox/services/execd/internal/environ"
)

const (
	// defaultInterval is the time between two pushes, as OpenTelemetry defines it.
	defaultInterval = time.Minute
	// minInterval keeps a mistake from becoming load.
	minInterval = 100 * time.Millisecond
	metricsPath = "/v1/metrics"
)

// Attribute is one key and its text.
type Attribute struct{ Key, Value string }

// Config is where and as whom to push.
type Config struct {
	// Endpoint is the whole URL.
	Endpoint string
	Headers  []Attribute
	Interval time.Duration
	// Resource names this daemon; Common is added to every data point, as OpenSandbox 1.1.1 does.
	Resource, Common []Attribute
}

// FromEnv reads the variables of OpenTelemetry and those of OpenSandbox 1.1.1. The Config is nil when nothing is to be pushed: without
// an endpoint, or when it was switched off. OpenSandbox 1.1.1 guesses an endpoint from HOST_IP too; its documentation says that it
// does not, and this one does not.
func FromEnv(lookup environ.Lookup, version string) (*Config, error) {
	get := func(name string) string { v, _ := lookup(name); return strings.TrimSpace(v) }
	if strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") || get("OTEL_METRICS_EXPORTER") == "none" {
		return nil, nil
	}
	endpoint, name := get("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"), "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
	if endpoint == "" {
		if endpoint, name = get("OTEL_EXPORTER_OTLP_ENDPOINT"), "OTEL_EXPORTER_OTLP_ENDPOINT"; endpoint == "" {
			return nil, nil
		}
		endpoint = strings.TrimRight(endpoint, "/") + metricsPath
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s is not a URL of the form http://host:port", name) // It may hold a password.
	}
	c := &Config{Endpoint: endpoint, Interval: defaultInterval}
	if text := get("OTEL_METRIC_EXPORT_INTERVAL"); text != "" {
		ms, err := strconv.ParseInt(text, 10, 32)
		if err != nil || ms < minInterval.Milliseconds() {
			return nil, fmt.Errorf("OTEL_METRIC_EXPORT_INTERVAL: %q is not a number of milliseconds from %d on", text, minInterval.Milliseconds())
		}
		c.Interval = time.Duration(ms) * time.Millisecond
	}
	if c.Headers, err = pairs(get("OTEL_EXPORTER_OTLP_METRICS_HEADERS")); len(c.Headers) == 0 && err == nil {
		c.Headers, err = pairs(get("OTEL_EXPORTER_OTLP_HEADERS"))
	}
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_HEADERS: %w", err)
	}
	c.Resource = []Attribute{{"service.name", "opensandbox-execd-" + version}}
	if id := get("OPENSANDBOX_ID"); id != "" {
		c.Common = append(c.Common, Attribute{"sandbox_id", id})
		c.Resource = append(c.Resource, Attribute{"sandbox_id", id})
	}
	extra, err := pairs(get("OPENSANDBOX_EXECD_METRICS_EXTRA_ATTRS"))
	if err != nil {
		return nil, fmt.Errorf("OPENSANDBOX_EXECD_METRICS_EXTRA_ATTRS: %w", err)
	}
	c.Common = append(c.Common, extra...)
	return c, nil
}

// pairs reads k=v,k2=v2; values may be percent-encoded. Texts are not repeated in errors: they may be secret.
func pairs(text string) ([]Attribute, error) {
	var out []Attribute
	for item := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(item) == "" {
			continue
		}
		k, v, ok := strings.Cut(item, "=")
		k = strings.TrimSpace(k)
		value, err := url.PathUnescape(strings.TrimSpace(v))
		if !ok || k == "" || err != nil || strings.ContainsAny(k+value, "\r\n\x00") {
			return nil, fmt.Errorf("entry %d is not of the form name=value", len(out)+1)
		}
		out = append(slices.DeleteFunc(out, func(a Attribute) bool { return a.Key == k }), Attribute{k, value})
	}
	return out, nil
}
