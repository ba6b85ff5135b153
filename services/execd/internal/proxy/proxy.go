// Package proxy forwards requests to applications inside the sandbox that listen on loopback: plain HTTP, event streams and
// upgrades such as WebSocket. It decides nothing about who may call.
package proxy

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// dialTimeout is generous: loopback answers at once unless the application's backlog is full.
	dialTimeout = 10 * time.Second
	// idleTimeout and the two counts bound what idle connections cost a small sandbox.
	idleTimeout  = 60 * time.Second
	idlePerPort  = 16
	idleTotal    = 64
	copyBuffer   = 32 << 10
	requestIDKey = "X-Request-Id"
)

// private are headers that authenticate the caller to execd or to the control plane; the application must not see them.
var private = []string{"X-EXECD-ACCESS-TOKEN", "OPEN-SANDBOX-API-KEY"}

// Proxy forwards requests over one pool of connections. It may be used concurrently.
type Proxy struct {
	transport *http.Transport
	buffers   bufferPool
	fail      func(w http.ResponseWriter, port int, err error)
	log       *log.Logger
}

// New returns a Proxy. fail answers a request whose application cannot be reached.
func New(fail func(w http.ResponseWriter, port int, err error), logger *slog.Logger) *Proxy {
	d := &net.Dialer{Timeout: dialTimeout}
	return &Proxy{
		fail: fail,
		log:  slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		transport: &http.Transport{
			DialContext:         func(ctx context.Context, _, addr string) (net.Conn, error) { return dial(ctx, d, addr) },
			DisableCompression:  true, // The client's own Accept-Encoding goes through, and so does its absence.
			MaxIdleConns:        idleTotal,
			MaxIdleConnsPerHost: idlePerPort,
			IdleConnTimeout:     idleTimeout,
		},
	}
}

// Close drops idle connections.
func (p *Proxy) Close() { p.transport.CloseIdleConnections() }

// dial tries 127.0.0.1, and ::1 when nothing listens there: many development servers bind "localhost" to IPv6 only.
func dial(ctx context.Context, d *net.Dialer, addr string) (net.Conn, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err == nil || ctx.Err() != nil {
		return c, err
	}
	if c6, err6 := d.DialContext(ctx, "tcp", net.JoinHostPort("::1", port)); err6 == nil {
		return c6, nil
	}
	return nil, err
}

// Serve forwards r to port. rawPath is /proxy/{port} and the rest as the client sent it; the rest and the query arrive at the
// application byte by byte.
func (p *Proxy) Serve(w http.ResponseWriter, r *http.Request, port int, rawPath string) {
	target := targetURL(rawPath, r.URL, port)
	id := w.Header().Get(requestIDKey)
	w.Header().Del(requestIDKey)
	rp := httputil.ReverseProxy{
		Transport:     p.transport,
		BufferPool:    &p.buffers,
		FlushInterval: -1, // Event streams and slow answers of known length must not wait in a buffer.
		ErrorLog:      p.log,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL = target
			rewriteHeaders(pr)
		},
		ModifyResponse: func(res *http.Response) error {
			if id != "" && res.Header.Get(requestIDKey) == "" {
				res.Header.Set(requestIDKey, id)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil && errors.Is(err, context.Canceled) {
				return // Nobody is left to answer.
			}
			w.Header().Set(requestIDKey, id)
			p.fail(w, port, err)
		},
	}
	rp.ServeHTTP(w, r)
}

// targetURL keeps the raw form. net/url re-encodes some characters that clients do send; then the opaque form carries them, except
// for a path that starts with two slashes, where the opaque form would mean a host.
func targetURL(rawPath string, in *url.URL, port int) *url.URL {
	rest := strings.TrimPrefix(rawPath, "/proxy/")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		rest = rest[i:]
	} else {
		rest = "/"
	}
	u := &url.URL{
		Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), RawQuery: in.RawQuery, ForceQuery: in.ForceQuery,
	}
	path, err := url.PathUnescape(rest)
	if err == nil {
		u.Path, u.RawPath = path, rest
		if u.EscapedPath() == rest || strings.HasPrefix(rest, "//") {
			return u
		}
	}
	u.Path, u.RawPath, u.Opaque = "", "", rest
	return u
}

func rewriteHeaders(pr *httputil.ProxyRequest) {
	in, out := pr.In.Header, pr.Out.Header
	for _, name := range private {
		out.Del(name)
	}
	// ReverseProxy takes these off by itself. Forwarded is the client's own; X-Forwarded-Host is dropped, because Host is unchanged.
	if v, ok := in["Forwarded"]; ok {
		out["Forwarded"] = v
	}
	out.Set("X-Forwarded-For", forwardedFor(pr.In))
	out.Set("X-Forwarded-Proto", "http")
}

// forwardedFor names the client as OpenSandbox 1.1.1 does: the first address of an existing X-Forwarded-For, else X-Real-IP, else
// the peer; then the peer.
func forwardedFor(r *http.Request) string {
	peer := r.RemoteAddr
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		peer = ap.Addr().Unmap().String()
	}
	first, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ",")
	if first = strings.TrimSpace(first); first == "" {
		first = strings.TrimSpace(r.Header.Get("X-Real-Ip"))
	}
	if first == "" {
		first = peer
	}
	return first + ", " + peer
}

// bufferPool lends copy buffers.
type bufferPool struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (b *bufferPool) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, copyBuffer)
}

// Put implements httputil.BufferPool.
func (b *bufferPool) Put(buf []byte) { b.pool.Put(&buf) }
