package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// Origin tells what the lines of a log belong to, by the context that they are written under. Fields that are nil know of nothing.
type Origin struct {
	// Request returns the id of a request, or "".
	Request func(context.Context) string
	// Trace returns the trace of what is done outside of a span, as in the W3C header traceparent, or "". Work that polls has a trace and no
	// span of its own.
	Trace func(context.Context) string
}

// Logger returns a logger that writes to w. level is DEBUG, INFO, WARNING, ERROR or CRITICAL in any case, the names of OpenSandbox 1.1.1;
// format is text or json. Each line names the request, the trace and the span that it belongs to.
func Logger(w io.Writer, level, format string, of Origin) (*slog.Logger, error) {
	levels := map[string]slog.Level{
		"DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo, "WARNING": slog.LevelWarn, "WARN": slog.LevelWarn,
		"ERROR": slog.LevelError, "CRITICAL": slog.LevelError,
	}
	l, ok := levels[strings.ToUpper(level)]
	if !ok {
		return nil, fmt.Errorf("log level %q: expected DEBUG, INFO, WARNING, ERROR or CRITICAL", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	var h slog.Handler
	switch format {
	case "text":
		h = slog.NewTextHandler(w, opts)
	case "json":
		h = slog.NewJSONHandler(w, opts)
	default:
		return nil, fmt.Errorf("log format %q: expected text or json", format)
	}
	none := func(context.Context) string { return "" }
	if of.Request == nil {
		of.Request = none
	}
	if of.Trace == nil {
		of.Trace = none
	}
	return slog.New(withOrigin{h, of}), nil
}

// withOrigin adds to each line what it belongs to. Without request and trace a line costs two look-ups in its context.
type withOrigin struct {
	slog.Handler
	of Origin
}

func (h withOrigin) Handle(ctx context.Context, r slog.Record) error {
	if id := h.of.Request(ctx); id != "" {
		r.AddAttrs(slog.String("request", id))
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	} else if sc := trace.SpanContextFromContext(Extract(ctx, h.of.Trace(ctx))); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h withOrigin) WithAttrs(a []slog.Attr) slog.Handler {
	return withOrigin{h.Handler.WithAttrs(a), h.of}
}

func (h withOrigin) WithGroup(n string) slog.Handler {
	return withOrigin{h.Handler.WithGroup(n), h.of}
}
