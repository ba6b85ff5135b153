package proxy

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"opensandbox/libs/httpx"
	"opensandbox/services/ingress-router/internal/renewintent"
	"opensandbox/services/ingress-router/internal/resolve"
)

// tokenHeader carries the access token of a sandbox's daemon. It goes to the daemon only, which keeps it from applications.
const tokenHeader = "X-Execd-Access-Token" //nolint:gosec // the name of a header, not a credential

// poweredBy is the header by which OpenSandbox 1.1.1 marks answers that went through its gateway.
const poweredBy, poweredByValue = "Reverse-Proxy-Server-PowerBy", "OpenSandbox-ingress"

// consumed are headers for routers and for the control plane, and those that name the client in place of the router: applications
// must neither see the former nor trust the latter. X-Forwarded-… and Forwarded are taken off besides.
var consumed = []string{
	"OpenSandbox-Ingress-To", "OPEN-SANDBOX-INGRESS", "OpenSandbox-Secure-Access", renewintent.Header, "OPEN-SANDBOX-API-KEY", "X-Real-IP",
}

// rewrite makes the request for the application. httputil has taken off the hop-by-hop headers.
func (p *Proxy) rewrite(pr *httputil.ProxyRequest) {
	h := pr.Out.Header
	for name := range h {
		if strings.HasPrefix(name, "X-Forwarded-") {
			delete(h, name)
		}
	}
	for _, name := range consumed {
		h.Del(name)
	}
	pr.SetXForwarded()
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
	if p.cfg.RewriteHost {
		out.Host = up.Address
	}
	delete(out.Header, tokenHeader)
	if token, ok := c.in.Header[tokenHeader]; ok && (up.Prefix != "" || c.route.Port == resolve.ExecdPort) {
		out.Header[tokenHeader] = token
	}
}

// upstreamURL keeps path and query as they came. net/url re-encodes some characters that clients do send; then the opaque form
// carries them, except for a path that starts with two slashes, where the opaque form would mean a host.
func upstreamURL(up resolve.Upstream, path string, in *url.URL) *url.URL {
	raw := up.Prefix + path
	u := &url.URL{Scheme: "http", Host: up.Address, RawQuery: in.RawQuery, ForceQuery: in.ForceQuery}
	decoded, err := url.PathUnescape(raw)
	if err == nil {
		u.Path, u.RawPath = decoded, raw
		if u.EscapedPath() == raw || strings.HasPrefix(raw, "//") {
			return u
		}
	}
	u.Path, u.RawPath, u.Opaque = "", "", raw
	return u
}

func modifyResponse(res *http.Response) error {
	res.Header.Set(poweredBy, poweredByValue)
	callOf(res.Request.Context()).stamp(res.Header)
	if res.StatusCode != http.StatusSwitchingProtocols { // there, Connection says something else
		callOf(res.Request.Context()).answerEarly(res.Header)
	}
	return nil
}
