package proxy

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"opensandbox/libs/fault"
	"opensandbox/libs/kitx"
	"opensandbox/services/ingress-router/internal/target"
)

// Wire codes of applications that cannot be reached, those of the proxy in OpenSandbox 1.1.1.
const (
	CodeConnectionFailed = "BACKEND_CONNECTION_FAILED"
	CodeResponseFailed   = "BACKEND_RESPONSE_FAILED"
)

// CodeInvalidBody is the wire code of a request whose body breaks off, or is not in the form that its header promises.
const CodeInvalidBody = "INGRESS::INVALID_BODY"

// textPrefix starts the text of every error, as in OpenSandbox 1.1.1.
const textPrefix = "OpenSandbox Ingress: "

// fail answers a request that was not forwarded, or to which no answer came.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	c := callOf(r.Context())
	if r.Context().Err() != nil || c.seen.hijacked {
		return // nobody is left to answer
	}
	if c.body.broken.Load() {
		err = fault.New(fault.Invalid, "the body could not be read to its end").WithCode(CodeInvalidBody).Because(err)
	}
	c.stamp(nil)
	c.refuseEarly()
	c.seen.outcome = outcomeOf(err)
	if _, classified := errors.AsType[*fault.Error](err); classified {
		p.deps.Log.DebugContext(r.Context(), "request refused", "error", err)
		answer := fault.New(fault.KindOf(err), textPrefix+fault.TextOf(err)).WithCode(fault.CodeOf(err)).
			About(fault.SubjectOf(err)).RetryAfter(fault.RetryAfterOf(err))
		kitx.WriteError(w, answer)
		return
	}
	p.deps.Log.WarnContext(r.Context(), "no answer from a sandbox",
		"sandbox", c.route.ID, "port", c.route.Port, "address", c.upstream.Address, "error", err)
	code, text := CodeResponseFailed, "the connection to port "+strconv.Itoa(c.route.Port)+" of the sandbox broke before an answer came"
	if isDial(err) {
		code, text = CodeConnectionFailed, "nothing answers on port "+strconv.Itoa(c.route.Port)+" of the sandbox"
	}
	badGateway(w, code, text)
}

func outcomeOf(err error) string {
	_, classified := errors.AsType[*fault.Error](err)
	switch {
	case !classified && isDial(err):
		return ConnectionFailed
	case !classified:
		return ResponseFailed
	case fault.CodeOf(err) == target.CodeInvalidRoute:
		return BadRoute
	case fault.CodeOf(err) == CodeInvalidBody:
		return BadBody
	case fault.Is(err, fault.NotFound):
		return NotFound
	case fault.Is(err, fault.Unavailable):
		return NotReady
	}
	return Failed
}

// badGateway writes the envelope with status 502, which no fault.Kind has: only a proxy answers for somebody else.
func badGateway(w http.ResponseWriter, code, text string) {
	body, err := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{code, textPrefix + text})
	if err != nil { // two strings cannot fail to be encoded
		body = []byte(`{"code":"INTERNAL_ERROR","message":"internal error"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusBadGateway)
	_, _ = w.Write(body) // the client may have gone
}
