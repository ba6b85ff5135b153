package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"

	"opensandbox/libs/fault"
	"opensandbox/libs/kitx"
)

// KeyHeader is the header of the API key in OpenSandbox 1.1.1.
const KeyHeader = "OPEN-SANDBOX-API-KEY" //nolint:gosec // the name of a header, not a credential

// open are the paths that need no key, beside those of the documents: exactly these, not what merely starts like them.
var open = map[string]bool{"/health": true, "/version": true}

// authenticate lets requests with the right key through. Keys are compared by their hashes, so that neither content nor length can be
// learned from the time it takes. An empty key switches it off. documented says which paths belong to the documents.
func authenticate(key string, documented func(path string) bool, next http.Handler) http.Handler {
	if key == "" {
		return next
	}
	want := sha256.Sum256([]byte(key))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if open[r.URL.Path] || documented(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		given := r.Header.Get(KeyHeader)
		if given == "" {
			kitx.WriteError(w, fault.New(fault.Unauthenticated, "the header "+KeyHeader+" is missing").WithCode("MISSING_API_KEY"))
			return
		}
		got := sha256.Sum256([]byte(given))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			kitx.WriteError(w, fault.New(fault.Unauthenticated, "the API key is not valid").WithCode("INVALID_API_KEY"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Authenticate puts the API key in front of a handler that is not one of the routes of New.
func Authenticate(key string, next http.Handler) http.Handler {
	return authenticate(key, func(string) bool { return false }, next)
}
