package sandboxproxy

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"opensandbox/libs/fault"
	"opensandbox/libs/kitx"
)

// Wire codes of applications that cannot be reached, those of the proxy in OpenSandbox 1.1.1.
const (
	CodeConnectionFailed = "BACKEND_CONNECTION_FAILED"
	CodeResponseFailed   = "BACKEND_RESPONSE_FAILED"
	CodeTimeout          = "BACKEND_TIMEOUT"
)

// CodeInvalidBody is the wire code of a router for a request whose body breaks off, or is not in the form that its header promises.
const CodeInvalidBody = "INGRESS::INVALID_BODY"

// fail is refuse as httputil calls it.
func (p *Proxy) fail(_ http.ResponseWriter, r *http.Request, err error) {
	p.refuse(r.Context(), callOf(r.Context()), err)
}

// refuse answers a request that was not forwarded, or to which no answer came.
func (p *Proxy) refuse(ctx context.Context, c *call, err error) {
	if ctx.Err() != nil || c.seen.hijacked {
		return // nobody is left to answer
	}
	if c.body.broken.Load() {
		err = fault.New(fault.Invalid, "the body could not be read to its end").WithCode(p.cfg.Dialect.InvalidBody).Because(err)
	}
	c.stamp(nil)
	c.refuseEarly()
	if c.seen.outcome = outcomeOf(err); c.body.broken.Load() {
		c.seen.outcome = BadBody
	}
	_, classified := errors.AsType[*fault.Error](err)
	if classified {
		p.deps.Log.DebugContext(ctx, "request refused", "error", err)
	} else {
		p.deps.Log.WarnContext(ctx, "no answer from a sandbox",
			"sandbox", c.route.ID, "port", c.route.Port, "address", c.upstream.Address, "error", err)
	}
	status, code, text := p.unanswered(err, c)
	if p.cfg.Dialect.CloseWebSockets && c.seen.kind == KindWebSocket && closeWebSocket(c.out, c.in, closeCodeOf(err), text) {
		return
	}
	if classified {
		kitx.WriteError(c.out, fault.New(fault.KindOf(err), text).WithCode(fault.CodeOf(err)).About(fault.SubjectOf(err)).RetryAfter(fault.RetryAfterOf(err)))
		return
	}
	writeEnvelope(c.out, status, code, text)
}

// unanswered returns what a client is told; status and code only of what the application did.
func (p *Proxy) unanswered(err error, c *call) (status int, code, text string) {
	prefix, port := p.cfg.Dialect.TextPrefix, "port "+strconv.Itoa(c.route.Port)+" of the sandbox"
	refused := notUpgraded{}
	switch _, classified := errors.AsType[*fault.Error](err); {
	case classified:
		return 0, "", prefix + fault.TextOf(err)
	case errors.As(err, &refused):
		return http.StatusBadGateway, CodeResponseFailed, prefix + port + " refuses the WebSocket with status " + strconv.Itoa(refused.status)
	case isDial(err):
		return http.StatusBadGateway, CodeConnectionFailed, prefix + "nothing answers on " + port
	case isTimeout(err):
		return http.StatusGatewayTimeout, CodeTimeout, prefix + port + " does not answer in time"
	}
	return http.StatusBadGateway, CodeResponseFailed, prefix + "the connection to " + port + " broke before an answer came"
}

func closeCodeOf(err error) int {
	if errors.As(err, &notUpgraded{}) {
		return closePolicy
	}
	return closeInternal
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

func outcomeOf(err error) string {
	_, classified := errors.AsType[*fault.Error](err)
	switch {
	case !classified && isDial(err):
		return ConnectionFailed
	case !classified:
		return ResponseFailed
	case fault.Is(err, fault.Invalid), fault.Is(err, fault.MethodNotAllowed):
		return BadRoute
	case fault.Is(err, fault.NotFound):
		return NotFound
	case fault.Is(err, fault.Unavailable):
		return NotReady
	}
	return Failed
}

// writeEnvelope writes an error whose status no fault.Kind has: only a proxy answers for somebody else.
func writeEnvelope(w http.ResponseWriter, status int, code, text string) {
	body, err := json.Marshal(struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}{code, text})
	if err != nil { // two strings cannot fail to be encoded
		body = []byte(`{"code":"INTERNAL_ERROR","message":"internal error"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have gone
}
