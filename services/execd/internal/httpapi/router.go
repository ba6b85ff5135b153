package httpapi

import (
	"net/http"
	"net/url"
	"strings"
)

// handler answers one route; an error becomes the JSON envelope.
type handler func(w http.ResponseWriter, r *http.Request, args []string) error

// router finds handlers by path. It exists because http.ServeMux answers unclean paths with a redirect, which clients of this
// API take for an error.
type router struct {
	routes []route
}

type route struct {
	segments []string // "{}" stands for one non-empty segment, "{...}" at the end for any rest, also none.
	methods  map[string]handler
}

// on registers a handler for a method; "*" means every method.
func (t *router) on(method, pattern string, h handler) {
	segments := strings.Split(strings.Trim(pattern, "/"), "/")
	for i := range t.routes {
		if strings.Join(t.routes[i].segments, "/") == strings.Join(segments, "/") {
			t.routes[i].methods[method] = h
			return
		}
	}
	t.routes = append(t.routes, route{segments: segments, methods: map[string]handler{method: h}})
}

// find returns the route of a folded raw path with the decoded values of its placeholders. The first registered match wins.
func (t *router) find(path string) (rt *route, args []string) {
	segments := strings.Split(strings.Trim(path, "/"), "/")
	for i := range t.routes {
		if args, ok := t.routes[i].match(segments); ok {
			return &t.routes[i], args
		}
	}
	return nil, nil
}

func (rt *route) match(segments []string) (args []string, ok bool) {
	for i, want := range rt.segments {
		if want == "{...}" {
			return args, true
		}
		if i >= len(segments) {
			return nil, false
		}
		if want != "{}" {
			if segments[i] != want {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(segments[i])
		if err != nil || value == "" {
			return nil, false
		}
		args = append(args, value)
	}
	return args, len(segments) == len(rt.segments)
}

// allowed lists the methods of a route for the Allow header, in a fixed order.
func (rt *route) allowed() string {
	var out []string
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		if rt.methods[m] != nil {
			out = append(out, m)
		}
	}
	return strings.Join(out, ", ")
}

// fold removes doubled slashes, a trailing slash, and a doubled /v1, which clients produce when their base URL ends in one. A
// proxy path is folded only in front of the part that belongs to the proxied application.
func fold(path string) string {
	var b strings.Builder
	proxied := 0 // Segments seen since /proxy, once seen.
	rest := path
	for rest != "" {
		rest = strings.TrimLeft(rest, "/")
		segment, after, _ := strings.Cut(rest, "/")
		more := len(segment) < len(rest)
		if segment == "" {
			break
		}
		if segment == "v1" && b.String() == "/v1" {
			rest = after
			continue
		}
		b.WriteByte('/')
		b.WriteString(segment)
		rest = after
		if b.String() == "/proxy" || proxied > 0 {
			proxied++
		}
		if proxied == 2 {
			if more {
				b.WriteByte('/')
				b.WriteString(rest)
			}
			return b.String()
		}
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}
