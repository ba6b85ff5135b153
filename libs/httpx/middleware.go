package httpx

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"strings"
	"sync/atomic"
)

// RequestIDHeader carries the id of a request, in OpenSandbox 1.1.1.
const RequestIDHeader = "X-Request-ID"

const maxRequestID = 128

type requestIDKey struct{}

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// WithRequestID gives every request an id, the client's own if it is usable, and sends it back.
func WithRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := strings.TrimSpace(r.Header.Get(RequestIDHeader))
		if !usableID(id) {
			var b [16]byte
			_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
			id = hex.EncodeToString(b[:])
		}
		w.Header().Set(RequestIDHeader, id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id)))
	})
}

// usableID accepts printable ASCII of a sane length: an id goes into logs.
func usableID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for _, c := range []byte(id) {
		if c < 0x21 || c > 0x7e {
			return false
		}
	}
	return true
}

// TidyPath folds doubled slashes, a doubled /v1 and a trailing slash, which published clients produce from a configured base URL, in
// place of answering with a redirect, which they take for an error. What follows /proxy/{port} belongs to a sandbox and is left as it is.
func TidyPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := tidy(r.URL.Path); p != r.URL.Path {
			raw := tidy(r.URL.EscapedPath())
			r2 := r.Clone(r.Context())
			r2.URL.Path, r2.URL.RawPath = p, raw
			r = r2
		}
		next.ServeHTTP(w, r)
	})
}

func tidy(path string) string {
	head, tail := path, ""
	if i := proxyTail(path); i >= 0 {
		head, tail = path[:i], path[i:]
	}
	for strings.Contains(head, "//") {
		head = strings.ReplaceAll(head, "//", "/")
	}
	for strings.HasPrefix(head, "/v1/v1/") {
		head = head[len("/v1"):]
	}
	if len(head) > 1 && tail == "" {
		head = strings.TrimSuffix(head, "/")
	}
	return head + tail
}

// proxyTail returns where the part behind /proxy/{port} of a sandbox begins, or -1.
func proxyTail(path string) int {
	i := strings.Index(path, "/sandboxes/")
	if i < 0 {
		return -1
	}
	j := strings.Index(path[i:], "/proxy/")
	if j < 0 {
		return -1
	}
	port := i + j + len("/proxy/")
	k := strings.IndexByte(path[port:], '/')
	if k < 0 {
		return -1
	}
	return port + k
}

// LimitBody bounds request bodies; reading beyond gives an *http.MaxBytesError.
func LimitBody(bytes int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, bytes)
		next.ServeHTTP(w, r)
	})
}

// LimitConcurrency lets at most max requests in at once; the others go to full. 0 means no bound.
func LimitConcurrency(max int, full, next http.Handler) http.Handler {
	if max <= 0 {
		return next
	}
	var inside atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if inside.Add(1) > int64(max) {
			inside.Add(-1)
			full.ServeHTTP(w, r)
			return
		}
		defer inside.Add(-1)
		next.ServeHTTP(w, r)
	})
}

// corsMethods are the methods that OpenSandbox 1.1.1 allows to other origins.
const corsMethods = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"

// CORS lets pages of any origin call, as OpenSandbox 1.1.1 does. Preflights are answered here, before any authentication.
func CORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Add("Vary", "Origin")
		origin := r.Header.Get("Origin")
		if origin == "" {
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
		if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
			h.Set("Access-Control-Expose-Headers", "OPEN-SANDBOX-ORIGIN, Retry-After, Idempotent-Replayed, "+RequestIDHeader)
			next.ServeHTTP(w, r)
			return
		}
		h.Set("Access-Control-Allow-Methods", corsMethods)
		h.Set("Access-Control-Max-Age", "600")
		if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
			h.Set("Access-Control-Allow-Headers", asked)
		}
		h.Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("OK")) // the client may have gone
	})
}
