// Package sandboxproxy forwards requests to applications inside sandboxes: plain HTTP, event streams and upgrades such as WebSocket, in
// both directions as the bytes come. It decides neither what a request is for nor where that is.
// The router and the server's own proxy are both made of it, each with its Dialect.
package sandboxproxy

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandboxproxy/renewintent"
	"opensandbox/libs/sandboxproxy/resolve"
	"opensandbox/libs/sandboxproxy/target"
)

const (
	// keepAlive and idleTimeout are the defaults of Go, which OpenSandbox 1.1.1 uses.
	keepAlive   = 30 * time.Second
	idleTimeout = 90 * time.Second
	// idlePerAddress and idleTotal bound what idle connections cost. More requests at once to one address than that dial again and again.
	idlePerAddress = 256
	idleTotal      = 2048
	// expectTimeout is how long a body waits for 100 Continue from an application that does not know it.
	expectTimeout = time.Second
	copyBuffer    = 32 << 10
	// maxAnswerHeader bounds the header of an answer, which is held in memory. Browsers give up at about this size.
	maxAnswerHeader = 256 << 10
)

// Config of a Proxy.
type Config struct {
	// DialTimeout bounds one attempt to connect; it must be positive.
	DialTimeout time.Duration
	// AnswerTimeout bounds how long an application may leave a request unread, and how long it may take to begin its answer; 0 means no
	// bound. An answer that has begun takes as long as it takes.
	AnswerTimeout time.Duration
	// RewriteHost sends the address of the sandbox as Host, as OpenSandbox 1.1.1 does, in place of the client's own.
	RewriteHost bool
	// Dialect is Gateway or ServerProxy.
	Dialect Dialect
}

// Resolver finds addresses.
type Resolver interface {
	Resolve(ctx context.Context, t target.Target) (resolve.Upstream, error)
	// Forget is called when what Resolve returned led nowhere.
	Forget(id sandbox.ID)
}

// Uses is told of every request that has an address. It must not block.
type Uses interface {
	Used(id sandbox.ID, port int, requestURI, header string)
}

// Deps of a Proxy.
type Deps struct {
	Mode     target.Mode
	Resolver Resolver
	// Tunnels may be nil if the Resolver returns none; Uses, Observer and Tracers may be nil.
	Tunnels  Tunnels
	Uses     Uses
	Observer Observer
	Tracers  trace.TracerProvider
	Log      *slog.Logger
}

// Proxy is the handler of all user traffic.
type Proxy struct {
	cfg       Config
	deps      Deps
	transport *http.Transport
	lean      lean
	buffers   buffers
	unwanted  map[string]bool
	// untraced says that the tracer makes no spans.
	untraced bool
	reverse  *httputil.ReverseProxy
	tracer   trace.Tracer
	busy     busy
	upgrades upgrades
}

var _ http.Handler = (*Proxy)(nil)

// New returns a Proxy.
func New(cfg Config, deps Deps) *Proxy {
	if deps.Observer == nil {
		deps.Observer = nobody{}
	}
	if deps.Tracers == nil {
		deps.Tracers = noop.NewTracerProvider()
	}
	p := &Proxy{cfg: cfg, deps: deps, unwanted: unwanted(&cfg.Dialect), tracer: deps.Tracers.Tracer("opensandbox/libs/sandboxproxy")}
	p.transport = &http.Transport{
		DialContext:            p.dial,
		DisableCompression:     true, // the client's own Accept-Encoding goes through, and so does its absence
		MaxIdleConns:           idleTotal,
		MaxIdleConnsPerHost:    idlePerAddress,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  expectTimeout,
		ResponseHeaderTimeout:  cfg.AnswerTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
	_, p.untraced = deps.Tracers.(noop.TracerProvider)
	p.lean.p = p
	p.reverse = &httputil.ReverseProxy{
		Rewrite:   p.rewrite,
		Transport: redialing{p},
		// Without a FlushInterval httputil sends event streams and answers of unknown length on as they come; answer does that with others.
		BufferPool:     &p.buffers,
		ErrorLog:       slog.NewLogLogger(deps.Log.Handler(), slog.LevelDebug),
		ModifyResponse: p.modifyResponse,
		ErrorHandler:   p.fail,
	}
	return p
}

// Close drops idle connections. It is called when there are no more requests.
func (p *Proxy) Close() {
	p.lean.idle.close()
	p.transport.CloseIdleConnections()
}

// Drain waits for the requests in progress until ctx ends. Then WebSockets are closed with 1001 (RFC 6455, section 7.4.1: the endpoint
// goes away) and other upgraded connections are cut. The server must not take new requests any more, and must cut what is left of plain
// HTTP itself.
func (p *Proxy) Drain(ctx context.Context) {
	if p.busy.wait(ctx) {
		return
	}
	p.upgrades.goAway()
	if p.settled(ctx, farewellTime) {
		return
	}
	p.upgrades.cut()
	p.settled(ctx, farewellTime)
}

// settled waits for the end of all requests, for a while after ctx.
func (p *Proxy) settled(ctx context.Context, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d)
	defer cancel()
	return p.busy.wait(ctx)
}

// call is one request on its way.
type call struct {
	route    target.Route
	upstream resolve.Upstream
	in       *http.Request
	out      http.ResponseWriter
	body     *requestBody
	// rest is what is to come of a body of known length in the answer; waits says that nothing of it has come with the header.
	rest  int64
	waits bool
	// cut ends the request, also one whose connection was taken over.
	cut context.CancelFunc
	// seen is what is told of the request.
	seen observation
}

type callKey struct{}

// callOf returns the call that a request of this package belongs to.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// ServeHTTP forwards r, or answers with the error envelope.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{in: r, body: &requestBody{ReadCloser: r.Body, length: r.ContentLength}}
	c.out = &answer{ResponseWriter: w, c: c, p: p}
	plain := isPlain(r)
	ctx, span := p.begin(c, plain)
	defer p.end(ctx, span, c)
	if err := p.find(ctx, c); err != nil {
		p.refuse(ctx, c, err)
		return
	}
	if plain && c.upstream.Tunnel == nil { // a tunnel cannot be looked at while it is idle
		p.plain(ctx, c)
		return
	}
	r = r.WithContext(context.WithValue(ctx, callKey{}, c))
	r.Body, c.in = c.body, r
	p.reverse.ServeHTTP(c.out, r)
}

// find finds out what the request of c is for and where that is.
func (p *Proxy) find(ctx context.Context, c *call) (err error) {
	if c.route, err = p.deps.Mode.Parse(target.Request{Path: rawPath(c.in), Host: c.in.Host, Header: c.in.Header.Get}); err != nil {
		return err
	}
	if c.upstream, err = p.deps.Resolver.Resolve(ctx, c.route.Target); err != nil {
		return err
	}
	if p.deps.Uses != nil {
		p.deps.Uses.Used(c.route.ID, c.route.Port, c.route.RequestURI, c.in.Header.Get(renewintent.Header))
	}
	return nil
}

// rawPath returns the path byte by byte. The absolute form of a request line, which only clients of forward proxies send, has lost
// its bytes already.
func rawPath(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if strings.HasPrefix(path, "/") {
		return path
	}
	return r.URL.EscapedPath()
}

// buffers keeps the buffers that bodies are copied through.
type buffers struct{ pool sync.Pool }

// take and give lend one.
func (b *buffers) take() *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, copyBuffer)
	return &p
}

func (b *buffers) give(p *[]byte) { b.pool.Put(p) }

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte { return *b.take() }

// Put implements httputil.BufferPool.
func (b *buffers) Put(p []byte) { b.give(&p) }
