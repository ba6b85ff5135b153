// Package app is the lifecycle API as a part that a program is wired from. Any number may run at once on one store.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"opensandbox/libs/agentrpc"
	"opensandbox/libs/fault"
	"opensandbox/libs/httpx"
	"opensandbox/libs/kitx"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/telemetry"
	"opensandbox/services/api/internal/httpapi"
	"opensandbox/services/api/internal/usecase"
)

// Container ports that each sandbox gets a port of the node for.
const (
	ExecdPort = usecase.ExecdPort
	AppPort   = usecase.AppPort
)

// Config of an api.
type Config struct {
	// Address is host:port of the listener.
	Address string
	// APIKey is what clients send; empty switches authentication off.
	APIKey  string
	Version string
	// PublicHost is where clients reach published ports of nodes that have no host of their own.
	PublicHost string
	// CreateWait is how long a create waits for Running.
	CreateWait time.Duration
	// MaxTimeout bounds the timeout of a create; 0 means no bound.
	MaxTimeout time.Duration
	// KeepAlive is how long an idle connection is kept, Grace how long requests may take at the end.
	KeepAlive, Grace time.Duration
	// DrainDelay is how long the API goes on at the end while its health says 503, so that load balancers turn away first.
	DrainDelay time.Duration
	// MaxConcurrency bounds the requests in progress; 0 means no bound.
	MaxConcurrency int
	// AllowedRuntimes are the isolation runtimes that a create may ask for.
	AllowedRuntimes []string
	// StoreTimeout bounds each call of the store; 0 means no bound. What takes longer is answered with 503.
	StoreTimeout time.Duration
}

// Store is what an api needs of the store.
type Store interface {
	sandbox.Intents
	sandbox.Queries
	sandbox.Hints
	Nodes(ctx context.Context) ([]node.Node, error)
}

// Deps of an api.
type Deps struct {
	Store Store
	// Token returns the access token of an incarnation.
	Token    func(id sandbox.ID, epoch uint64) string
	Registry prometheus.Registerer
	// Live looks at sandboxes through the agents of their nodes; nil: no diagnostics.
	Live agentrpc.LiveReader
	// Tracers, if not nil, make a span for each request.
	Tracers trace.TracerProvider
	Log     *slog.Logger
}

// Waits of OpenSandbox clients: they give a request 30 s, and poll an endpoint that has no address yet.
const (
	changeWait  = 20 * time.Second
	addressWait = 10 * time.Second
)

// maxBody bounds the body of a request.
const maxBody = 1 << 20

// API is one listener of the lifecycle API. Use New.
type API struct {
	server  *httpx.Server
	handler http.Handler
	store   *bounded
}

// New takes the address. The caller must Run the API, or Close it.
func New(ctx context.Context, cfg Config, d Deps) (*API, error) {
	server, err := httpx.Listen(ctx, httpx.Config{Address: cfg.Address, KeepAlive: cfg.KeepAlive, Linger: cfg.DrainDelay, Grace: cfg.Grace})
	if err != nil {
		return nil, err
	}
	store := &bounded{Store: d.Store, limit: cfg.StoreTimeout}
	d.Store = store
	handler, err := newHandler(cfg, d, server.Draining())
	if err != nil {
		server.Close()
		return nil, err
	}
	return &API{server: server, handler: farewell(server.Leaving(), handler), store: store}, nil
}

// farewell answers the health probes of load balancers with 503 once the API is leaving.
func farewell(leaving <-chan struct{}, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-leaving:
			if r.URL.Path == "/health" {
				kitx.WriteError(w, fault.New(fault.Unavailable, "the api is ending").RetryAfter(time.Second))
				return
			}
		default:
		}
		next.ServeHTTP(w, r)
	})
}

func newHandler(cfg Config, d Deps, draining <-chan struct{}) (http.Handler, error) {
	var options []kitx.Option
	if d.Tracers != nil {
		options = append(options, kitx.Traced(d.Tracers))
	}
	kit, err := kitx.New(d.Log, d.Registry, options...)
	if err != nil {
		return nil, err
	}
	created := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "opensandbox_client_create_duration_seconds", Help: "Duration of creates until ready, as published clients report it.",
		Buckets: prometheus.ExponentialBuckets(.05, 2, 10),
	}, []string{"success"})
	if err := d.Registry.Register(created); err != nil {
		return nil, fmt.Errorf("register client metrics: %w", err)
	}
	nodes := newNodes(d.Store)
	uses := usecase.New(usecase.Config{
		CreateWait: cfg.CreateWait, ChangeWait: changeWait, AddressWait: addressWait, MaxTimeout: cfg.MaxTimeout, PublicHost: cfg.PublicHost,
		AllowedRuntimes: cfg.AllowedRuntimes,
	}, usecase.Deps{
		Store: d.Store, Waiter: usecase.HintedWaiter{Store: d.Store, Hints: d.Store, Draining: draining},
		Token: d.Token, Reachability: nodes.reachable, Host: nodes.host, Trace: telemetry.Inject, Live: liveOf(d.Live), Log: d.Log,
	})
	var h http.Handler = httpapi.New(httpapi.Config{APIKey: cfg.APIKey, Version: cfg.Version, Created: func(e httpapi.MetricsEvent) {
		created.WithLabelValues(fmt.Sprint(e.Success)).Observe(float64(e.DurationMillis) / 1000)
	}}, uses, kit)
	full := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		kitx.WriteError(w, fault.New(fault.Unavailable, "the server has as many requests in progress as server.limit_concurrency allows").RetryAfter(time.Second))
	})
	// From the outside in: every answer has a request id, preflights need no key, and paths are tidy before they are matched.
	return httpx.WithRequestID(httpx.CORS(httpx.LimitConcurrency(cfg.MaxConcurrency, full, httpx.TidyPath(httpx.LimitBody(maxBody, h))))), nil
}

// Addr returns the address that was taken.
func (a *API) Addr() net.Addr { return a.server.Addr() }

// Run serves until ctx ends, then drains: creates that wait are answered Pending. It returns nil, or why the listener broke.
func (a *API) Run(ctx context.Context) error { return a.server.Run(ctx, a.handler) }

// Ages and limits of Ready: a probe asks every few seconds and waits for one.
const (
	readyAge   = 3 * time.Second
	readyLimit = time.Second
)

// Ready returns nil while the API can do its work, else why it cannot: it is ending, or its store does not answer.
func (a *API) Ready() error {
	select {
	case <-a.server.Leaving():
		return errors.New("the api is ending")
	default:
	}
	return a.store.Ready(readyAge, readyLimit)
}

// Close gives the address back without having served.
func (a *API) Close() { a.server.Close() }
