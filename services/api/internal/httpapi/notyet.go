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
	{"GET", "/sandboxes/{id}/proxy/{port}", "access to sandbox ports through the server", ""},
	{"POST", "/sandboxes/{id}/proxy/{port}", "access to sandbox ports through the server", ""},
	{"PUT", "/sandboxes/{id}/proxy/{port}", "access to sandbox ports through the server", ""},
	{"PATCH", "/sandboxes/{id}/proxy/{port}", "access to sandbox ports through the server", ""},
	{"DELETE", "/sandboxes/{id}/proxy/{port}", "access to sandbox ports through the server", ""},
	{"GET", "/sandboxes/{id}/proxy/{port}/{path...}", "access to sandbox ports through the server", ""},
	{"POST", "/sandboxes/{id}/proxy/{port}/{path...}", "access to sandbox ports through the server", ""},
	{"PUT", "/sandboxes/{id}/proxy/{port}/{path...}", "access to sandbox ports through the server", ""},
	{"PATCH", "/sandboxes/{id}/proxy/{port}/{path...}", "access to sandbox ports through the server", ""},
	{"DELETE", "/sandboxes/{id}/proxy/{port}/{path...}", "access to sandbox ports through the server", ""},
}

// pages are the documents that exist at the root only.
var pages = []string{"/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"}

func notYet(k *kitx.Kit, prefix string) {
	for _, l := range later {
		refuse(k, l.method+" "+prefix+l.path, l.what, l.code)
	}
	if prefix == "" {
		for _, p := range pages {
			refuse(k, "GET "+p, "the pages of the API document", "")
		}
	}
}

func refuse(k *kitx.Kit, pattern, what, code string) {
	kitx.Route(k, pattern, kitx.Op("NotYet", http.StatusNotImplemented), nothing, func(context.Context, kitx.None) (kitx.None, error) {
		return kitx.None{}, fault.New(fault.Unsupported, what+": not supported by this server yet").WithCode(code)
	})
}
