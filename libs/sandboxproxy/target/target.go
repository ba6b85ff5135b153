// Package target finds in a request which port of which sandbox it is for, and what is left of the path for the application.
//
// It reads bytes that strangers send, knows nothing of records or addresses, and never decodes a path.
package target

import (
	"strconv"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Target is a port inside a sandbox.
type Target struct {
	ID sandbox.ID
	// Port is 1 to 65535.
	Port int
}

// Request is what a Mode may look at.
type Request struct {
	// Path is the path as it came over the wire, with its percent-encoding and without the query.
	Path string
	// Host is the request's Host, perhaps with a port.
	Host string
	// Header returns the first value of a header, or "".
	Header func(name string) string
}

// Route is where a request goes.
type Route struct {
	Target
	// Path is the raw path for the application. It starts with a slash.
	Path string
	// RequestURI is what a renew intent says about the path; empty in modes that say nothing.
	RequestURI string
}

// Mode is one way of naming a target in a request. Implementations are immutable values. Parse gives a fault.Invalid whose text
// starts with "invalid ingress route: ".
type Mode interface {
	Parse(r Request) (Route, error)
}

// CodeInvalidRoute is the wire code of a request that names no target.
const CodeInvalidRoute = "INGRESS::INVALID_ROUTE"

// maxID bounds an id. Ids of this platform have 36 characters; 63 is the longest label of a host name (RFC 1035), where other modes
// carry the id.
const maxID = 63

func invalid(why string) error {
	return fault.New(fault.Invalid, "invalid ingress route: "+why).WithCode(CodeInvalidRoute)
}

// ParseID takes letters, digits and hyphens, neither first nor last a hyphen: what a label of a host name can carry.
func ParseID(s string) (sandbox.ID, error) {
	if s == "" {
		return "", invalid("the sandbox id is missing")
	}
	if len(s) > maxID {
		return "", invalid("the sandbox id is longer than " + strconv.Itoa(maxID) + " characters")
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (c != '-' || i == 0 || i == len(s)-1) {
			return "", invalid("the sandbox id has a character that no id has")
		}
	}
	return sandbox.ID(s), nil
}

// ParsePort takes 1 to 65535 in plain decimal digits, so that each port has one spelling.
func ParsePort(s string) (int, error) {
	if s == "" {
		return 0, invalid("the port is missing")
	}
	if len(s) > len("65535") || s[0] == '0' {
		return 0, invalid("the port is not a number from 1 to 65535 without a leading zero")
	}
	port := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, invalid("the port is not a number from 1 to 65535 without a leading zero")
		}
		port = port*10 + int(s[i]-'0')
	}
	if port > 65535 {
		return 0, invalid("the port is not a number from 1 to 65535 without a leading zero")
	}
	return port, nil
}
