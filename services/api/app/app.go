// Package app is the lifecycle API as a part that a program is wired from. Any number may run at once on one store.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
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
	// Backlog is how many connections may wait to be taken; 0 leaves it to the system.
	Backlog int
	// Forwarders are the networks of the proxies that are believed what they say of their clients in X-Forwarded-For and X-Forwarded-Proto.
	Forwarders []netip.Prefix
	// MaxConcurrency bounds the requests in progress; 0 means no bound.
	MaxConcurrency int
	// AllowedRuntimes are the isolation runtimes that a create may ask for.
	AllowedRuntimes []string
	// AllowedHostPaths are the directories of nodes below which a create may mount something; the agents look again.
	AllowedHostPaths []string
	// StoreTimeout bounds each call of the store; 0 means no bound. What takes longer is answered with 503.
	StoreTimeout time.Duration
	// Proxy is about the server's own proxy of sandbox ports.
	Proxy ProxyConfig
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
	Token func(id sandbox.ID, epoch uint64) string
	// Vault seals what a create brings for a registry; nil: this server takes no such credentials.
	Vault    usecase.Vault
	Registry prometheus.Registerer
	// Live looks at sandboxes through the agents of their nodes; nil: no diagnostics.
	Live agentrpc.LiveReader
	// Renewals gets the notices that sandboxes are in use through the server's proxy; nil: none are made.
	Renewals Publisher
	// Tracers, if not nil, make a span for each request.
	Tracers trace.TracerProvider
	Log     *slog.Logger
	// Access, if not nil, takes a line for each request.
	Access *slog.Logger
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
	front   *front
	// grace is counted from the end of Run's context.
	grace time.Duration
}

// New takes the address. The caller must Run the API, or Close it.
func New(ctx context.Context, cfg Config, d Deps) (*API, error) {
	server, err := httpx.Listen(ctx, httpx.Config{Address: cfg.Address, KeepAlive: cfg.KeepAlive, Linger: cfg.DrainDelay, Grace: cfg.Grace, Backlog: cfg.Backlog})
	if err != nil {
		return nil, err
	}
	store := &bounded{Store: d.Store, limit: cfg.StoreTimeout}
	d.Store = store
	handler, front, err := newHandler(cfg, d, server.Draining())
	if err != nil {
		server.Close()
		return nil, err
	}
	return &API{server: server, handler: farewell(server.Leaving(), handler), store: store, front: front, grace: cfg.DrainDelay + cfg.Grace}, nil
}

// farewell answers the health probes of load balancers with 503 once the API is leaving.
func farewell(leaving <-chan struct{}, next http.Handler) http.Handler {
	ending := httpx.WithRequestID(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		kitx.WriteError(w, fault.New(fault.Unavailable, "the api is ending").RetryAfter(time.Second))
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-leaving:
			if r.URL.Path == "/health" {
				ending.ServeHTTP(w, r)
				return
			}
		default:
		}
		next.ServeHTTP(w, r)
	})
}

func newHandler(cfg Config, d Deps, draining <-chan struct{}) (http.Handler, *front, error) {
	options := []kitx.Option{kitx.Expected(usecase.IsNoCapacity)}
	if d.Tracers != nil {
		options = append(options, kitx.Traced(d.Tracers))
	}
	kit, err := kitx.New(d.Log, d.Registry, options...)
	if err != nil {
		return nil, nil, err
	}
	created := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "opensandbox_client_create_duration_seconds", Help: "Duration of creates until ready, as published clients report it.",
		Buckets: prometheus.ExponentialBuckets(.05, 2, 10),
	}, []string{"success"})
	if err := d.Registry.Register(created); err != nil {
		return nil, nil, fmt.Errorf("register client metrics: %w", err)
	}
	nodes := newNodes(d.Store)
	uses := usecase.New(usecase.Config{
		CreateWait: cfg.CreateWait, ChangeWait: changeWait, AddressWait: addressWait, MaxTimeout: cfg.MaxTimeout, PublicHost: cfg.PublicHost, External: cfg.Proxy.External,
		AllowedRuntimes: cfg.AllowedRuntimes, AllowedHostPaths: cfg.AllowedHostPaths,
	}, usecase.Deps{
		Store: d.Store, Waiter: usecase.HintedWaiter{Store: d.Store, Hints: d.Store, Draining: draining},
		Token: d.Token, Reachability: nodes.reachable, Host: nodes.host, Origin: origin, Vault: d.Vault, Live: liveOf(d.Live), Log: d.Log,
	})
	h, err := httpapi.New(httpapi.Config{APIKey: cfg.APIKey, Version: cfg.Version, Created: func(e httpapi.MetricsEvent) {
		created.WithLabelValues(fmt.Sprint(e.Success)).Observe(float64(e.DurationMillis) / 1000)
	}}, uses, kit)
	if err != nil {
		return nil, nil, err
	}
	full := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		kitx.WriteError(w, fault.New(fault.Unavailable, "the server has as many requests in progress as server.limit_concurrency allows").RetryAfter(time.Second))
	})
	front, err := newFront(cfg.Proxy, d)
	if err != nil {
		return nil, nil, err
	}
	guard := func(next http.Handler) http.Handler { return httpapi.Authenticate(cfg.APIKey, next) }
	// From the outside in: every answer has a request id, preflights need no key, what is for sandbox ports is taken as it came, and other
	// paths are tidy before they are matched.
	routes := front.before(guard, httpx.TidyPath(httpx.LimitBody(maxBody, h)))
	inner := httpx.WithAccessLog(d.Access, httpx.CORS(httpx.LimitConcurrency(cfg.MaxConcurrency, full, routes)))
	return httpx.WithRequestID(httpx.WithForwarded(cfg.Forwarders, inner)), front, nil
}

// Addr returns the address that was taken.
func (a *API) Addr() net.Addr { return a.server.Addr() }

// Run serves until ctx ends, then drains: creates that wait are answered Pending. It returns nil, or why the listener broke.
// WebSockets through the proxy have the grace time, too, and are then closed.
func (a *API) Run(ctx context.Context) error {
	proxying, stop := context.WithCancel(context.WithoutCancel(ctx))
	var beside sync.WaitGroup
	beside.Go(func() { a.front.run(proxying) })
	ended := make(chan time.Time, 1)
	watch := context.AfterFunc(ctx, func() { ended <- time.Now() })
	err := a.server.Run(ctx, a.handler)
	left := time.Duration(0)
	if !watch() {
		left = a.grace - time.Since(<-ended)
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), left)
	defer cancel()
	a.front.proxy.Drain(grace)
	a.front.proxy.Close()
	stop()
	beside.Wait()
	return err
}

// origin returns the request that ctx belongs to, for the records that it changes.
func origin(ctx context.Context) sandbox.Origin {
	return sandbox.Origin{Trace: telemetry.Inject(ctx), Request: httpx.RequestID(ctx)}
}

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
