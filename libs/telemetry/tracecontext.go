package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traceparent is the header of the W3C Trace Context recommendation, and what travels with a record.
const traceparent = "traceparent"

// Inject returns the trace and span of ctx in the form of the W3C header traceparent (55 bytes), or "" when ctx belongs to none. It is
// what a record carries, so that other processes can continue the trace of the request that made it.
func Inject(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceparent]
}

// Extract returns ctx as a part of the trace that Inject wrote down. Text that is no traceparent leaves ctx as it is.
func Extract(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceparent: parent})
}

// StartWork begins a span named name for a piece of work on a record whose trace is parent, and returns the function that ends it with
// the outcome. Names come from a closed set.
type StartWork func(ctx context.Context, parent, name string) (context.Context, func(error))

// Work returns a StartWork that uses tracers; nil makes one that only passes the trace on, for logs. Work without a parent gets no span: a process that
// polls would fill a collector with traces that nobody asked for.
func Work(tracers trace.TracerProvider) StartWork {
	nothing := func(error) {}
	if tracers == nil {
		return func(ctx context.Context, parent, _ string) (context.Context, func(error)) {
			return Extract(ctx, parent), nothing
		}
	}
	tracer := tracers.Tracer("opensandbox/work")
	return func(ctx context.Context, parent, name string) (context.Context, func(error)) {
		ctx = Extract(ctx, parent)
		if !trace.SpanContextFromContext(ctx).IsValid() {
			return ctx, nothing
		}
		ctx, span := tracer.Start(ctx, name)
		return ctx, func(err error) {
			if err != nil {
				span.SetStatus(codes.Error, err.Error())
			}
			span.End()
		}
	}
}
