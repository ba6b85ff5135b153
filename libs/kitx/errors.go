package kitx

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"strconv"
	"time"

	"opensandbox/libs/fault"
)

// answers maps a kind to its status and to the wire code that is used when an error has none.
var answers = map[fault.Kind]struct {
	status int
	code   string
}{
	fault.Invalid:          {http.StatusBadRequest, "INVALID_REQUEST"},
	fault.Unauthenticated:  {http.StatusUnauthorized, "UNAUTHENTICATED"},
	fault.Forbidden:        {http.StatusForbidden, "FORBIDDEN"},
	fault.NotFound:         {http.StatusNotFound, "NOT_FOUND"},
	fault.MethodNotAllowed: {http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED"},
	fault.Conflict:         {http.StatusConflict, "CONFLICT"},
	fault.TooLarge:         {http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE"},
	fault.UnsupportedMedia: {http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE"},
	fault.Exhausted:        {http.StatusTooManyRequests, "TOO_MANY_REQUESTS"},
	fault.Internal:         {http.StatusInternalServerError, "INTERNAL_ERROR"},
	fault.Unsupported:      {http.StatusNotImplemented, "NOT_IMPLEMENTED"},
	fault.Unavailable:      {http.StatusServiceUnavailable, "UNAVAILABLE"},
}

// envelope is the body of every error. Published clients need code and message.
type envelope struct {
	Code      string         `json:"code"`
	Message   string         `json:"message"`
	Details   []fault.Detail `json:"details,omitempty"`
	SandboxID string         `json:"sandboxId,omitempty"`
}

// classify gives the errors of the standard library that cross every layer their class. Those that have one keep it, whatever their cause.
func classify(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return fault.Newf(fault.TooLarge, "the body exceeds the limit of %d bytes", tooLarge.Limit).Because(err)
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Unavailable, "the request took too long").RetryAfter(time.Second).Because(err)
	case errors.Is(err, context.Canceled):
		return fault.New(fault.Unavailable, "the request was given up").Because(err)
	}
	return err
}

func status(err error) int { return answers[fault.KindOf(classify(err))].status }

// WriteError writes the envelope of err with the status of its kind.
func WriteError(w http.ResponseWriter, err error) {
	err = classify(err)
	a := answers[fault.KindOf(err)]
	e := envelope{Code: fault.CodeOf(err), Message: fault.TextOf(err), Details: fault.DetailsOf(err), SandboxID: fault.SubjectOf(err)}
	if e.Code == "" {
		e.Code = a.code
	}
	body, marshalErr := json.Marshal(e)
	if marshalErr != nil { // four strings cannot fail to be encoded
		body = []byte(`{"code":"INTERNAL_ERROR","message":"internal error"}`)
	}
	h := w.Header()
	if own, ok := errors.AsType[interface {
		error
		Headerer
	}](err); ok {
		maps.Copy(h, own.Headers())
	}
	if d := fault.RetryAfterOf(err); d > 0 {
		h.Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(d.Seconds())))))
	}
	h.Set("Content-Type", "application/json")
	send(w, a.status, body)
}
