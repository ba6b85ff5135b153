package proxy

import (
	"net/http"
	"net/url"
	"strings"

	"opensandbox/libs/fault"
	"opensandbox/libs/kitx"
	"opensandbox/libs/sandboxproxy/target"
)

// methods are those that the proxy takes, in OpenSandbox 1.1.1.
const methods = "GET, POST, PUT, DELETE, PATCH"

// Before returns a handler that takes the requests for sandbox ports by their raw path, before anything can make it tidy, and leaves all
// others to next. guard puts the API key in front of a handler; most requests for ports need none.
func Before(forward http.Handler, guard func(http.Handler) http.Handler, next http.Handler) http.Handler {
	open := checked(forward)
	guarded := guard(open)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := ParsePath(RawPath(r))
		switch {
		case !ok:
			next.ServeHTTP(w, r)
		case p.Climbs():
			guarded.ServeHTTP(w, r)
		default:
			open.ServeHTTP(w, r)
		}
	})
}

// checked refuses what the proxy does not forward.
func checked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch:
		default:
			w.Header().Set("Allow", methods)
			kitx.WriteError(w, fault.Newf(fault.MethodNotAllowed, "%.20s is not allowed here; allowed: %s", r.Method, methods))
			return
		}
		if r.Method != http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			kitx.WriteError(w, fault.New(fault.Invalid, "a WebSocket begins with GET").WithCode("GENERAL::UNKNOWN_ERROR"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Location returns what comes before a root-relative Location of an application, by the rules of OpenSandbox 1.1.1: the path by which the
// client came, or, where the server is known by external, the path of that.
func Location(external string) func(r *http.Request, route target.Route) string {
	base := ""
	if external = strings.TrimRight(strings.TrimSpace(external), "/"); external != "" {
		if !strings.Contains(external, "://") {
			external = "http://" + external
		}
		if u, err := url.Parse(external); err == nil {
			base = u.EscapedPath()
		}
	}
	return func(r *http.Request, _ target.Route) string {
		p, _ := ParsePath(RawPath(r))
		if external != "" {
			p.V1 = false
		}
		return base + p.Prefix()
	}
}
