package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// ShutdownLimit is the longest time that the end of a process waits for a trace collector.
const ShutdownLimit = 5 * time.Second

// Tracers returns a tracer provider that sends spans by OTLP over HTTP to the endpoint in the standard variables of OpenTelemetry, and
// the function that ends it. Without an endpoint, with OTEL_SDK_DISABLED=true or with OTEL_TRACES_EXPORTER=none it makes no spans and
// the function does nothing. Endpoint, exporter and protocol are read through lookup; what concerns only an exporter that is in use
// (OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, OTEL_BSP_…, OTEL_RESOURCE_ATTRIBUTES) is read from the environment by the SDK itself.
//
// A collector that is away costs spans, never requests: it is logged when that begins and when it is over.
func Tracers(ctx context.Context, service, version string, lookup func(string) (string, bool), log *slog.Logger) (trace.TracerProvider, func(context.Context) error, error) {
	endpoint, err := traceEndpoint(lookup)
	if err != nil {
		return nil, nil, err
	}
	if endpoint == "" {
		return noop.NewTracerProvider(), func(context.Context) error { return nil }, nil
	}
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", service), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, nil, fmt.Errorf("describe this process to OpenTelemetry: %w", err)
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint))
	if err != nil {
		return nil, nil, fmt.Errorf("OTLP exporter: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(&loggedExporter{SpanExporter: exporter, log: log}))
	return provider, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), ShutdownLimit)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			return fmt.Errorf("end tracing: %w", err)
		}
		return nil
	}, nil
}

// traceEndpoint returns where spans go, or "" for nowhere, by the rules of the OpenTelemetry specification: the variable for traces is
// the whole URL, the general one is a base.
func traceEndpoint(lookup func(string) (string, bool)) (string, error) {
	get := func(keys ...string) (key, value string) {
		for _, key := range keys {
			if v, _ := lookup(key); strings.TrimSpace(v) != "" {
				return key, strings.TrimSpace(v)
			}
		}
		return "", ""
	}
	if _, off := get("OTEL_SDK_DISABLED"); strings.EqualFold(off, "true") {
		return "", nil
	}
	if key, kind := get("OTEL_TRACES_EXPORTER"); kind == "none" {
		return "", nil
	} else if kind != "" && kind != "otlp" {
		return "", fmt.Errorf("%s=%q: only otlp and none are supported", key, kind)
	}
	key, endpoint := get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	if endpoint == "" {
		return "", nil
	}
	if key, protocol := get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return "", fmt.Errorf("%s=%q: only http/protobuf is supported", key, protocol)
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		// The value is not repeated: a URL may hold a password.
		return "", errors.New(key + ": expected an http or https URL")
	}
	if key == "OTEL_EXPORTER_OTLP_ENDPOINT" {
		u = u.JoinPath("v1", "traces")
	}
	return u.String(), nil
}

// loggedExporter keeps failures away from the SDK's global error handler, and from filling the log.
type loggedExporter struct {
	sdktrace.SpanExporter
	log     *slog.Logger
	failing atomic.Bool
}

func (e *loggedExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	switch err := e.SpanExporter.ExportSpans(ctx, spans); {
	case err != nil && !e.failing.Swap(true):
		e.log.WarnContext(ctx, "cannot send traces; spans are lost until it works again", "error", err)
	case err == nil && e.failing.Swap(false):
		e.log.InfoContext(ctx, "traces are being sent again")
	}
	return nil
}
