package sandboxproxy

import (
	"net/http"

	"opensandbox/libs/sandboxproxy/renewintent"
	"opensandbox/libs/sandboxproxy/target"
)

// Dialect is what the gateway and the server's own proxy do differently in OpenSandbox 1.1.1. It is not changed after New.
type Dialect struct {
	// Name is the name of the proxy in traces.
	Name string
	// TextPrefix starts the text of every error.
	TextPrefix string
	// InvalidBody is the wire code of a request whose body breaks off, or is not in the form that its header promises.
	InvalidBody string
	// Drop are headers that applications do not get, besides those that name the client or belong to the connection.
	Drop []string
	// DropAnswer are headers of applications that clients do not get.
	DropAnswer []string
	// Mark, if not nil, is set in the answers of applications.
	Mark http.Header
	// OwnRequestID gives every answer the id of the request, also where the application gives it another.
	OwnRequestID bool
	// Location, if not nil, returns what comes before a root-relative Location of an application, so that it leads back to it.
	Location func(r *http.Request, route target.Route) string
	// CloseWebSockets answers a WebSocket that cannot be forwarded with a close frame, because browsers show scripts nothing else.
	CloseWebSockets bool
}

// Gateway is the dialect of a router.
func Gateway() Dialect {
	return Dialect{
		Name: "router", TextPrefix: "OpenSandbox Ingress: ", InvalidBody: CodeInvalidBody,
		Drop: []string{"OpenSandbox-Ingress-To", "OPEN-SANDBOX-INGRESS", "OpenSandbox-Secure-Access", renewintent.Header, "OPEN-SANDBOX-API-KEY", "X-Real-IP"},
		Mark: http.Header{http.CanonicalHeaderKey(poweredBy): {poweredByValue}},
	}
}

// ServerProxy is the dialect of the server's own proxy. Cookies and Authorization are for the server, whose origin the applications share.
// location may be nil.
func ServerProxy(location func(r *http.Request, route target.Route) string) Dialect {
	return Dialect{
		Name: "server proxy", InvalidBody: "INVALID_REQUEST",
		Drop:       []string{"Authorization", "Cookie", "OPEN-SANDBOX-API-KEY", "OpenSandbox-Secure-Access", renewintent.Header, "X-Real-IP"},
		DropAnswer: []string{"Server"}, OwnRequestID: true, Location: location, CloseWebSockets: true,
	}
}
