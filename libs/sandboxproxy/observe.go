package sandboxproxy

import (
	"bufio"
	"context"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"opensandbox/libs/httpx"
)

// Kinds of requests, a closed set.
const (
	KindHTTP = "http"
	// KindSSE is a request whose answer is a stream of events. It counts as KindHTTP until the answer begins.
	KindSSE       = "sse"
	KindWebSocket = "websocket"
	// KindUpgrade asks for another protocol than WebSocket.
	KindUpgrade = "upgrade"
)

// Outcomes of requests, a closed set.
const (
	// Proxied: the application has answered, whatever it said.
	Proxied = "proxied"
	// BadRoute: the request names no target.
	BadRoute = "bad_route"
	// BadBody: the body broke off, or is not in the form that its header promises.
	BadBody  = "bad_body"
	NotFound = "not_found"
	// NotReady: the sandbox has no address, its node does not answer, or the store is away and nothing is known.
	NotReady = "not_ready"
	// ConnectionFailed: nothing listens at the address.
	ConnectionFailed = "connection_failed"
	// ResponseFailed: the connection broke before an answer came.
	ResponseFailed = "response_failed"
	// ClientGone: the client went away, or the router ended, before there was an answer.
	ClientGone = "client_gone"
	// Failed: none of the above.
	Failed = "error"
)

// Observer is told how requests go, with the words above. It must not block.
type Observer interface {
	// Active adds to the number of requests in progress of a kind.
	Active(kind string, delta int)
	// Answered is told once of each request: when the first byte of the answer goes out, or at its end if there was none. took is the
	// time since the request came in.
	Answered(kind, outcome string, took time.Duration)
}

type nobody struct{}

func (nobody) Active(string, int)                     {}
func (nobody) Answered(string, string, time.Duration) {}

// observation is what is told of a request.
type observation struct {
	began    time.Time
	kind     string
	outcome  string
	status   int
	hijacked bool
}

// kindOf returns what can be known before the answer.
func kindOf(r *http.Request) string {
	upgrades := slices.ContainsFunc(r.Header["Connection"], func(v string) bool {
		return slices.ContainsFunc(strings.Split(v, ","), func(t string) bool { return strings.EqualFold(strings.TrimSpace(t), "upgrade") })
	})
	switch {
	case !upgrades || r.Header.Get("Upgrade") == "":
		return KindHTTP
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		return KindWebSocket
	}
	return KindUpgrade
}

// begin counts and traces the request of c. end must be called.
func (p *Proxy) begin(c *call, plain bool) (context.Context, trace.Span) {
	p.busy.enter()
	c.seen = observation{began: time.Now(), kind: KindHTTP, outcome: ClientGone}
	if !plain {
		c.seen.kind = kindOf(c.in)
	}
	p.deps.Observer.Active(c.seen.kind, 1)
	ctx := c.in.Context()
	if !plain {
		ctx, c.cut = context.WithCancel(ctx)
	}
	if p.untraced && len(c.in.Header["Traceparent"]) == 0 {
		return ctx, trace.SpanFromContext(ctx) // it does nothing: asking the tracer for such a one takes longer
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(c.in.Header))
	return p.tracer.Start(ctx, p.cfg.Dialect.Name+" forward", trace.WithSpanKind(trace.SpanKindServer))
}

func (p *Proxy) end(ctx context.Context, span trace.Span, c *call) {
	if c.cut != nil {
		c.cut()
	}
	p.answered(c, 0)
	p.deps.Observer.Active(c.seen.kind, -1)
	if span.IsRecording() {
		describe(span, c.in.Method, c)
	}
	span.End()
	if p.deps.Log.Enabled(ctx, slog.LevelDebug) {
		p.logRequest(ctx, c.in.Method, c)
	}
	p.busy.leave()
}

func (p *Proxy) logRequest(ctx context.Context, method string, c *call) {
	p.deps.Log.DebugContext(ctx, "request", "method", method, "sandbox", c.route.ID, "port", c.route.Port, "kind", c.seen.kind,
		"outcome", c.seen.outcome, "status", c.seen.status, "took", time.Since(c.seen.began))
}

// describe leaves path and query out: they are the client's, and may hold secrets.
func describe(span trace.Span, method string, c *call) {
	span.SetAttributes(attribute.String("http.request.method", method), attribute.String("opensandbox.kind", c.seen.kind),
		attribute.String("opensandbox.outcome", c.seen.outcome))
	if c.route.Port != 0 {
		span.SetAttributes(attribute.String("opensandbox.sandbox", string(c.route.ID)), attribute.Int("opensandbox.port", c.route.Port))
	}
	if c.seen.status != 0 {
		span.SetAttributes(attribute.Int("http.response.status_code", c.seen.status))
	}
	if c.seen.status >= http.StatusInternalServerError || c.seen.status == 0 {
		span.SetStatus(codes.Error, c.seen.outcome)
	}
}

// answered notes that the first byte of an answer goes out; without a status, that none came. Only the first call counts.
func (p *Proxy) answered(c *call, status int) {
	if c.seen.status != 0 {
		return
	}
	if status != 0 && c.seen.outcome == ClientGone { // nobody has said anything else
		c.seen.outcome = Proxied
	}
	if c.seen.kind == KindHTTP && c.seen.outcome == Proxied && isEvents(c.out.Header()) {
		p.deps.Observer.Active(KindHTTP, -1)
		c.seen.kind = KindSSE
		p.deps.Observer.Active(KindSSE, 1)
	}
	c.seen.status = status
	p.deps.Observer.Answered(c.seen.kind, c.seen.outcome, time.Since(c.seen.began))
}

func isEvents(h http.Header) bool {
	given := h.Get("Content-Type")
	if !strings.Contains(strings.ToLower(given), "text/event-stream") {
		return false // without parsing, which takes longer than all other looks at the header
	}
	t, _, err := mime.ParseMediaType(given)
	return err == nil && t == "text/event-stream"
}

// passTrace makes the application's part of the trace a part of ours. Without a trace the client's headers go through as they are.
func passTrace(ctx context.Context, h http.Header) {
	if trace.SpanContextFromContext(ctx).IsValid() {
		h.Del("Tracestate")
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(h))
	}
}

// stamp gives the answer the id of the request, unless the application gives it one of its own. Interim answers (1xx) have taken
// away what was set before.
func (c *call) stamp(answer http.Header) {
	if id := httpx.RequestID(c.in.Context()); id != "" && len(answer[requestID]) == 0 {
		c.out.Header().Set(requestID, id)
		return
	}
	c.out.Header().Del(requestID)
}

// requestID is httpx.RequestIDHeader in its canonical form.
var requestID = http.CanonicalHeaderKey(httpx.RequestIDHeader)

// answer is the writer of one request. It notes when the answer begins, and keeps track of connections that are taken over.
type answer struct {
	http.ResponseWriter
	c *call
	p *Proxy
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if status >= http.StatusOK {
		a.p.answered(a.c, status)
	}
	a.ResponseWriter.WriteHeader(status)
	if status >= http.StatusOK && a.c.waits {
		a.flush()
	}
}

// Write implements http.ResponseWriter. What has come of a body does not wait for the rest of it.
func (a *answer) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	if a.c.rest -= int64(n); a.c.rest > 0 && err == nil {
		a.flush()
	}
	return n, err
}

// flush sends on what was written; that the client has gone shows itself with the next write.
func (a *answer) flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// expect notes how a body of known length comes.
func (c *call) expect(res *http.Response) {
	if res.ContentLength <= 0 || res.Body == nil || res.Body == http.NoBody {
		return
	}
	c.rest, c.waits = res.ContentLength, true
	if b, ok := res.Body.(*leanBody); ok {
		c.waits = b.waits()
	}
}

// Unwrap makes http.ResponseController work.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Hijack implements http.Hijacker.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	a.c.seen.hijacked = true
	a.p.answered(a.c, http.StatusSwitchingProtocols)
	return a.p.upgrades.take(conn, rw, a.c.seen.kind == KindWebSocket, a.c.cut), rw, nil
}
