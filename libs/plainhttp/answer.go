package plainhttp

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// heldBack is how much of a body waits for its length to be known before the answer begins without one, as with net/http.
const heldBack = 2 << 10

// answer is the http.ResponseWriter of one request after the other. It may be used by one goroutine at a time. What cannot be written ends the
// context of the request; bufio.Writer remembers it.
type answer struct {
	c      *conn
	req    *http.Request
	header http.Header
	// frozen is the header as it was given, if the answer does not begin at once.
	frozen http.Header
	status int // 0 before WriteHeader
	// length is the declared length of the body, -1 if none is.
	length, written int64
	held            []byte
	// begun says that the head was written, chunked how the body is.
	begun, chunked bool
	// last says that the connection ends with the answer.
	last bool
}

var (
	_ http.ResponseWriter = (*answer)(nil)
	_ http.Flusher        = (*answer)(nil)
)

// begin makes it the writer of another request.
func (a *answer) begin(c *conn, req *http.Request) {
	*a = answer{c: c, req: req, header: make(http.Header, 8), length: -1, held: a.held[:0]}
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	switch {
	case a.status != 0:
		a.c.l.logf("http: superfluous WriteHeader(%d) after %d", status, a.status)
		return
	case status < 100 || status > 999:
		panic(fmt.Sprintf("WriteHeader with status %d", status)) // as net/http does
	case status < http.StatusOK && status != http.StatusSwitchingProtocols:
		a.interim(status)
		return
	}
	a.status = status
	if given := a.header.Get("Content-Length"); given != "" {
		n, err := strconv.ParseInt(given, 10, 64)
		if err != nil || n < 0 {
			a.c.l.logf("http: invalid Content-Length %q", given)
			a.header.Del("Content-Length")
		} else {
			a.length = n
		}
	}
	if a.length >= 0 && a.typed(a.header) {
		a.commit(a.header, false, nil)
		return
	}
	a.frozen = a.header.Clone() // what the handler changes from now on does not count, except trailers
}

// interim writes an answer that another one follows.
func (a *answer) interim(status int) {
	a.statusLine(status)
	_ = a.header.WriteSubset(a.c.out, withoutBody)
	_, _ = a.c.out.WriteString("\r\n")
	_ = a.check(a.c.out.Flush())
}

// withoutBody are the headers that an answer without a body does not have (RFC 9110, section 8.6).
var withoutBody = map[string]bool{"Content-Length": true, "Transfer-Encoding": true}

// bodyAllowed is about the status alone (RFC 9110, sections 15.3.5 and 15.4.5).
func bodyAllowed(status int) bool {
	return status >= http.StatusOK && status != http.StatusNoContent && status != http.StatusNotModified
}

// typed reports whether nothing has to be found out about the type of the body.
func (a *answer) typed(h http.Header) bool {
	_, ok := h["Content-Type"]
	return ok || !bodyAllowed(a.status) || h.Get("Content-Encoding") != ""
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !bodyAllowed(a.status) {
		return 0, http.ErrBodyNotAllowed
	}
	if a.length >= 0 && a.written+int64(len(p)) > a.length {
		return 0, http.ErrContentLength
	}
	a.written += int64(len(p))
	if !a.begun {
		if len(a.held)+len(p) <= heldBack {
			a.held = append(a.held, p...)
			return len(p), nil
		}
		a.commit(a.frozen, false, p)
	}
	return len(p), a.body(p)
}

// Flush implements http.Flusher.
func (a *answer) Flush() { _ = a.FlushError() }

// FlushError sends on what was written.
func (a *answer) FlushError() error {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !a.begun {
		a.commit(a.frozen, false, nil)
	}
	return a.check(a.c.out.Flush())
}

func (a *answer) check(err error) error {
	if err != nil {
		a.c.cancel()
	}
	return err
}

// commit writes the head, and what was held back of the body. complete says that nothing follows; next is what follows, if that is known.
func (a *answer) commit(h http.Header, complete bool, next []byte) {
	a.begun = true
	out, bodyless := a.c.out, a.req.Method == http.MethodHead || !bodyAllowed(a.status)
	trailers := a.promised(h)
	if complete && a.length < 0 && trailers == nil && bodyAllowed(a.status) && (!bodyless || len(a.held) > 0) {
		a.length = int64(len(a.held))
		h.Set("Content-Length", strconv.FormatInt(a.length, 10))
	}
	if beginning := a.beginning(next); len(beginning) > 0 && !a.typed(h) {
		h.Set("Content-Type", http.DetectContentType(beginning))
	}
	delete(h, "Transfer-Encoding")
	if !bodyAllowed(a.status) {
		delete(h, "Content-Length")
		if a.status == http.StatusNotModified {
			delete(h, "Content-Type") // net/http does so
		}
	}
	a.last = a.c.l.ending.Load() || closes(h)
	if a.last {
		h["Connection"] = []string{"close"}
	}
	a.statusLine(a.status)
	_ = h.WriteSubset(out, trailers)
	if _, ok := h["Date"]; !ok {
		_, _ = out.Write(time.Now().UTC().AppendFormat(append(out.AvailableBuffer(), "Date: "...), http.TimeFormat))
		_, _ = out.WriteString("\r\n")
	}
	if a.chunked = !bodyless && a.length < 0; a.chunked {
		_, _ = out.WriteString("Transfer-Encoding: chunked\r\n")
	}
	_, _ = out.WriteString("\r\n")
	if len(a.held) > 0 {
		_ = a.body(a.held)
	}
}

// beginning returns what the body begins with, as much as its type depends on.
func (a *answer) beginning(next []byte) []byte {
	if len(a.held) == 0 {
		return next
	}
	return a.held
}

func closes(h http.Header) bool {
	return slices.ContainsFunc(h["Connection"], func(v string) bool { return strings.EqualFold(strings.TrimSpace(v), "close") })
}

// promised returns the headers that are sent after the body with the mark of net/http, which are no headers of the answer, and nil if there is no
// trailer at all.
func (a *answer) promised(h http.Header) map[string]bool {
	var found map[string]bool
	if len(h["Trailer"]) > 0 {
		found = map[string]bool{}
	}
	for name := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			if found == nil {
				found = map[string]bool{}
			}
			found[name] = true
		}
	}
	return found
}

func (a *answer) statusLine(status int) {
	line := append(a.c.out.AvailableBuffer(), "HTTP/1.1 "...)
	line = append(strconv.AppendInt(line, int64(status), 10), ' ')
	if text := http.StatusText(status); text != "" {
		line = append(line, text...)
	} else {
		line = strconv.AppendInt(append(line, "status code "...), int64(status), 10)
	}
	_, _ = a.c.out.Write(append(line, "\r\n"...))
}

// body writes a part of the body in the form that the head has promised.
func (a *answer) body(p []byte) error {
	out := a.c.out
	if a.req.Method == http.MethodHead {
		return nil
	}
	if !a.chunked {
		_, err := out.Write(p)
		return a.check(err)
	}
	_, _ = out.Write(append(strconv.AppendInt(out.AvailableBuffer(), int64(len(p)), 16), "\r\n"...))
	_, _ = out.Write(p)
	_, err := out.WriteString("\r\n")
	return a.check(err)
}

// finish ends the answer, and reports whether another one may follow.
func (a *answer) finish() bool {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !a.begun {
		a.commit(a.frozen, true, nil)
	}
	if a.chunked {
		_, _ = a.c.out.WriteString("0\r\n")
		_ = a.trailer().Write(a.c.out)
		_, _ = a.c.out.WriteString("\r\n")
	}
	if a.c.out.Flush() != nil {
		return false
	}
	short := a.length >= 0 && a.written != a.length && bodyAllowed(a.status) && a.req.Method != http.MethodHead
	return !short && !a.last
}

// trailer returns what was promised in Trailer, and what has the mark of net/http.
func (a *answer) trailer() http.Header {
	var t http.Header
	add := func(name string, values []string) {
		if t == nil {
			t = make(http.Header)
		}
		t[name] = append(t[name], values...)
	}
	for name, values := range a.header {
		if bare, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			add(http.CanonicalHeaderKey(bare), values)
		}
	}
	for _, line := range a.frozen["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if values := a.header[name]; len(values) > 0 && !neverTrailer(name) {
				add(name, values)
			}
		}
	}
	return t
}

// neverTrailer are the headers that frame a message (RFC 9110, section 6.5.1).
func neverTrailer(name string) bool {
	return name == "Transfer-Encoding" || name == "Content-Length" || name == "Trailer"
}
