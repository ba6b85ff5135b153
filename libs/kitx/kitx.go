// Package kitx is the glue between typed use cases and HTTP, on go-kit's endpoint and transport. It is the only package that imports
// go-kit. A route costs one line: Route(kit, "DELETE /things/{id}", Op("DeleteThing", 204), decode, use).
//
// It knows nothing of what the routes are about.
package kitx

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"path"
	"slices"
	"strconv"

	"github.com/go-kit/kit/endpoint"
	kithttp "github.com/go-kit/kit/transport/http"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"opensandbox/libs/fault"
)

// Kit collects routes and serves them. Routes are added before it serves.
type Kit struct {
	mux      *http.ServeMux
	log      *slog.Logger
	requests *prometheus.HistogramVec
	tracer   trace.Tracer
	expected func(error) bool
	patterns []string
}

// Option changes a Kit.
type Option func(*Kit)

// Traced makes the Kit continue the trace of a request (W3C header traceparent), or begin one, with a span for each operation. Without
// it requests belong to no trace.
func Traced(tracers trace.TracerProvider) Option {
	return func(k *Kit) { k.tracer = tracers.Tracer("opensandbox/libs/kitx") }
}

// Expected names errors with a status of 500 or more that are an answer and no fault of the server: they are logged as information.
func Expected(is func(error) bool) Option { return func(k *Kit) { k.expected = is } }

// New returns a Kit without routes. Its metrics are registered with reg.
func New(log *slog.Logger, reg prometheus.Registerer, options ...Option) (*Kit, error) {
	k := &Kit{mux: http.NewServeMux(), log: log, requests: newRequests(), expected: func(error) bool { return false }}
	for _, o := range options {
		o(k)
	}
	if err := reg.Register(k.requests); err != nil {
		return nil, fmt.Errorf("register request metrics: %w", err)
	}
	return k, nil
}

// OpInfo names an operation and the status of its success.
type OpInfo struct {
	Name   string
	Status int
}

// Op returns an OpInfo. Names come from a closed set: they are labels of metrics.
func Op(name string, status int) OpInfo { return OpInfo{name, status} }

// None is the request or response of an operation that has none. As a response it is written as an empty body with Content-Length 0,
// which some published clients insist on.
type None struct{}

// Headerer is a response, or an error, that has headers of its own. They replace those of the same name.
type Headerer interface{ Headers() http.Header }

// Text is a response that is sent as plain text in UTF-8 instead of JSON.
type Text struct {
	Body string
	// Header is sent with it; it may be nil.
	Header http.Header
}

// Headers implements Headerer.
func (t Text) Headers() http.Header { return t.Header }

// Route adds an operation: decode turns the request into Req, do is the use case, and its result is written as JSON. Errors of both go
// through WriteError. A panic of either is logged and answered with 500.
func Route[Req, Resp any](k *Kit, pattern string, op OpInfo, decode func(context.Context, *http.Request) (Req, error), do func(context.Context, Req) (Resp, error)) {
	var ep endpoint.Endpoint = func(ctx context.Context, request any) (any, error) { return do(ctx, request.(Req)) }
	server := kithttp.NewServer(ep,
		func(ctx context.Context, r *http.Request) (any, error) { return decode(ctx, r) },
		func(_ context.Context, w http.ResponseWriter, response any) error {
			return write(w, op.Status, response)
		},
		kithttp.ServerErrorEncoder(func(ctx context.Context, err error, w http.ResponseWriter) {
			k.fail(ctx, op, err)
			WriteError(w, err)
		}),
		kithttp.ServerErrorHandler(silent{}),
	)
	k.Handle(pattern, op, server)
}

// Handle adds an operation that reads its request and writes its answer itself. It is recovered from and observed as all others are.
func (k *Kit) Handle(pattern string, op OpInfo, h http.Handler) {
	k.patterns = append(k.patterns, pattern)
	k.mux.Handle(pattern, k.observe(pattern, op, h))
}

// Patterns returns the patterns of all routes, in the order in which they were added.
func (k *Kit) Patterns() []string { return slices.Clone(k.patterns) }

// silent is go-kit's error handler: errors are logged where they are encoded, once.
type silent struct{}

func (silent) Handle(context.Context, error) {}

// fail logs what a client is not told. Only our own faults are loud.
func (k *Kit) fail(ctx context.Context, op OpInfo, err error) {
	level := slog.LevelDebug
	switch {
	case status(err) < http.StatusInternalServerError || fault.Is(err, fault.Unsupported) || errors.Is(err, context.Canceled):
	case k.expected(err):
		level = slog.LevelInfo
	default:
		level = slog.LevelError
	}
	k.log.Log(ctx, level, "request failed", "operation", op.Name, "error", err)
}

// ServeHTTP serves the routes. Paths and methods without a route get the envelope, never the mux's text.
func (k *Kit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c := path.Clean("/" + r.URL.Path); c != r.URL.Path && c+"/" != r.URL.Path {
		// The mux would answer with a redirect to the clean path, which published clients take for an error.
		k.noRoute(w, r, fault.New(fault.NotFound, "there is no such route"))
		return
	}
	h, pattern := k.mux.Handler(r)
	if pattern != "" {
		k.mux.ServeHTTP(w, r)
		return
	}
	probe := &headerOnly{header: http.Header{}}
	h.ServeHTTP(probe, r)
	if probe.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", probe.header.Get("Allow"))
		k.noRoute(w, r, fault.Newf(fault.MethodNotAllowed, "%s is not allowed here; allowed: %s", r.Method, probe.header.Get("Allow")))
		return
	}
	k.noRoute(w, r, fault.New(fault.NotFound, "there is no such route"))
}

func write(w http.ResponseWriter, code int, response any) error {
	if own, ok := response.(Headerer); ok {
		maps.Copy(w.Header(), own.Headers())
	}
	if text, ok := response.(Text); ok {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		send(w, code, []byte(text.Body))
		return nil
	}
	if _, none := response.(None); none {
		if code != http.StatusNoContent {
			w.Header().Set("Content-Length", "0")
		}
		w.WriteHeader(code)
		return nil
	}
	body, err := json.Marshal(response)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	send(w, code, body)
	return nil
}

func send(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body) // the client may have gone
}

// headerOnly takes what the mux would have answered without sending it.
type headerOnly struct {
	header http.Header
	status int
}

func (h *headerOnly) Header() http.Header         { return h.header }
func (h *headerOnly) Write(b []byte) (int, error) { return len(b), nil }
func (h *headerOnly) WriteHeader(code int)        { h.status = code }
