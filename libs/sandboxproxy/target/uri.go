package target

import (
	"strconv"
	"strings"
)

// URI is the mode of paths such as /{id}/{port}/rest: the application gets /rest, byte by byte.
type URI struct{}

var _ Mode = URI{}

// Parse implements Mode.
func (URI) Parse(r Request) (Route, error) {
	path, ok := strings.CutPrefix(r.Path, "/")
	if !ok {
		return Route{}, invalid("the path does not start with a slash")
	}
	id, path, _ := strings.Cut(path, "/")
	port, rest, more := strings.Cut(path, "/")
	var t Target
	var err error
	if t.ID, err = ParseID(id); err != nil {
		return Route{}, err
	}
	if t.Port, err = ParsePort(port); err != nil {
		return Route{}, err
	}
	out := Route{Target: t, Path: "/"}
	if more {
		out.Path = "/" + rest
	}
	out.RequestURI = out.Path
	return out, nil
}

// Prefix returns the part of a path that names t.
func (URI) Prefix(t Target) string { return "/" + string(t.ID) + "/" + strconv.Itoa(t.Port) }
