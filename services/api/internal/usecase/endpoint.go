package usecase

import (
	"context"
	"net"
	"strconv"
	"strings"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Ports inside a sandbox, those of OpenSandbox 1.1.1.
const (
	// ExecdPort is where the daemon in each sandbox listens.
	ExecdPort = sandbox.ExecdPort
	// AppPort has a port of the node of its own; all others are reached through the daemon.
	AppPort = sandbox.AppPort
)

// TokenHeader is the header that carries the access token of a sandbox's daemon.
const TokenHeader = "X-EXECD-ACCESS-TOKEN" //nolint:gosec // the name of a header, not a credential

// EndpointRequest asks how to reach a port of a sandbox.
type EndpointRequest struct {
	Ref
	Port int
	// ServerProxy asks for a path through the server; nil: for the port itself.
	ServerProxy *ServerProxy
}

// ServerProxy is how the client reached the server that it wants to reach the port through.
type ServerProxy struct {
	// Host is the host, perhaps with a port, that the request was for.
	Host string
	// V1 says that the request was for a path below /v1.
	V1 bool
}

// Endpoint is how to reach a port: host, port and perhaps a path, without a scheme, and the headers that must be sent.
type Endpoint struct {
	Address string
	Headers map[string]string
}

// Endpoint returns the address of a port, whether or not something listens there. A sandbox without an address yet is waited for; a
// fault.NotFound with the code that clients poll comes after AddressWait.
func (u *UseCases) Endpoint(ctx context.Context, req EndpointRequest) (Endpoint, error) {
	if req.Port < 1 || req.Port > 65535 {
		return Endpoint{}, fault.Newf(fault.Invalid, "port %d is out of range: expected 1 to 65535", req.Port).WithCode("DOCKER::INVALID_PORT")
	}
	r, err := u.find(ctx, req.Ref)
	if err != nil {
		return Endpoint{}, err
	}
	if !addressed(&r) && u.cfg.AddressWait > 0 && !r.Gone() && !r.Over() {
		r, _, err = u.deps.Waiter.Await(ctx, req.ID, u.cfg.AddressWait, func(r *sandbox.Record) bool {
			return addressed(r) || r.Gone() || r.Over()
		})
		if err != nil {
			return Endpoint{}, err
		}
	}
	if !r.Visible() {
		return Endpoint{}, sandbox.ErrNotFound(req.ID)
	}
	if !addressed(&r) {
		return Endpoint{}, fault.New(fault.NotFound, "the sandbox has no address yet").WithCode("KUBERNETES::POD_IP_NOT_AVAILABLE")
	}
	host, err := u.deps.Host(ctx, r.Placement.Node)
	if err != nil {
		return Endpoint{}, err
	}
	if host == "" {
		host = u.cfg.PublicHost
	}
	e := u.endpoint(&r, host, req.Port)
	if req.ServerProxy != nil {
		e.Address = u.proxied(req.ServerProxy, r.ID, req.Port)
	}
	return e, nil
}

// proxied returns the path of a port through the server: below the name that the operator gave it, which may have a path, else where the
// client found it.
func (u *UseCases) proxied(via *ServerProxy, id sandbox.ID, port int) string {
	base := via.Host
	if via.V1 {
		base += "/v1"
	}
	if e := strings.TrimRight(strings.TrimSpace(u.cfg.External), "/"); e != "" {
		if _, behind, ok := strings.Cut(e, "://"); ok {
			e = behind
		}
		base = e
	}
	return base + "/sandboxes/" + string(id) + "/proxy/" + strconv.Itoa(port)
}

// addressed reports whether the present placement has been Running, so that its addresses are known.
func addressed(r *sandbox.Record) bool {
	return r.Observed.Epoch == r.Placement.Epoch && r.Observed.Started && r.Observed.Addresses.Ports[ExecdPort] != 0
}

func (u *UseCases) endpoint(r *sandbox.Record, host string, port int) Endpoint {
	ports := r.Observed.Addresses.Ports
	if r.Observed.Addresses.OnHost && port != ExecdPort {
		return Endpoint{Address: net.JoinHostPort(host, strconv.Itoa(port))}
	}
	if direct, ok := ports[port]; ok && port == AppPort {
		return Endpoint{Address: net.JoinHostPort(host, strconv.Itoa(direct))}
	}
	e := Endpoint{Address: net.JoinHostPort(host, strconv.Itoa(ports[ExecdPort])) + "/proxy/" + strconv.Itoa(port)}
	if port == ExecdPort {
		e.Headers = map[string]string{TokenHeader: u.deps.Token(r.ID, r.Placement.Epoch)}
	}
	return e
}
