package plainhttp

import "bytes"

// verdict is what can be said of the bytes at the beginning of a request.
type verdict int

const (
	// incomplete: there is no end of the header yet.
	incomplete verdict = iota
	plain
	other
)

var endOfHead = []byte("\r\n\r\n")

// judge looks at the beginning of a request, and returns the length of its head if that is complete. It takes only what no two readers
// understand in two ways; what it does not know is for net/http.
func judge(b []byte) (length int, v verdict) {
	if len(b) > 0 && b[0] != 'G' && b[0] != 'H' && b[0] != 'O' {
		return 0, other
	}
	i := bytes.Index(b, endOfHead)
	if i < 0 {
		return 0, incomplete
	}
	head := b[:i+2] // each line with its end
	line, rest, _ := bytes.Cut(head, endOfHead[:2])
	if !isRequestLine(line) {
		return 0, other
	}
	hosts := 0
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, endOfHead[:2])
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !isName(name) || !isValue(value) {
			return 0, other
		}
		switch ruleOf(name) {
		case refused:
			return 0, other
		case host:
			hosts++
			if !isHost(bytes.TrimSpace(value)) {
				return 0, other
			}
		case connection:
			if !equalFold(bytes.TrimSpace(value), "keep-alive") {
				return 0, other
			}
		}
	}
	if hosts != 1 { // RFC 9112, section 3.2
		return 0, other
	}
	return i + len(endOfHead), plain
}

// isRequestLine takes the origin form (RFC 9112, section 3.2.1) of three methods and one version.
func isRequestLine(line []byte) bool {
	target, ok := bytes.CutSuffix(line, []byte(" HTTP/1.1"))
	if !ok {
		return false
	}
	for _, method := range [...]string{"GET ", "HEAD ", "OPTIONS "} {
		if bytes.HasPrefix(target, []byte(method)) {
			target = target[len(method):]
			break
		}
	}
	if len(target) == 0 || target[0] != '/' {
		return false // also what has no known method: no slash comes first then
	}
	for _, c := range target {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

type rule int

const (
	known rule = iota
	host
	connection
	refused
)

// ruleOf returns what is done about a header: those that say something of a body, of the connection or of another protocol make a request
// one for net/http.
func ruleOf(name []byte) rule {
	switch len(name) {
	case len("te"):
		return refusedIf(name, "te")
	case len("host"):
		if equalFold(name, "host") {
			return host
		}
	case len("expect"):
		return refusedIf(name, "expect")
	case len("upgrade"): // and trailer
		return max(refusedIf(name, "upgrade"), refusedIf(name, "trailer"))
	case len("connection"):
		if equalFold(name, "connection") {
			return connection
		}
	case len("content-length"): // and http2-settings
		return max(refusedIf(name, "content-length"), refusedIf(name, "http2-settings"))
	case len("transfer-encoding"):
		return refusedIf(name, "transfer-encoding")
	}
	return known
}

func refusedIf(name []byte, is string) rule {
	if equalFold(name, is) {
		return refused
	}
	return known
}

// equalFold compares ASCII; lower has no capitals.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// isName takes tokens (RFC 9110, section 5.6.2) of letters, digits, hyphens and underscores, which are all that anybody uses.
func isName(b []byte) bool {
	for _, c := range b {
		if !isAlphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return len(b) > 0
}

// isValue takes no control characters but tabs (RFC 9110, section 5.5): neither line ends by themselves nor NUL.
func isValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// isHost takes names and addresses with or without a port.
func isHost(b []byte) bool {
	for _, c := range b {
		if !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' && c != ':' && c != '[' && c != ']' {
			return false
		}
	}
	return len(b) > 0
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
