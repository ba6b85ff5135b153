package sandboxproxy

import (
	"errors"
	"net"
	"net/http"
)

// redialing is the transport that asks for the address once more when nothing could be connected to, which is when nothing can have
// reached the application. A request with a body is not repeated: the first attempt has taken the body.
type redialing struct{ p *Proxy }

// RoundTrip implements http.RoundTripper.
func (t redialing) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := t.p.lean.RoundTrip(req)
	ctx := req.Context()
	if err == nil || !isDial(err) || ctx.Err() != nil {
		return res, err
	}
	c := callOf(ctx)
	t.p.deps.Resolver.Forget(c.route.ID)
	if req.Body != nil && req.Body != http.NoBody {
		return nil, err
	}
	up, resolveErr := t.p.deps.Resolver.Resolve(ctx, c.route.Target)
	if resolveErr != nil {
		return nil, resolveErr
	}
	again := req.Clone(ctx)
	t.p.aim(again, c, up)
	res, err = t.p.lean.RoundTrip(again)
	if err != nil && isDial(err) {
		t.p.deps.Resolver.Forget(c.route.ID)
	}
	return res, err
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
