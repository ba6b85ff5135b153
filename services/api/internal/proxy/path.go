// Package proxy is what the server's own proxy of sandbox ports has beside the router: its paths, and the choice among the addresses of
// a sandbox. The forwarding is that of package sandboxproxy.
package proxy

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandboxproxy/target"
)

// CodeInvalidPort is the wire code of a port that is none, in OpenSandbox 1.1.1.
const CodeInvalidPort = "DOCKER::INVALID_PORT"

// Path is what a path of the proxy consists of.
type Path struct {
	// V1 says that the path is below /v1.
	V1 bool
	// ID and Port are as they were written. Port has digits only.
	ID, Port string
	// Rest is the raw path for the application. It is empty or starts with a slash.
	Rest string
}

// ParsePath reads /sandboxes/{id}/proxy/{port} with anything behind, at the root or below /v1, from a raw path. Doubled slashes and a
// doubled /v1, which published clients produce from a configured base URL, are taken for one, only in front of what belongs to the
// application. ok is false for every other path.
func ParsePath(raw string) (p Path, ok bool) {
	rest := raw
	next := func() string {
		rest = strings.TrimLeft(rest, "/")
		i := strings.IndexByte(rest, '/')
		if i < 0 {
			i = len(rest)
		}
		segment := rest[:i]
		rest = rest[i:]
		return segment
	}
	if !strings.HasPrefix(raw, "/") {
		return Path{}, false
	}
	segment := next()
	for segment == "v1" {
		p.V1 = true
		segment = next()
	}
	if segment != "sandboxes" {
		return Path{}, false
	}
	if p.ID = next(); p.ID == "" || next() != "proxy" {
		return Path{}, false
	}
	if p.Port = next(); !digits(p.Port) {
		return Path{}, false
	}
	p.Rest = rest
	return p, true
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// Prefix returns the part of a path that names the port, in its tidy form.
func (p Path) Prefix() string {
	prefix := "/sandboxes/" + p.ID + "/proxy/" + p.Port
	if p.V1 {
		return "/v1" + prefix
	}
	return prefix
}

// Climbs reports whether what is for the application has .. in it, plain or encoded. Something in front of the server may have
// understood such a path as another one, so that it is not exempt from the API key, as in OpenSandbox 1.1.1.
func (p Path) Climbs() bool {
	decoded, err := url.PathUnescape(p.Rest)
	return err != nil || strings.Contains(decoded, "..")
}

// RawPath returns the path of a request byte by byte, as it came.
func RawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if strings.HasPrefix(path, "/") {
		return path
	}
	return r.URL.EscapedPath()
}

// Mode is the target.Mode of the paths of ParsePath.
type Mode struct{}

var _ target.Mode = Mode{}

// Parse implements target.Mode. Unlike other modes it gives the errors of the lifecycle API.
func (Mode) Parse(r target.Request) (target.Route, error) {
	p, ok := ParsePath(r.Path)
	if !ok {
		return target.Route{}, fault.New(fault.NotFound, "there is no such route")
	}
	port, err := strconv.Atoi(p.Port)
	if err != nil || port < 1 || port > 65535 {
		return target.Route{}, fault.Newf(fault.Invalid, "port %.20s is out of range: expected 1 to 65535", p.Port).WithCode(CodeInvalidPort)
	}
	id, err := target.ParseID(p.ID)
	if err != nil {
		return target.Route{}, sandbox.ErrNotFound(sandbox.ID(p.ID[:min(len(p.ID), 64)]))
	}
	route := target.Route{Target: target.Target{ID: id, Port: port}, Path: p.Rest, RequestURI: p.Rest}
	if p.Rest == "" {
		route.Path, route.RequestURI = "/", "/"
	}
	return route, nil
}
