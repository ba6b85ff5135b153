// Package telemetry builds the logger of a process. Loggers and registries are passed on as arguments; there are no global ones.
package telemetry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Logger returns a logger that writes to w. level is DEBUG, INFO, WARNING, ERROR or CRITICAL in any case, the names of OpenSandbox 1.1.1;
// format is text or json. requestID adds the id of the request that a line belongs to.
func Logger(w io.Writer, level, format string, requestID func(context.Context) string) (*slog.Logger, error) {
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
	return slog.New(withID{h, requestID}), nil
}

// withID adds the request id to each line.
type withID struct {
	slog.Handler
	id func(context.Context) string
}

func (h withID) Handle(ctx context.Context, r slog.Record) error {
	if id := h.id(ctx); id != "" {
		r.AddAttrs(slog.String("request", id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h withID) WithAttrs(a []slog.Attr) slog.Handler { return withID{h.Handler.WithAttrs(a), h.id} }
func (h withID) WithGroup(n string) slog.Handler      { return withID{h.Handler.WithGroup(n), h.id} }
