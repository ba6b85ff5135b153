package resolve

import (
	"maps"
	"net"
	"strconv"
	"strings"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/services/ingress-router/internal/target"
)

// ExecdPort is where the daemon in each sandbox listens, in OpenSandbox 1.1.1. It forwards to every other port of the sandbox.
const ExecdPort = sandbox.ExecdPort

// CodeNotReady is the wire code of a sandbox that exists and cannot be reached now.
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
}

// view is what routing needs of a record. It is never changed after it was made.
type view struct {
	exists bool
	// gone says that the sandbox shall not be, or is no more.
	gone bool
	// notReady says why there is no address; empty when there is one.
	notReady string
	node     string
	ports    map[int]int
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
		v.ports = maps.Clone(o.Addresses.Ports)
	}
	return v
}

// addressable reports whether the sandbox has an address, if its node answers.
func (v *view) addressable() bool { return v.exists && !v.gone && v.notReady == "" }

// err returns why v has no address, or nil.
func (v *view) err(id sandbox.ID) error {
	switch {
	case !v.exists || v.gone:
		return fault.New(fault.NotFound, "sandbox not found: "+string(id)).WithCode(sandbox.CodeNotFound).About(string(id))
	case v.notReady != "":
		return notReady(id, v.notReady)
	}
	return nil
}

// upstream returns the way to a port of an addressable sandbox: the published port, or the daemon's own route.
func (v *view) upstream(host string, t target.Target) Upstream {
	if host == "" {
		host = "127.0.0.1"
	}
	if p := v.ports[t.Port]; p != 0 {
		return Upstream{Address: net.JoinHostPort(host, strconv.Itoa(p))}
	}
	return Upstream{
		Address: net.JoinHostPort(host, strconv.Itoa(v.ports[ExecdPort])),
		Prefix:  "/proxy/" + strconv.Itoa(t.Port),
	}
}

func notReady(id sandbox.ID, why string) *fault.Error {
	return fault.New(fault.Unavailable, "sandbox not ready: "+why).WithCode(CodeNotReady).About(string(id)).RetryAfter(retryAfter)
}
