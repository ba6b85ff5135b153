// Package fault is the one error vocabulary of the platform: every error that can reach a client carries a class (Kind), a
// wire code, a text that is safe to show, and the cause, which is logged and never sent.
//
// It knows nothing of HTTP; the transport maps a Kind to a status in one table.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind is the class of an error. The set is closed: transports switch over it.
type Kind int

// The kinds, from "the caller's mistake" to "ours".
const (
	// Internal is the zero value on purpose: an error that nobody classified is ours.
	Internal Kind = iota
	// Invalid means that the request can never succeed as it is.
	Invalid
	// Unauthenticated means that credentials are missing or wrong.
	Unauthenticated
	// Forbidden means that the caller is known and may not do this.
	Forbidden
	// NotFound means that the named thing does not exist for this caller.
	NotFound
	// MethodNotAllowed means that the route exists with other methods.
	MethodNotAllowed
	// Conflict means that the present state does not allow the request.
	Conflict
	// TooLarge means that the request body exceeds a limit.
	TooLarge
	// UnsupportedMedia means that the body has a content type that is not understood.
	UnsupportedMedia
	// Exhausted means that the caller has used up a rate or a quota.
	Exhausted
	// Unsupported means that this server does not offer the capability.
	Unsupported
	// Unavailable means that something the request needs is away for now: the same request may succeed later.
	Unavailable
)

var kindNames = [...]string{
	Internal: "internal", Invalid: "invalid", Unauthenticated: "unauthenticated", Forbidden: "forbidden", NotFound: "not found",
	MethodNotAllowed: "method not allowed", Conflict: "conflict", TooLarge: "too large", UnsupportedMedia: "unsupported media",
	Exhausted: "exhausted", Unsupported: "unsupported", Unavailable: "unavailable",
}

// String returns the kind in words, for logs.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("kind %d", int(k))
	}
	return kindNames[k]
}

// Detail names one faulty field of a request. It never repeats the value: values can be secrets.
type Detail struct {
	Field   string `json:"field"`
	Problem string `json:"problem"`
}

// Error is an error with a class. Values are immutable: the With methods return copies, so a shared one can be extended safely.
type Error struct {
	kind       Kind
	code       string
	text       string
	details    []Detail
	retryAfter time.Duration
	subject    string
	cause      error
}

// New returns an error of a kind with a text that clients may see.
func New(kind Kind, text string) *Error { return &Error{kind: kind, text: text} }

// Newf is New with a format. The arguments become visible to clients.
func Newf(kind Kind, format string, args ...any) *Error {
	return &Error{kind: kind, text: fmt.Sprintf(format, args...)}
}

// WithCode sets the wire code, such as DOCKER::SANDBOX_NOT_FOUND. Without one the transport uses a code for the kind.
func (e *Error) WithCode(code string) *Error { c := *e; c.code = code; return &c }

// WithDetails adds faulty fields.
func (e *Error) WithDetails(d ...Detail) *Error {
	c := *e
	c.details = append(append([]Detail(nil), e.details...), d...)
	return &c
}

// RetryAfter says after how long a repetition can help; it is sent with 429 and 503.
func (e *Error) RetryAfter(d time.Duration) *Error { c := *e; c.retryAfter = d; return &c }

// About names the sandbox that the error is about, for answers that must carry its id.
func (e *Error) About(id string) *Error { c := *e; c.subject = id; return &c }

// Because attaches the cause: logged at the edge, never sent.
func (e *Error) Because(err error) *Error { c := *e; c.cause = err; return &c }

// Error returns text and cause, for logs.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.text
	}
	return e.text + ": " + e.cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is(err, target) true for another *Error of the same kind and code, so that sentinels can be compared after
// details were added.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.kind == e.kind && t.code != "" && t.code == e.code
}

// KindOf returns the kind of the outermost classified error in the chain; Internal if there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.kind
	}
	return Internal
}

// CodeOf returns the wire code of the outermost classified error, or "".
func CodeOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.code
	}
	return ""
}

// TextOf returns what a client may read about err. An unclassified error gives a fixed text: its own could leak anything.
func TextOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.text
	}
	return "internal error"
}

// DetailsOf returns the faulty fields of the outermost classified error.
func DetailsOf(err error) []Detail {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.details
	}
	return nil
}

// RetryAfterOf returns the waiting time, or 0 when repeating does not help.
func RetryAfterOf(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.retryAfter
	}
	return 0
}

// SubjectOf returns the id that the error is about, or "".
func SubjectOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.subject
	}
	return ""
}

// Is reports whether err has the kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
