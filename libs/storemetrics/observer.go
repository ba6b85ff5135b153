// Package storemetrics measures a store from the outside: the duration and outcome of each operation of the ports sandbox.Store and
// node.Registry, a span for each, and what is in the store: sandboxes by state and node, and the age of the nodes' leases.
//
// It knows no store: the same numbers mean the same for all of them.
package storemetrics

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Outcomes of an operation, a closed set.
const (
	// OutcomeOK also covers answers that find nothing to do.
	OutcomeOK = "ok"
	// OutcomeStale: a guard did not hold. Normal where several processes race.
	OutcomeStale       = "stale"
	OutcomeConflict    = "conflict"
	OutcomeNotFound    = "notfound"
	OutcomeUnavailable = "unavailable"
	// OutcomeCanceled: the caller gave up. It says nothing about the store.
	OutcomeCanceled = "canceled"
	OutcomeError    = "error"
)

// Outcome returns the outcome that err stands for.
func Outcome(err error) string {
	switch {
	case err == nil:
		return OutcomeOK
	case sandbox.IsStale(err):
		return OutcomeStale
	case fault.CodeOf(err) == sandbox.ReasonNoCapacity:
		return OutcomeConflict // the answer of a store that works: nothing fits
	case errors.Is(err, context.Canceled):
		return OutcomeCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return OutcomeUnavailable
	}
	switch fault.KindOf(err) {
	case fault.Conflict:
		return OutcomeConflict
	case fault.NotFound:
		return OutcomeNotFound
	case fault.Unavailable:
		return OutcomeUnavailable
	}
	return OutcomeError
}

// observer measures calls.
type observer struct {
	durations *prometheus.HistogramVec
	tracer    trace.Tracer
}

// newObserver registers the histogram. Without reg nothing is registered, without tracers there are no spans.
func newObserver(reg prometheus.Registerer, tracers trace.TracerProvider) (*observer, error) {
	o := &observer{durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "opensandbox_store_operation_duration_seconds", Help: "Duration of store operations by operation and outcome.",
		Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	}, []string{"operation", "outcome"})}
	if tracers != nil {
		o.tracer = tracers.Tracer("opensandbox/libs/storemetrics")
	}
	if reg == nil {
		return o, nil
	}
	if err := reg.Register(o.durations); err != nil {
		return nil, fmt.Errorf("register store metrics: %w", err)
	}
	return o, nil
}

// span begins a span if ctx belongs to a trace: loops that poll the store would fill a collector with traces of nothing.
func (o *observer) span(ctx context.Context, operation string) (context.Context, trace.Span) {
	if o.tracer == nil || !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, nil
	}
	return o.tracer.Start(ctx, "store "+operation, trace.WithSpanKind(trace.SpanKindClient))
}

// call measures an operation that only returns an error.
func call(ctx context.Context, o *observer, operation string, do func(context.Context) error) error {
	began := time.Now()
	ctx, span := o.span(ctx, operation)
	err := do(ctx)
	outcome := Outcome(err)
	o.durations.WithLabelValues(operation, outcome).Observe(time.Since(began).Seconds())
	if span != nil {
		span.SetAttributes(attribute.String("opensandbox.outcome", outcome))
		if outcome == OutcomeUnavailable || outcome == OutcomeError {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
	return err
}

// read measures an operation with a result.
func read[T any](ctx context.Context, o *observer, operation string, do func(context.Context) (T, error)) (T, error) {
	var result T
	err := call(ctx, o, operation, func(ctx context.Context) error {
		var err error
		result, err = do(ctx)
		return err
	})
	return result, err
}
