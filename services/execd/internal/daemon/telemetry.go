package daemon

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"opensandbox/services/execd/internal/environ"
	"opensandbox/services/execd/internal/httpapi"
	"opensandbox/services/execd/internal/metrics"
	"opensandbox/services/execd/internal/otlp"
)

// operations names the file routes as the metrics of OpenSandbox 1.1.1 do.
var operations = map[string]string{
	"GET /files/info": "info", "DELETE /files": "delete", "POST /files/permissions": "chmod", "POST /files/mv": "rename",
	"POST /directories": "mkdir", "DELETE /directories": "rmdir", "GET /directories/list": "listdir", "GET /files/search": "search",
	"POST /files/replace": "replace", "POST /files/upload": "upload", "GET /files/download": "download",
}

// measure makes cfg report to a collector, if the environment names one, until a.close. A mistake there costs the metrics only.
func (a *app) measure(cfg *httpapi.Config, env []string, log *slog.Logger) {
	oc, err := otlp.FromEnv(environ.In(env), version())
	if err != nil {
		log.Warn("metrics are not pushed", "error", err)
	}
	if oc == nil {
		return
	}
	e := otlp.New(*oc, func(ctx context.Context) []otlp.Reading { return readings(ctx, cfg.Metrics) }, log)
	cfg.Observer = func(method, route string, status int, took time.Duration) {
		e.Duration("execd.http.request.duration", took, otlp.Attribute{Key: "http_method", Value: knownMethod(method)},
			otlp.Attribute{Key: "http_route", Value: route}, otlp.Attribute{Key: "http_status_code", Value: strconv.Itoa(status)})
		if op, ok := operations[method+" "+strings.TrimPrefix(route, "/v1/filesystem/{}/{}")]; ok {
			e.Duration("execd.filesystem.operations.duration", took, otlp.Attribute{Key: "operation", Value: op}, result(status < 400))
		}
	}
	cfg.Executed = func(operation string, ok bool, took time.Duration) {
		e.Duration("execd.execution.duration", took, otlp.Attribute{Key: "operation", Value: operation}, result(ok))
	}
	a.background.Go(func() { e.Run(a.ctx) })
}

func result(ok bool) otlp.Attribute {
	if ok {
		return otlp.Attribute{Key: "result", Value: "success"}
	}
	return otlp.Attribute{Key: "result", Value: "failure"}
}

// knownMethod keeps the words of strangers out of the attributes.
func knownMethod(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return method
	}
	return "unknown"
}

// readings are the gauges of OpenSandbox 1.1.1. What cannot be read is left out.
func readings(ctx context.Context, m *metrics.Sampler) []otlp.Reading {
	var out []otlp.Reading
	if s, err := m.Sample(ctx); err == nil {
		out = append(out, otlp.Reading{Name: "execd.system.cpu.usage", Unit: "%", Value: s.CPUUsedPct},
			otlp.Reading{Name: "execd.system.memory.usage_bytes", Unit: "By", Value: s.MemUsedMiB * (1 << 20)})
	}
	s, err := m.System()
	if err != nil {
		return out
	}
	direction := func(v string) []otlp.Attribute { return []otlp.Attribute{{Key: "direction", Value: v}} }
	protocol := func(v string) []otlp.Attribute { return []otlp.Attribute{{Key: "protocol", Value: v}} }
	const io, open = "execd.system.network.io.bytes", "execd.system.network.connections.active"
	return append(out, otlp.Reading{Name: "execd.system.process.count", Value: float64(s.Processes)},
		otlp.Reading{Name: io, Unit: "By", Attributes: direction("in"), Value: float64(s.Received), Counter: true},
		otlp.Reading{Name: io, Unit: "By", Attributes: direction("out"), Value: float64(s.Sent), Counter: true},
		otlp.Reading{Name: open, Attributes: protocol("tcp"), Value: float64(s.TCP)},
		otlp.Reading{Name: open, Attributes: protocol("udp"), Value: float64(s.UDP)})
}
