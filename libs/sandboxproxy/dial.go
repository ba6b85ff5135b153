package sandboxproxy

import (
	"context"
	"errors"
	"net"
	"net/http"

	"opensandbox/libs/sandboxproxy/resolve"
)

// redialing is the transport that asks for the address once more when nothing could be connected to. A request with a body is not repeated: the
// first attempt has taken the body.
type redialing struct{ p *Proxy }

// RoundTrip implements http.RoundTripper.
func (t redialing) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.p.transport.RoundTrip(req)
	if err == nil {
		return res, nil
	}
	ctx := req.Context()
	c := callOf(ctx)
	up, err := t.p.elsewhere(ctx, c, err, req.Body == nil || req.Body == http.NoBody)
	if err != nil {
		return nil, err
	}
	again := req.Clone(ctx)
	t.p.aim(again, c, up)
	res, err = t.p.transport.RoundTrip(again)
	t.p.lost(c, err)
	return res, err
}

// elsewhere returns where to send the request once more after err, or what is wrong in the end. Only if nothing could be connected to can nothing have
// reached the application.
func (p *Proxy) elsewhere(ctx context.Context, c *call, err error, repeatable bool) (resolve.Upstream, error) {
	if !isDial(err) || ctx.Err() != nil {
		return resolve.Upstream{}, err
	}
	p.deps.Resolver.Forget(c.route.ID)
	if !repeatable {
		return resolve.Upstream{}, err
	}
	return p.deps.Resolver.Resolve(ctx, c.route.Target)
}

// lost forgets an address that led nowhere a second time.
func (p *Proxy) lost(c *call, err error) {
	if err != nil && isDial(err) {
		p.deps.Resolver.Forget(c.route.ID)
	}
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
