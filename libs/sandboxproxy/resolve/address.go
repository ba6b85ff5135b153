package resolve

import (
	"context"
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// ExecdPort is where the daemon in each sandbox listens, in OpenSandbox 1.1.1. It forwards to every other port of the sandbox.
const ExecdPort = sandbox.ExecdPort

// CodeNotReady is the wire code of a sandbox that exists and cannot be reached now, unless Config says another.
const CodeNotReady = "INGRESS::SANDBOX_NOT_READY"

// retryAfter is what a client is told to wait when a sandbox is not ready: the longest that a router takes to notice a change.
const retryAfter = time.Second

// Upstream is where a request goes.
type Upstream struct {
	// Address is host:port.
	Address string
	// Prefix comes before the path of the request: empty, or the route of the sandbox's daemon to a port that the node does not
	// publish.
	Prefix string
	// Tunnel, if not nil, is the way to Address, which only the agent of the node can reach.
	Tunnel *Tunnel
}

// Tunnel is a port of one incarnation of a sandbox, as the agent of its node knows it.
type Tunnel struct {
	Node  string
	ID    sandbox.ID
	Epoch uint64
	Port  int
}

// Place is where a sandbox that has an address is. Nobody changes it.
type Place struct {
	ID    sandbox.ID
	Epoch uint64
	// Node is the name of the node, Host where its published ports answer; never empty.
	Node, Host string
	// Addresses are those that the agent of the node has observed.
	Addresses sandbox.Addresses
}

// Way chooses how a port of a sandbox is reached. It may be called concurrently.
type Way interface {
	Upstream(ctx context.Context, p Place, port int) Upstream
}

// Published is the way through the ports that the node publishes: the port itself, or the route of the sandbox's daemon to it.
type Published struct{}

var _ Way = Published{}

// Upstream implements Way.
func (Published) Upstream(_ context.Context, p Place, port int) Upstream {
	own := p.Addresses.Ports[port]
	if p.Addresses.OnHost && port != ExecdPort {
		own = port
	}
	if own != 0 {
		return Upstream{Address: net.JoinHostPort(p.Host, strconv.Itoa(own))}
	}
	return Upstream{
		Address: net.JoinHostPort(p.Host, strconv.Itoa(p.Addresses.Ports[ExecdPort])),
		Prefix:  "/proxy/" + strconv.Itoa(port),
	}
}

// view is what routing needs of a record. It is never changed after it was made.
type view struct {
	exists bool
	// gone says that the sandbox shall not be, or is no more.
	gone bool
	// notReady says why there is no address; empty when there is one.
	notReady string
	node     string
	epoch    uint64
	// addresses are set if there is an address.
	addresses sandbox.Addresses
}

// viewOf takes from a record what routing needs of it. Observed.State counts, not the state that clients see: a sandbox that is
// about to be paused still runs.
func viewOf(r *sandbox.Record) view {
	o := &r.Observed
	v := view{exists: true, node: r.Placement.Node}
	switch {
	case r.Gone() || r.Ended():
		v.gone = true
	case o.State == "" || o.Epoch != r.Placement.Epoch:
		v.notReady = "it is pending"
	case o.State != sandbox.StateRunning || !o.Started:
		v.notReady = "it is " + strings.ToLower(string(o.State))
	case o.Addresses.Ports[ExecdPort] == 0:
		v.notReady = "it has no address yet"
	default:
		v.epoch, v.addresses = o.Epoch, o.Addresses
		v.addresses.Ports = maps.Clone(o.Addresses.Ports)
	}
	return v
}

// addressable reports whether the sandbox has an address, if its node answers.
func (v *view) addressable() bool { return v.exists && !v.gone && v.notReady == "" }

// err returns why v has no address, or nil.
func (r *Resolver) err(v *view, id sandbox.ID) error {
	switch {
	case !v.exists || v.gone:
		return fault.New(fault.NotFound, "sandbox not found: "+string(id)).WithCode(sandbox.CodeNotFound).About(string(id))
	case v.notReady != "":
		return r.notReady(id, v.notReady)
	}
	return nil
}

func (r *Resolver) notReady(id sandbox.ID, why string) *fault.Error {
	return fault.New(fault.Unavailable, "sandbox not ready: "+why).WithCode(r.cfg.NotReady).About(string(id)).RetryAfter(retryAfter)
}
