package proxy

import (
	"context"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"opensandbox/libs/sandboxproxy/resolve"
)

// Times of the look whether the addresses of containers can be reached from here. An address that nobody answers at would hold up a
// request that can go another way.
const (
	lookTime  = time.Second
	lookAgain = 30 * time.Second
)

// Way chooses how the server's proxy gets to a port. The zero value takes the published ports.
type Way struct {
	// Internal says that containers may be reached at their own addresses (proxy.resolve_internal).
	Internal bool
	// LocalNode is the node whose engine is on this machine; empty if none is. Addresses of containers mean other containers on
	// other machines.
	LocalNode string
	// Tunnels says that the agents of other nodes relay to ports that their node does not publish.
	Tunnels bool

	// reachable says that containers were reached; then nobody waits for mu.
	reachable atomic.Bool
	mu        sync.Mutex
	// looked is when that was last tried; zero: not yet.
	looked time.Time
}

var _ resolve.Way = (*Way)(nil)

// Upstream implements resolve.Way. A sandbox on the network of its node is reached through its daemon, which asks for its token: at the
// loopback of the node anything may listen, and the paths of the proxy need no key.
func (w *Way) Upstream(ctx context.Context, p resolve.Place, port int) resolve.Upstream {
	if p.Addresses.OnHost {
		p.Addresses.OnHost = false
		return resolve.Published{}.Upstream(ctx, p, port)
	}
	if !w.Internal || p.Addresses.ContainerIP == "" {
		return resolve.Published{}.Upstream(ctx, p, port)
	}
	own := resolve.Upstream{Address: net.JoinHostPort(p.Addresses.ContainerIP, strconv.Itoa(port))}
	switch {
	case w.LocalNode != "" && p.Node == w.LocalNode && w.reaches(ctx, p.Addresses.ContainerIP):
		return own
	case p.Node == w.LocalNode, p.Addresses.Ports[port] != 0, !w.Tunnels:
		return resolve.Published{}.Upstream(ctx, p, port)
	}
	own.Tunnel = &resolve.Tunnel{Node: p.Node, ID: p.ID, Epoch: p.Epoch, Port: port}
	return own
}

// reaches finds out by the daemon of a running sandbox whether this process reaches containers: in a container of its own, or with an
// engine in a virtual machine, it may not. That it does is found out once.
func (w *Way) reaches(ctx context.Context, ip string) bool {
	if w.reachable.Load() {
		return true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reachable.Load() || !w.looked.IsZero() && time.Since(w.looked) < lookAgain {
		return w.reachable.Load()
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(look, "tcp", net.JoinHostPort(ip, strconv.Itoa(resolve.ExecdPort)))
	w.looked = time.Now()
	if err != nil {
		return false
	}
	_ = conn.Close()
	w.reachable.Store(true)
	return true
}
