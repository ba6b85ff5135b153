package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/sse"
)

// Wire codes of OpenSandbox 1.1.1 that more than one route uses.
const (
	codeBody         = "INVALID_REQUEST_BODY"
	codeQuery        = "MISSING_QUERY"
	codeRuntime      = "RUNTIME_ERROR"
	codeNotSupported = "NOT_SUPPORTED"
	codeNotFound     = "NOT_FOUND"
	codeMethod       = "METHOD_NOT_ALLOWED"
	codeUnauthorized = "UNAUTHORIZED"
)

// jsonType is the content type of every answer in JSON.
const jsonType = "application/json; charset=utf-8"

// maxBody bounds JSON bodies, in bytes. It is far above what one process argument can hold, and keeps a stranger from filling
// the sandbox's memory. Uploads are not subject to it.
const maxBody = 16 << 20

// failure is the error envelope.
type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	// Error repeats the message for a 401 only: the shape that OpenSandbox 1.1.1 sends there.
	Error string `json:"error,omitempty"`
}

// statuses maps the kinds that occur here.
var statuses = map[fault.Kind]int{
	fault.Internal:         http.StatusInternalServerError,
	fault.Invalid:          http.StatusBadRequest,
	fault.Unauthenticated:  http.StatusUnauthorized,
	fault.Forbidden:        http.StatusForbidden,
	fault.NotFound:         http.StatusNotFound,
	fault.Conflict:         http.StatusConflict,
	fault.MethodNotAllowed: http.StatusMethodNotAllowed,
	fault.TooLarge:         http.StatusRequestEntityTooLarge,
	fault.Unsupported:      http.StatusNotImplemented,
	fault.Unavailable:      http.StatusServiceUnavailable,
}

// encode returns v as JSON. Besides what encoding/json escapes, U+0085 is: some readers cut lines there. Outside strings JSON
// is ASCII, so replacing the two bytes is safe.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return sse.EscapeNEL(b), nil
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := encode(v)
	if err != nil {
		return err
	}
	return writeBytes(w, status, b)
}

func writeBytes(w http.ResponseWriter, status int, body []byte) error {
	return writeBlocks(w, status, [][]byte{body})
}

func writeBlocks(w http.ResponseWriter, status int, body [][]byte) error {
	length := 0
	for _, b := range body {
		length += len(b)
	}
	w.Header().Set("Content-Type", jsonType)
	w.Header().Set("Content-Length", strconv.Itoa(length))
	w.WriteHeader(status)
	for _, b := range body {
		if _, err := w.Write(b); err != nil {
			break // The client is gone; nobody is left to tell.
		}
	}
	return nil
}

// empty answers 200 without a body. The length is explicit: some clients parse a chunked empty body as JSON and fail.
func empty(w http.ResponseWriter) error {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	return nil
}

// fail writes err. Errors that nobody classified are the sandbox's own operating system speaking; inside the sandbox their text
// is no secret and the client needs it.
func fail(w http.ResponseWriter, err error) {
	status, f := http.StatusInternalServerError, failure{Code: codeRuntime, Message: err.Error()}
	if fe, ok := errors.AsType[*fault.Error](err); ok {
		status = statuses[fault.KindOf(fe)]
		f.Message = fault.TextOf(fe)
		if c := fault.CodeOf(fe); c != "" {
			f.Code = c
		}
	}
	if status == 0 {
		status = http.StatusInternalServerError
	}
	if f.Message == "" {
		f.Message = http.StatusText(status)
	}
	if status == http.StatusUnauthorized {
		f.Error = f.Message
	}
	// A handler that failed halfway may have announced another body.
	for _, name := range []string{"Content-Disposition", "Content-Encoding", "Last-Modified", "Accept-Ranges"} {
		w.Header().Del(name)
	}
	_ = writeJSON(w, status, f)
}

func badBody(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return fault.Newf(fault.TooLarge, "the request body is larger than %d bytes", tooLarge.Limit).WithCode(codeBody)
	}
	return fault.Newf(fault.Invalid, "error parsing request, MAYBE invalid body format. %s", err).WithCode(codeBody)
}

// decode reads the first JSON value of the body; the content type and whatever follows are ignored, as in OpenSandbox 1.1.1.
func decode(w http.ResponseWriter, r *http.Request, v any) error {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(v)
	if errors.Is(err, io.EOF) {
		err = errors.New("the body is empty")
	}
	if err != nil {
		return badBody(err)
	}
	return nil
}

// BackendFailed answers a proxied request whose application cannot be reached.
func BackendFailed(w http.ResponseWriter, port int, err error) {
	_ = writeJSON(w, http.StatusBadGateway, failure{
		Code: "BACKEND_CONNECTION_FAILED", Message: "nothing answers on port " + strconv.Itoa(port) + " in the sandbox: " + err.Error(),
	})
}
