package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/services/api/internal/usecase"
)

// keyHeader names a create across its repetitions.
const keyHeader = "Idempotency-Key"

// maxKey bounds a key; it is also the bound of what published implementations of the header take.
const maxKey = 255

// replayed marks the answer to a repetition.
var replayed = http.Header{"Idempotent-Replayed": {"true"}}

// parseKey reads the key of a create; a request without the header has none. Two requests are the same if their bodies are, white space
// and the order of names aside.
func parseKey(h http.Header, body []byte) (sandbox.Key, error) {
	values := h.Values(keyHeader)
	if len(values) == 0 {
		return sandbox.Key{}, nil
	}
	if len(values) > 1 || !printable(values[0]) {
		return sandbox.Key{}, fault.New(fault.Invalid, "the header "+keyHeader+" must hold one key of 1 to 255 printable ASCII characters").
			WithDetails(fault.Detail{Field: keyHeader, Problem: "expected one key of 1 to 255 printable ASCII characters"})
	}
	hash, err := hashOf(body)
	return sandbox.Key{Name: values[0], Hash: hash}, err
}

func printable(s string) bool {
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return s != "" && len(s) <= maxKey
}

// hashOf returns the SHA-256 of the body as this server would write it: without white space, and with the names of each object in order.
// Numbers stay as they are written.
func hashOf(body []byte) (string, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return "", fault.New(fault.Invalid, "the body must be a JSON object").WithDetails(fault.Detail{Field: "body", Problem: "expected a JSON object"}).Because(err)
	}
	canonical, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:]), nil
}

// createdBody is the answer to a create.
type createdBody struct {
	sandboxBody
	replayed bool
}

// Headers implements kitx.Headerer.
func (b createdBody) Headers() http.Header {
	if b.replayed {
		return replayed
	}
	return nil
}

// replayedError is an error that a repetition is told again.
type replayedError struct{ error }

// Headers implements kitx.Headerer.
func (replayedError) Headers() http.Header { return replayed }

// Unwrap returns the error inside.
func (e replayedError) Unwrap() error { return e.error }

// create answers a create, and marks the answer to one that was repeated.
func create(u *usecase.UseCases) func(context.Context, usecase.CreateRequest) (createdBody, error) {
	return func(ctx context.Context, req usecase.CreateRequest) (createdBody, error) {
		v, err := u.Create(ctx, req)
		if _, again := errors.AsType[usecase.Replayed](err); again {
			return createdBody{}, replayedError{err}
		}
		if err != nil {
			return createdBody{}, err
		}
		return createdBody{createdOf(v), v.Replayed}, nil
	}
}
