package app

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/agentrpc"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandboxproxy"
	"opensandbox/libs/sandboxproxy/proxymetrics"
	"opensandbox/libs/sandboxproxy/renewintent"
	"opensandbox/libs/sandboxproxy/renewintent/redisqueue"
	"opensandbox/libs/sandboxproxy/resolve"
	"opensandbox/services/api/internal/proxy"
)

// ProxyConfig is what the proxy of sandbox ports needs to know.
type ProxyConfig struct {
	// ResolveInternal goes to the addresses of containers where they can be reached, in place of the published ports.
	ResolveInternal bool
	// LocalNode is the node whose engine is on this machine; empty if none is.
	LocalNode string
	// Host is where the published ports of nodes answer that have no host of their own; empty: the loopback of this machine.
	Host string
	// External is the name of the server at which clients reach sandboxes through it, perhaps with a path.
	External string
	// AnswerTimeout is how long an application may take to begin its answer; 0 takes DefaultAnswerTimeout.
	AnswerTimeout time.Duration
	// RenewInterval is the least time between two notices that one sandbox is in use; 0 means a notice for each request.
	RenewInterval time.Duration
}

// DefaultAnswerTimeout is the time-out of the proxy in OpenSandbox 1.1.1.
const DefaultAnswerTimeout = 180 * time.Second

// Bounds of the proxy, those of the router: see there.
const (
	proxyCacheAge  = time.Second
	proxyStoreAway = 10 * time.Minute
	proxyCacheSize = 65536
	proxyReadTime  = time.Second
	proxyDialTime  = 5 * time.Second
)

// codeNoAddress is the wire code of a sandbox that has no address now, in OpenSandbox 1.1.1.
const codeNoAddress = "DOCKER::NETWORK_MODE_ENDPOINT_UNAVAILABLE"

// Publisher hands notices that sandboxes are in use to those who move deadlines.
type Publisher = renewintent.Publisher

// maxIntents bounds the list of notices while nobody takes them: they lose their meaning after five minutes.
const maxIntents = 65536

// RedisPublisher returns a Publisher on a list in Redis, which consumers take from at the tail. The caller owns client.
func RedisPublisher(client redis.UniversalClient, key string) Publisher {
	return redisqueue.New(client, key, maxIntents)
}

// ProxyHost returns where published ports of this machine's engine answer for this process, by the rules of OpenSandbox 1.1.1: where the
// server listens, unless that says nothing; then hostIP, if this process is in a container.
func ProxyHost(listen, hostIP string) string {
	wildcard := slices.Contains([]string{"", "0.0.0.0", "::"}, listen)
	loopback := slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, listen)
	switch {
	case (wildcard || loopback) && hostIP != "" && inContainer():
		return hostIP
	case wildcard:
		return ""
	}
	return listen
}

// front is the proxy of sandbox ports, with what runs for it.
type front struct {
	proxy    *sandboxproxy.Proxy
	resolver *resolve.Resolver
	renewals *renewintent.Producer
}

func newFront(cfg ProxyConfig, d Deps) (*front, error) {
	m, err := proxymetrics.New(d.Registry, proxymetrics.ServerProxy)
	if err != nil {
		return nil, err
	}
	dialer, _ := d.Live.(agentrpc.Dialer)
	way := &proxy.Way{Internal: cfg.ResolveInternal, LocalNode: cfg.LocalNode, Tunnels: dialer != nil && cfg.LocalNode == ""}
	resolver, err := resolve.New(resolve.Config{
		MaxAge: proxyCacheAge, StoreAway: proxyStoreAway, ReadTimeout: proxyReadTime, Size: proxyCacheSize, NotReady: codeNoAddress, Host: cfg.Host,
	}, resolve.Deps{Queries: d.Store, Hints: d.Store, Nodes: d.Store, Way: way, Observer: m, Log: d.Log})
	if err != nil {
		return nil, err
	}
	f := &front{resolver: resolver}
	deps := sandboxproxy.Deps{Mode: proxy.Mode{}, Resolver: resolver, Observer: m, Tracers: d.Tracers, Log: d.Log}
	if dialer != nil {
		deps.Tunnels = tunnels{dialer}
	}
	if d.Renewals != nil {
		f.renewals = renewintent.New(d.Renewals, cfg.RenewInterval, m, d.Log)
		deps.Uses = f.renewals
	}
	if cfg.AnswerTimeout == 0 {
		cfg.AnswerTimeout = DefaultAnswerTimeout
	}
	f.proxy = sandboxproxy.New(sandboxproxy.Config{
		DialTimeout: proxyDialTime, AnswerTimeout: cfg.AnswerTimeout, RewriteHost: true, Dialect: sandboxproxy.ServerProxy(proxy.Location(cfg.External)),
	}, deps)
	return f, nil
}

// before puts the proxy in front of the routes.
func (f *front) before(guard func(http.Handler) http.Handler, next http.Handler) http.Handler {
	return proxy.Before(f.proxy, guard, next)
}

// run runs what the proxy needs until ctx ends.
func (f *front) run(ctx context.Context) {
	var all sync.WaitGroup
	all.Go(func() { _ = f.resolver.Run(ctx) }) // nil after ctx has ended
	if f.renewals != nil {
		all.Go(func() { _ = f.renewals.Run(ctx) })
	}
	all.Wait()
}

// tunnels are the agents' in the words of the proxy.
type tunnels struct{ agents agentrpc.Dialer }

// DialTunnel implements sandboxproxy.Tunnels.
func (t tunnels) DialTunnel(ctx context.Context, to resolve.Tunnel) (net.Conn, error) {
	conn, err := t.agents.DialPort(ctx, agentrpc.Ref{Node: to.Node, ID: to.ID, Epoch: to.Epoch}, to.Port)
	if err == nil {
		return conn, nil
	}
	_, classified := errors.AsType[*fault.Error](err)
	if op, ok := errors.AsType[*net.OpError](err); classified || ok && op.Op == "dial" || ctx.Err() != nil {
		return nil, err
	}
	return nil, &net.OpError{Op: "dial", Net: "tunnel", Err: err}
}
