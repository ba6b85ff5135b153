// Package telemetry builds what a process tells of itself: its logger, its metrics registry and its tracer provider. All three are
// values that are passed on as arguments; there are no global ones.
//
// It knows nothing of what is logged, counted or traced.
package telemetry

import (
	"context"
	"io"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"
)

// Config of a process's telemetry.
type Config struct {
	// Service and Version name the process in traces; OTEL_SERVICE_NAME replaces Service.
	Service, Version string
	// LogTo receives the log. Level and Format are those of Logger.
	LogTo         io.Writer
	Level, Format string
	// Origin tells what log lines belong to.
	Origin Origin
	// Lookup reads an environment variable, as os.LookupEnv does.
	Lookup func(string) (string, bool)
}

// Telemetry is what New builds.
type Telemetry struct {
	Log      *slog.Logger
	Registry *prometheus.Registry
	// Tracers does nothing, at no cost worth naming, unless an OTLP endpoint is configured.
	Tracers trace.TracerProvider
	// Shutdown sends the spans that are still held back. It takes at most ShutdownLimit, and works although ctx may have ended.
	Shutdown func(ctx context.Context) error
}

// New builds all three. The caller must call Shutdown at the end.
func New(ctx context.Context, cfg Config) (Telemetry, error) {
	log, err := Logger(cfg.LogTo, cfg.Level, cfg.Format, cfg.Origin)
	if err != nil {
		return Telemetry{}, err
	}
	tracers, shutdown, err := Tracers(ctx, cfg.Service, cfg.Version, cfg.Lookup, log)
	if err != nil {
		return Telemetry{}, err
	}
	return Telemetry{Log: log, Registry: Registry(), Tracers: tracers, Shutdown: shutdown}, nil
}

// Registry returns a metrics registry with the metrics of the Go runtime and of the process.
func Registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
