// Package httpapi is the HTTP surface of execd: routes, the access token, errors, and the translation between requests and the
// packages that do the work.
package httpapi

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/code"
	"opensandbox/services/execd/internal/command"
	"opensandbox/services/execd/internal/files"
	"opensandbox/services/execd/internal/identity"
	"opensandbox/services/execd/internal/metrics"
	"opensandbox/services/execd/internal/session"
	"opensandbox/services/execd/internal/terminal"
)

// TokenHeader carries the access token.
const TokenHeader = "X-EXECD-ACCESS-TOKEN"

const requestIDHeader = "X-Request-ID"

// maxLoops bounds /proxy/<own port>/proxy/<own port>/…: each round is one more level of the same handler.
const maxLoops = 4

// Config is what the API serves from.
type Config struct {
	Commands  *command.Manager
	Sessions  *session.Manager
	Terminals *terminal.Manager
	Code      *code.Service
	Files     *files.Service
	// Identities serves the file routes under another user and group.
	Identities *identity.Workers
	Metrics    *metrics.Sampler
	// Proxy serves /proxy/{port}/… for ports other than Port. The path it gets is raw: /proxy/{port} and the rest as it was sent.
	Proxy func(w http.ResponseWriter, r *http.Request, port int, rawPath string)
	// Port is execd's own.
	Port int
	// Token guards the routes; empty means no guard.
	Token string
	// OpenProxy lets /proxy/{other port} pass without the token.
	OpenProxy bool
	// KernelPort is that of the server which runs code: it needs the token whatever OpenProxy says, since who reaches it runs code. 0 means none.
	KernelPort int
	// Observer hears of every answer; nil means nobody does.
	Observer Observer
	// Executed hears of every foreground execution that has ended, and every background one that was started: run_command, run_in_session or
	// run_code, as OpenSandbox 1.1.1 calls them. Nil means nobody does. An execution whose client went away is not heard of unless that has ended it.
	Executed func(operation string, ok bool, took time.Duration)
	Log      *slog.Logger
}

// API is an http.Handler.
type API struct {
	cfg    Config
	routes router
	token  [sha256.Size]byte
}

// New builds the routes.
func New(cfg Config) *API {
	a := &API{cfg: cfg, token: sha256.Sum256([]byte(cfg.Token))}
	a.registerCore()
	a.registerFiles()
	a.registerSessions()
	a.registerTerminals()
	a.registerMissing()
	return a
}

func (a *API) registerCore() {
	t := &a.routes
	for _, method := range []string{"GET", "HEAD"} {
		t.on(method, "/ping", func(w http.ResponseWriter, _ *http.Request, _ []string) error { return empty(w) })
	}
	t.on("POST", "/command", a.runCommand)
	t.on("DELETE", "/command", a.interrupt)
	t.on("GET", "/command/status/{}", a.commandStatus)
	t.on("GET", "/command/{}/logs", a.commandLogs)
	t.on("POST", "/code", a.runCode)
	t.on("DELETE", "/code", a.interrupt)
	t.on("POST", "/code/context", a.createContext)
	t.on("GET", "/code/contexts", a.listContexts)
	t.on("DELETE", "/code/contexts", a.deleteContexts)
	t.on("GET", "/code/contexts/{}", a.getContext)
	t.on("DELETE", "/code/contexts/{}", a.deleteContext)
	t.on("GET", "/metrics", a.metricsOnce)
	t.on("GET", "/metrics/watch", a.metricsWatch)
	t.on("GET", "/v1/isolated/capabilities", isolationCapabilities)
	t.on("GET", "/v1/isolated/sessions", noIsolatedSessions)
}

// ServeHTTP answers every request with JSON, a stream or a file, never with a redirect.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer recovered(w, r, a.cfg.Log)
	id := requestID(r)
	w.Header().Set(requestIDHeader, id)
	a.observe(w, r, fold(rawPath(r)))
}

// dispatch serves one folded raw path; loops counts how often the proxy has led back here.
func (a *API) dispatch(w http.ResponseWriter, r *http.Request, path string, loops int) {
	if rest, ok := strings.CutPrefix(path, "/proxy/"); ok {
		a.proxy(w, r, path, rest, loops)
		return
	}
	rt, args := a.routes.find(path)
	open := path == "/ping" && (r.Method == http.MethodGet || r.Method == http.MethodHead)
	if !open && !a.authorized(r) {
		fail(w, unauthorized())
		return
	}
	if rt == nil {
		fail(w, fault.Newf(fault.NotFound, "no such route: %s %s", r.Method, path).WithCode(codeNotFound))
		return
	}
	routed(w, rt.pattern())
	h := rt.methods[r.Method]
	if h == nil {
		h = rt.methods["*"]
	}
	if h == nil {
		w.Header().Set("Allow", rt.allowed())
		fail(w, fault.Newf(fault.MethodNotAllowed, "%s does not allow %s", path, r.Method).WithCode(codeMethod))
		return
	}
	if err := h(w, r, args); err != nil {
		fail(w, err)
	}
}

// proxy serves /proxy/{port}…. Execd's own port is served in place, by the same routes under the same guard: over loopback it
// would be reachable without one.
func (a *API) proxy(w http.ResponseWriter, r *http.Request, path, rest string, loops int) {
	text, _, _ := strings.Cut(rest, "/")
	port, err := strconv.Atoi(text)
	own := err == nil && port == a.cfg.Port
	open := a.cfg.OpenProxy && (err != nil || port != a.cfg.KernelPort)
	if !own && !open && !a.authorized(r) {
		fail(w, unauthorized())
		return
	}
	if err != nil || port < 1 || port > 65535 || strings.Trim(text, "0123456789") != "" {
		fail(w, fault.Newf(fault.Invalid, "not a port: %q", text).WithCode("INVALID_PORT"))
		return
	}
	if !own {
		routed(w, "/proxy/{}")
		a.cfg.Proxy(w, r, port, path)
		return
	}
	if loops >= maxLoops {
		fail(w, fault.New(fault.Invalid, "the proxy path leads back to itself too often").WithCode("PROXY_LOOP"))
		return
	}
	a.dispatch(w, r, fold(strings.TrimPrefix(rest, text)), loops+1)
}

// authorized compares hashes, so that the time taken tells nothing about the token or its length.
func (a *API) authorized(r *http.Request) bool {
	if a.cfg.Token == "" {
		return true
	}
	given := sha256.Sum256([]byte(r.Header.Get(TokenHeader)))
	return subtle.ConstantTimeCompare(given[:], a.token[:]) == 1
}

func unauthorized() error {
	return fault.New(fault.Unauthenticated, "Unauthorized: invalid or missing header "+TokenHeader).WithCode(codeUnauthorized)
}

// rawPath returns the path exactly as it was sent, before any decoding.
func rawPath(r *http.Request) string {
	raw := r.RequestURI
	if !strings.HasPrefix(raw, "/") {
		return r.URL.EscapedPath() // Absolute form, or a request made in memory.
	}
	raw, _, _ = strings.Cut(raw, "?")
	return raw
}

// requestID returns the client's id when it can be echoed safely, else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get(requestIDHeader)
	ok := id != "" && len(id) <= 200
	for i := 0; ok && i < len(id); i++ {
		ok = id[i] > 0x20 && id[i] < 0x7f
	}
	if ok {
		return id
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // Never fails; it ends the program instead.
	return hex.EncodeToString(b[:])
}

// recovered turns a panic into a 500. The abort that net/http itself defines is passed on.
func recovered(w http.ResponseWriter, r *http.Request, log *slog.Logger) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	log.Error("panic in a request", "method", r.Method, "panic", fmt.Sprint(v))
	fail(w, fault.New(fault.Internal, "internal error").WithCode(codeRuntime))
}
