package httpx

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

type schemeKey struct{}

// Scheme returns http or https: how the client has reached this process or, where WithForwarded believes it, the proxy in front of it.
func Scheme(r *http.Request) string {
	if s, ok := r.Context().Value(schemeKey{}).(string); ok {
		return s
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// WithForwarded believes what peers at the trusted addresses say of their clients, as the server of OpenSandbox 1.1.1 does: the address in
// X-Forwarded-For becomes that of the request, and X-Forwarded-Proto its Scheme. Of several addresses it is the last that is not itself
// trusted, since everything before that is only what somebody says; if all are trusted it is the first. What is no address changes nothing,
// because it goes into logs and to applications.
func WithForwarded(trusted []netip.Prefix, next http.Handler) http.Handler {
	if len(trusted) == 0 {
		return next
	}
	trusts := func(a netip.Addr) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, err := netip.ParseAddrPort(r.RemoteAddr)
		said := len(r.Header["X-Forwarded-For"])+len(r.Header["X-Forwarded-Proto"]) > 0
		if err != nil || !said || !trusts(peer.Addr().Unmap()) {
			next.ServeHTTP(w, r)
			return
		}
		ctx := r.Context()
		if protos := r.Header["X-Forwarded-Proto"]; len(protos) > 0 {
			switch strings.TrimSpace(protos[len(protos)-1]) {
			case "http", "ws":
				ctx = context.WithValue(ctx, schemeKey{}, "http")
			case "https", "wss":
				ctx = context.WithValue(ctx, schemeKey{}, "https")
			}
		}
		r = r.WithContext(ctx) // a copy, so that the address of the caller's stays
		if client := clientOf(r.Header["X-Forwarded-For"], trusts); client.IsValid() {
			r.RemoteAddr = net.JoinHostPort(client.String(), "0") // the port is not told
		}
		next.ServeHTTP(w, r)
	})
}

// clientOf returns the address of the client by the lines of X-Forwarded-For, or the zero value if that is none.
func clientOf(lines []string, trusts func(netip.Addr) bool) netip.Addr {
	said := strings.Split(strings.Join(lines, ","), ",")
	for i, text := range slices.Backward(said) {
		client := addressIn(strings.TrimSpace(text))
		if i == 0 || !client.IsValid() || !trusts(client) {
			return client
		}
	}
	return netip.Addr{}
}

// addressIn reads an address that may have a port, and the zero value if it is none. The zone of an address means nothing elsewhere.
func addressIn(text string) netip.Addr {
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr().Unmap().WithZone("")
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap().WithZone("")
}
