// Package app is the ingress router as a part that a program is wired from. It writes no record and keeps no state worth keeping: any
// number may run at once, and any of them may end at any time.
package app

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"opensandbox/libs/fault"
	"opensandbox/libs/httpx"
	"opensandbox/libs/kitx"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandboxproxy"
	"opensandbox/libs/sandboxproxy/proxymetrics"
	"opensandbox/libs/sandboxproxy/renewintent"
	"opensandbox/libs/sandboxproxy/resolve"
	"opensandbox/libs/sandboxproxy/target"
)

// Config of a router.
type Config struct {
	// Address is host:port of the listener.
	Address string
	// KeepAlive is how long an idle connection of a client is kept.
	KeepAlive time.Duration
	// DrainDelay is how long the router goes on at the end while its health says 503, so that load balancers turn away first. Grace is how
	// long requests and WebSockets may take after that.
	DrainDelay, Grace time.Duration
	// Backlog is how many connections may wait to be taken; 0 leaves it to the system.
	Backlog int
	// RenewInterval is the least time between two notices that one sandbox is in use; 0 means a notice for each request.
	RenewInterval time.Duration
	// CacheAge is how old the knowledge about a sandbox or a node may be when no hint comes; 0 means DefaultCacheAge.
	CacheAge time.Duration
	// StoreAway is for how much longer known addresses are used while the store does not answer; 0 means DefaultStoreAway.
	StoreAway time.Duration
	// CacheSize bounds the sandboxes that are known at a time; 0 means DefaultCacheSize.
	CacheSize int
}

const (
	// DefaultCacheAge makes a lost hint cost a second, and a busy sandbox one read of the store in a second.
	DefaultCacheAge = time.Second
	// DefaultStoreAway is the default of scheduler.node_lost_after_seconds: nothing is placed anew while the store is away, so that
	// addresses stay right. It is bounded because a router may be cut off from a store that goes on for others.
	DefaultStoreAway = 10 * time.Minute
	// DefaultCacheSize costs about 64 MB when it is used up.
	DefaultCacheSize = 65536
)

const (
	// readTimeout bounds one read of the store: a client that waits longer is better off with an error that says when to come again.
	readTimeout = time.Second
	// dialTimeout bounds the connection to a node. Two attempts stay under the 30 s that clients of OpenSandbox wait.
	dialTimeout = 5 * time.Second
)

// Deps of a router. It only reads.
type Deps struct {
	Queries sandbox.Queries
	Hints   sandbox.Hints
	// Nodes is the registry of nodes.
	Nodes resolve.Nodes
	// Renewals gets the notices that sandboxes are in use; nil: none are made.
	Renewals Publisher
	// Registry and Tracers may be nil.
	Registry prometheus.Registerer
	Tracers  trace.TracerProvider
	Log      *slog.Logger
}

// Router is one listener for user traffic. Use New.
type Router struct {
	server *httpx.Server
	// grace is counted from the end of serve's context.
	grace    time.Duration
	resolver *resolve.Resolver
	renewals *renewintent.Producer
	proxy    *sandboxproxy.Proxy
}

// New takes the address. The caller must run all Parts, or Close the router.
func New(ctx context.Context, cfg Config, d Deps) (*Router, error) {
	cfg = withDefaults(cfg)
	// The address comes first: a caller may try another one with the same registry.
	server, err := httpx.Listen(ctx, httpx.Config{Address: cfg.Address, KeepAlive: cfg.KeepAlive, Linger: cfg.DrainDelay, Grace: cfg.Grace, Backlog: cfg.Backlog})
	if err != nil {
		return nil, err
	}
	r, err := assemble(server, cfg, d)
	if err != nil {
		server.Close()
		return nil, err
	}
	return r, nil
}

func assemble(server *httpx.Server, cfg Config, d Deps) (*Router, error) {
	m, err := proxymetrics.New(d.Registry, proxymetrics.Router)
	if err != nil {
		return nil, err
	}
	resolver, err := resolve.New(
		resolve.Config{MaxAge: cfg.CacheAge, StoreAway: cfg.StoreAway, ReadTimeout: readTimeout, Size: cfg.CacheSize},
		resolve.Deps{Queries: d.Queries, Hints: d.Hints, Nodes: d.Nodes, Observer: m, Log: d.Log})
	if err != nil {
		return nil, err
	}
	r := &Router{server: server, grace: cfg.DrainDelay + cfg.Grace, resolver: resolver}
	deps := sandboxproxy.Deps{Mode: target.URI{}, Resolver: resolver, Observer: m, Tracers: d.Tracers, Log: d.Log}
	if d.Renewals != nil {
		r.renewals = renewintent.New(d.Renewals, cfg.RenewInterval, m, d.Log)
		deps.Uses = r.renewals
	}
	r.proxy = sandboxproxy.New(sandboxproxy.Config{DialTimeout: dialTimeout, Dialect: sandboxproxy.Gateway()}, deps)
	return r, nil
}

func withDefaults(cfg Config) Config {
	if cfg.CacheAge == 0 {
		cfg.CacheAge = DefaultCacheAge
	}
	if cfg.StoreAway == 0 {
		cfg.StoreAway = DefaultStoreAway
	}
	if cfg.CacheSize == 0 {
		cfg.CacheSize = DefaultCacheSize
	}
	return cfg
}

// Addr returns the address that was taken.
func (r *Router) Addr() net.Addr { return r.server.Addr() }

// Ready returns nil while requests can be forwarded, else why not.
func (r *Router) Ready() error {
	if r.leaving() {
		return errLeaving
	}
	return r.resolver.Ready()
}

var errLeaving = fault.New(fault.Unavailable, "the router is about to end").RetryAfter(time.Second)

func (r *Router) leaving() bool {
	select {
	case <-r.server.Leaving():
		return true
	default:
		return false
	}
}

// Close gives the address back without having served.
func (r *Router) Close() { r.server.Close() }

// Part is one of the blocking functions that make up a router.
type Part struct {
	Name string
	Run  func(context.Context) error
}

// Parts returns what has to run, in this order: the listener comes last and goes first, because requests need the others. Each returns
// nil after its context has ended.
func (r *Router) Parts() []Part {
	parts := []Part{{"router addresses", r.resolver.Run}}
	if r.renewals != nil {
		parts = append(parts, Part{"router renewals", r.renewals.Run})
	}
	return append(parts, Part{"router", r.serve})
}

// serve forwards requests until ctx ends, and for Config.DrainDelay more. Then it takes no new ones; those in progress, WebSockets among them, may take the grace time,
// at the end of which WebSockets are closed with 1001 and everything else is cut.
func (r *Router) serve(ctx context.Context) error {
	ended := make(chan time.Time, 1)
	stop := context.AfterFunc(ctx, func() { ended <- time.Now() })
	err := r.server.Run(ctx, r.handler())
	left := time.Duration(0)
	if !stop() {
		left = r.grace - time.Since(<-ended)
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), left)
	defer cancel()
	r.proxy.Drain(grace)
	r.proxy.Close()
	return err
}

func (r *Router) handler() http.Handler {
	return httpx.WithRequestID(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case isHealth(req) && r.leaving():
			kitx.WriteError(w, errLeaving)
			return
		case isHealth(req):
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"status":"healthy"}`)) // the prober may have gone
			return
		}
		r.proxy.ServeHTTP(w, req)
	}))
}

// isHealth takes the one path that names no sandbox, since it has no port. Whether the router can forward is for /ready on the admin
// listener: to end all routers does not bring a store back.
func isHealth(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.URL.EscapedPath() == "/health"
}
