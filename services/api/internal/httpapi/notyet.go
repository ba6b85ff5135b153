package httpapi

import (
	"context"
	"net/http"

	"opensandbox/libs/fault"
	"opensandbox/libs/kitx"
)

// later are the routes of OpenSandbox 1.1.1 that this server does not offer yet: they answer 501 and say what is missing.
var later = []struct{ method, path, what, code string }{
	{"POST", "/sandboxes/{id}/snapshots", "snapshots", "SNAPSHOT::NOT_IMPLEMENTED"},
	{"GET", "/snapshots", "snapshots", "SNAPSHOT::NOT_IMPLEMENTED"},
	{"GET", "/snapshots/{id}", "snapshots", "SNAPSHOT::NOT_IMPLEMENTED"},
	{"DELETE", "/snapshots/{id}", "snapshots", "SNAPSHOT::NOT_IMPLEMENTED"},
	{"POST", "/pools", "pools", "KUBERNETES::POOL_NOT_SUPPORTED"},
	{"GET", "/pools", "pools", "KUBERNETES::POOL_NOT_SUPPORTED"},
	{"GET", "/pools/{name}", "pools", "KUBERNETES::POOL_NOT_SUPPORTED"},
	{"PUT", "/pools/{name}", "pools", "KUBERNETES::POOL_NOT_SUPPORTED"},
	{"DELETE", "/pools/{name}", "pools", "KUBERNETES::POOL_NOT_SUPPORTED"},
	{"POST", "/templates", "templates", "FSB::API_NOT_SUPPORTED"},
	{"GET", "/templates", "templates", "FSB::API_NOT_SUPPORTED"},
	{"GET", "/templates/{id}", "templates", "FSB::API_NOT_SUPPORTED"},
	{"DELETE", "/templates/{id}", "templates", "FSB::API_NOT_SUPPORTED"},
	{"GET", "/sandboxes/{id}/networkpolicy", "network policies", ""},
	{"PUT", "/sandboxes/{id}/networkpolicy", "network policies", ""},
	{"PATCH", "/sandboxes/{id}/networkpolicy", "network policies", ""},
	{"DELETE", "/sandboxes/{id}/networkpolicy", "network policies", ""},
}

func notYet(k *kitx.Kit, prefix string) {
	notPorts(k, prefix)
	for _, l := range later {
		refuse(k, l.method+" "+prefix+l.path, l.what, l.code)
	}
}

func refuse(k *kitx.Kit, pattern, what, code string) {
	kitx.Route(k, pattern, kitx.Op("NotYet", http.StatusNotImplemented), nothing, func(context.Context, kitx.None) (kitx.None, error) {
		return kitx.None{}, fault.New(fault.Unsupported, what+": not supported by this server yet").WithCode(code)
	})
}

// notPorts answers what looks like the path of a sandbox port and is none; those that are never come here.
func notPorts(k *kitx.Kit, prefix string) {
	refusal := fault.New(fault.Invalid, "port: expected a whole number; the path up to the port must not be percent-encoded").
		WithDetails(fault.Detail{Field: "port", Problem: "expected a whole number"})
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		for _, path := range []string{"/sandboxes/{id}/proxy/{port}", "/sandboxes/{id}/proxy/{port}/{path...}"} {
			kitx.Route(k, method+" "+prefix+path, kitx.Op("ProxyPort", http.StatusOK), nothing,
				func(context.Context, kitx.None) (kitx.None, error) { return kitx.None{}, refusal })
		}
	}
}
