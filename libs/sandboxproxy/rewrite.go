package sandboxproxy

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"opensandbox/libs/httpx"
	"opensandbox/libs/sandboxproxy/resolve"
)

// tokenHeader carries the access token of a sandbox's daemon. It goes to the daemon only, which keeps it from applications.
const tokenHeader = "X-Execd-Access-Token" //nolint:gosec // the name of a header, not a credential

// poweredBy is the header by which OpenSandbox 1.1.1 marks answers that went through its gateway.
const poweredBy, poweredByValue = "Reverse-Proxy-Server-PowerBy", "OpenSandbox-ingress"

// rewrite makes the request for the application. httputil has taken off the hop-by-hop headers and Forwarded. Applications must neither
// see what is for proxies and for the control plane, nor trust what names the client in place of the proxy.
func (p *Proxy) rewrite(pr *httputil.ProxyRequest) {
	h := pr.Out.Header
	for name := range h {
		if strings.HasPrefix(name, "X-Forwarded-") {
			delete(h, name)
		}
	}
	for _, name := range p.cfg.Dialect.Drop {
		h.Del(name)
	}
	pr.SetXForwarded()
	h.Set("X-Forwarded-Proto", httpx.Scheme(pr.In))
	ctx := pr.In.Context()
	passTrace(ctx, h)
	if id := httpx.RequestID(ctx); id != "" {
		h.Set(httpx.RequestIDHeader, id)
	}
	c := callOf(ctx)
	p.aim(pr.Out, c, c.upstream)
}

// aim directs out to up, with what depends on the way: the address, Host and the token.
func (p *Proxy) aim(out *http.Request, c *call, up resolve.Upstream) {
	out.URL = upstreamURL(up, c.route.Path, c.in.URL)
	if up.Tunnel != nil && !p.cfg.RewriteHost && out.Host == "" {
		out.Host = up.Address
	}
	if p.cfg.RewriteHost {
		out.Host = up.Address
	}
	delete(out.Header, tokenHeader)
	if token := p.token(c, up); token != nil {
		out.Header[tokenHeader] = token
	}
}

// token returns the access token that goes to up: only a daemon gets it.
func (p *Proxy) token(c *call, up resolve.Upstream) []string {
	if up.Prefix != "" || c.route.Port == resolve.ExecdPort {
		return c.in.Header[tokenHeader]
	}
	return nil
}

// upstreamURL keeps path and query as they came. net/url re-encodes some characters that clients do send; then the opaque form
// carries them, except for a path that starts with two slashes, where the opaque form would mean a host.
func upstreamURL(up resolve.Upstream, path string, in *url.URL) *url.URL {
	raw := up.Prefix + path
	u := &url.URL{Scheme: "http", Host: poolAddress(up), RawQuery: in.RawQuery, ForceQuery: in.ForceQuery}
	decoded, err := url.PathUnescape(raw)
	if err != nil && strings.HasPrefix(raw, "//") {
		u.Path = raw // encoded anew: net/http takes no such path, but nothing here depends on that
		return u
	}
	if err == nil {
		u.Path, u.RawPath = decoded, raw
		if u.EscapedPath() == raw || strings.HasPrefix(raw, "//") {
			return u
		}
	}
	u.Path, u.RawPath, u.Opaque = "", "", raw
	return u
}

func (p *Proxy) modifyResponse(res *http.Response) error {
	return p.modify(res, callOf(res.Request.Context()))
}

// modify makes what an application answers what the client gets. Headers of the connection are off already.
func (p *Proxy) modify(res *http.Response, c *call) error {
	if res.StatusCode < http.StatusContinue { // net/http reads such a status, and panics when it is to write it
		return fmt.Errorf("the application answers with status %03d", res.StatusCode)
	}
	h, d := res.Header, &p.cfg.Dialect
	if d.CloseWebSockets && c.seen.kind == KindWebSocket && res.StatusCode != http.StatusSwitchingProtocols {
		return notUpgraded{res.StatusCode}
	}
	maps.Copy(h, d.Mark)
	for _, name := range d.DropAnswer {
		h.Del(name)
	}
	// What is said to pages of other origins is said once: browsers take two values for none.
	for name := range c.out.Header() {
		if strings.HasPrefix(name, "Access-Control-") {
			delete(h, name)
		}
	}
	if l := h.Get("Location"); d.Location != nil && strings.HasPrefix(l, "/") && !strings.HasPrefix(l, "//") {
		h.Set("Location", d.Location(c.in, c.route)+l)
	}
	if d.OwnRequestID {
		h.Del(requestID)
	}
	c.stamp(h)
	c.expect(res)
	if res.StatusCode != http.StatusSwitchingProtocols { // there, Connection says something else
		c.answerEarly(h)
	}
	return nil
}
