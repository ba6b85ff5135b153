package kitx

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"opensandbox/libs/fault"
)

// unmatched is the route of requests that no pattern matches: the path of a stranger is never a label.
const unmatched = "unmatched"

func newRequests() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "opensandbox_http_request_duration_seconds", Help: "Duration of API requests by route pattern, method and status.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20},
	}, []string{"route", "method", "status"})
}

// observe wraps an operation: it recovers from panics, counts, traces and logs.
func (k *Kit) observe(pattern string, op OpInfo, next http.Handler) http.Handler {
	method, route, found := strings.Cut(pattern, " ")
	if !found {
		method, route = "any", pattern
	}
	requests := k.requests.MustCurryWith(prometheus.Labels{"route": route, "method": method})
	begin := k.spans(method, route, op)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		ctx, end := begin(r)
		seen := &statusWriter{ResponseWriter: w}
		defer func() {
			p := recover()
			abort, _ := p.(error)
			if errors.Is(abort, http.ErrAbortHandler) {
				defer panic(p) // net/http cuts the connection; swallowed here, the client would get an empty 200
			} else if p != nil {
				k.log.ErrorContext(ctx, "panic", "operation", op.Name, "panic", p, "stack", string(debug.Stack()))
				if seen.status == 0 {
					WriteError(seen, fault.New(fault.Internal, "internal error"))
				}
			}
			took := time.Since(began)
			requests.WithLabelValues(statusLabel(seen.status)).Observe(took.Seconds())
			k.log.DebugContext(ctx, "request", "operation", op.Name, "method", r.Method, "path", r.URL.Path, "status", seen.status, "took", took)
			end(seen.status)
		}()
		if ctx != r.Context() {
			r = r.WithContext(ctx)
		}
		next.ServeHTTP(seen, r)
	})
}

// spans returns how the spans of a route begin and end. Without a tracer that costs nothing.
func (k *Kit) spans(method, route string, op OpInfo) func(*http.Request) (context.Context, func(status int)) {
	nothing := func(int) {}
	if k.tracer == nil {
		return func(r *http.Request) (context.Context, func(int)) { return r.Context(), nothing }
	}
	name := method + " " + route
	start := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", method), attribute.String("http.route", route), attribute.String("opensandbox.operation", op.Name))}
	return func(r *http.Request) (context.Context, func(int)) {
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := k.tracer.Start(ctx, name, start...)
		if !span.IsRecording() {
			return ctx, nothing
		}
		return ctx, func(status int) {
			span.SetAttributes(attribute.Int("http.response.status_code", status))
			if status >= http.StatusInternalServerError || status == 0 {
				span.SetStatus(codes.Error, http.StatusText(status))
			}
			span.End()
		}
	}
}

// noRoute answers and counts a request that has no route.
func (k *Kit) noRoute(w http.ResponseWriter, r *http.Request, err error) {
	began := time.Now()
	WriteError(w, err)
	k.requests.WithLabelValues(unmatched, methodLabel(r.Method), statusLabel(status(err))).Observe(time.Since(began).Seconds())
}

// methods are those that have a label of their own; strangers may send any word.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions}

func methodLabel(m string) string {
	if slices.Contains(methods, m) {
		return m
	}
	return "other"
}

// statusLabel is the code; "none" for a request that was cut off before its answer began.
func statusLabel(code int) string {
	if code == 0 {
		return "none"
	}
	return strconv.Itoa(code)
}

// statusWriter remembers the status. Unwrap keeps http.ResponseController working.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (s *statusWriter) WriteHeader(code int) {
	if s.status == 0 {
		s.status = code
	}
	s.ResponseWriter.WriteHeader(code)
}

func (s *statusWriter) Write(b []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return s.ResponseWriter.Write(b)
}

func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
