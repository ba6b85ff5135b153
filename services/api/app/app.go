// Package app is the lifecycle API as a part that a program is wired from. Any number may run at once on one store.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"opensandbox/libs/fault"
	"opensandbox/libs/httpx"
	"opensandbox/libs/kitx"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
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
	// PublicHost is where clients reach published ports.
	PublicHost string
	// CreateWait is how long a create waits for Running.
	CreateWait time.Duration
	// MaxTimeout bounds the timeout of a create; 0 means no bound.
	MaxTimeout time.Duration
	// KeepAlive is how long an idle connection is kept, Grace how long requests may take at the end.
	KeepAlive, Grace time.Duration
	// MaxConcurrency bounds the requests in progress; 0 means no bound.
	MaxConcurrency int
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
	Log      *slog.Logger
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
}

// New takes the address. The caller must Run the API, or Close it.
func New(ctx context.Context, cfg Config, d Deps) (*API, error) {
	server, err := httpx.Listen(ctx, httpx.Config{Address: cfg.Address, KeepAlive: cfg.KeepAlive, Grace: cfg.Grace})
	if err != nil {
		return nil, err
	}
	handler, err := newHandler(cfg, d, server.Draining())
	if err != nil {
		server.Close()
		return nil, err
	}
	return &API{server: server, handler: handler}, nil
}

func newHandler(cfg Config, d Deps, draining <-chan struct{}) (http.Handler, error) {
	kit, err := kitx.New(d.Log, d.Registry)
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
	nodes := newReachability(d.Store)
	uses := usecase.New(usecase.Config{
		CreateWait: cfg.CreateWait, ChangeWait: changeWait, AddressWait: addressWait, MaxTimeout: cfg.MaxTimeout, PublicHost: cfg.PublicHost,
	}, usecase.Deps{
		Store: d.Store, Waiter: usecase.HintedWaiter{Store: d.Store, Hints: d.Store, Draining: draining},
		Token: d.Token, Reachability: nodes.of, Log: d.Log,
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

// Close gives the address back without having served.
func (a *API) Close() { a.server.Close() }
