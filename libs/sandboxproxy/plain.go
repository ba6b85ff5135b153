package sandboxproxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"go.opentelemetry.io/otel/trace"

	"opensandbox/libs/httpx"
	"opensandbox/libs/sandboxproxy/resolve"
)

// isPlain reports whether a request has no body, asks for no other protocol and may be sent twice, which is true of nearly all. Those are
// forwarded in the goroutine of the request, by what is in this file; all others by httputil. Both must do the same.
func isPlain(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
	default:
		return false
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return false
	}
	h := r.Header
	switch c := h["Connection"]; {
	case len(c) == 0, len(c) == 1 && (strings.EqualFold(c[0], "keep-alive") || strings.EqualFold(c[0], "close")):
	default:
		return false // it may name other headers
	}
	return h["Upgrade"] == nil && h["Expect"] == nil && h["Te"] == nil && !strings.ContainsFunc(r.Host, unusualInHost)
}

// unusualInHost is what names and addresses have no need of: such a Host is left to net/http, which may encode it, or refuse it.
func unusualInHost(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_.:[]", c)
}

// perHop are the headers that end with each connection (RFC 9110, section 7.6.1), with what httputil takes off beside them.
var perHop = [...]string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// unwanted returns the headers of requests that applications do not get, or not as they came.
func unwanted(d *Dialect) map[string]bool {
	all := map[string]bool{"Forwarded": true, tokenHeader: true}
	for _, name := range slices.Concat(perHop[:], d.Drop) {
		all[http.CanonicalHeaderKey(name)] = true
	}
	return all
}

// plain forwards the request of c, and answers it.
func (p *Proxy) plain(ctx context.Context, c *call) {
	res, err := p.lean.roundTrip(ctx, c, c.upstream)
	if err != nil {
		var up resolve.Upstream
		if up, err = p.elsewhere(ctx, c, err, true); err == nil {
			res, err = p.lean.roundTrip(ctx, c, up)
			p.lost(c, err)
		}
	}
	if err == nil {
		removePerHop(res.Header)
		if err = p.modify(res, c); err != nil {
			_ = res.Body.Close() // err says more
		}
	}
	if err != nil {
		p.refuse(ctx, c, err)
		return
	}
	if err := p.pass(c.out, res); err != nil {
		p.deps.Log.DebugContext(ctx, "an answer broke off", "sandbox", c.route.ID, "port", c.route.Port, "error", err)
		panic(http.ErrAbortHandler) // what was promised cannot be kept: the client must see that
	}
}

func removePerHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range perHop {
		delete(h, name)
	}
}

// writeRequest writes the head of the request of c for an application at up.
func (p *Proxy) writeRequest(ctx context.Context, out *bufio.Writer, c *call, up resolve.Upstream) {
	write := func(parts ...string) {
		for _, s := range parts {
			_, _ = out.WriteString(s) // Flush says what is wrong
		}
	}
	write(c.in.Method, " ", up.Prefix, c.route.Path)
	if c.in.URL.RawQuery != "" || c.in.URL.ForceQuery {
		write("?", c.in.URL.RawQuery)
	}
	host := c.in.Host
	if host == "" || p.cfg.RewriteHost {
		host = up.Address
	}
	write(" HTTP/1.1\r\nHost: ", host, "\r\n")
	id, own := httpx.RequestID(ctx), http.Header(nil)
	if trace.SpanContextFromContext(ctx).IsValid() {
		own = make(http.Header, 2)
		passTrace(ctx, own)
	}
	for name, values := range c.in.Header {
		if p.unwanted[name] || strings.HasPrefix(name, "X-Forwarded-") || name == requestID && id != "" || own != nil && isTrace(name) {
			continue
		}
		for _, v := range values {
			write(name, ": ", v, "\r\n")
		}
	}
	for name, values := range own {
		write(name, ": ", values[0], "\r\n")
	}
	if id != "" {
		write(requestID, ": ", id, "\r\n")
	}
	for _, token := range p.token(c, up) {
		write(tokenHeader, ": ", token, "\r\n")
	}
	if client, _, err := net.SplitHostPort(c.in.RemoteAddr); err == nil {
		write("X-Forwarded-For: ", client, "\r\n")
	}
	write("X-Forwarded-Host: ", c.in.Host, "\r\nX-Forwarded-Proto: ", httpx.Scheme(c.in), "\r\n\r\n")
}

func isTrace(name string) bool { return name == "Traceparent" || name == "Tracestate" }

// pass writes an answer to the client. After an error it is not complete.
func (p *Proxy) pass(w http.ResponseWriter, res *http.Response) error {
	defer res.Body.Close()
	add(w.Header(), res.Header)
	promised := len(res.Trailer)
	for name := range res.Trailer {
		w.Header().Add("Trailer", name)
	}
	w.WriteHeader(res.StatusCode)
	if err := p.passBody(w, res); err != nil {
		return err
	}
	_ = res.Body.Close() // the end of the body fills the trailer in
	if len(res.Trailer) > 0 {
		_ = http.NewResponseController(w).Flush() // without, net/http counts a short body, and sends no trailer
	}
	if len(res.Trailer) == promised {
		add(w.Header(), res.Trailer)
		return nil
	}
	for name, values := range res.Trailer {
		w.Header()[http.TrailerPrefix+name] = values
	}
	return nil
}

func add(to, from http.Header) {
	for name, values := range from {
		if there := to[name]; len(there) > 0 {
			values = append(there, values...)
		}
		to[name] = values
	}
}

// passBody sends event streams and bodies of unknown length on as they come; answer does that with others.
func (p *Proxy) passBody(w http.ResponseWriter, res *http.Response) error {
	if res.Body == http.NoBody {
		return nil
	}
	atOnce := res.ContentLength < 0 || isEvents(res.Header)
	if atOnce { // the first part may take long
		_ = http.NewResponseController(w).Flush() // a client that has gone shows itself with the next write
	}
	buffer := p.buffers.take()
	defer p.buffers.give(buffer)
	for {
		n, err := res.Body.Read(*buffer)
		if n > 0 {
			if _, err := w.Write((*buffer)[:n]); err != nil {
				return err
			}
			if atOnce {
				if err := http.NewResponseController(w).Flush(); err != nil {
					return err
				}
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
