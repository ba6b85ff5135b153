//go:build sabotage

package sabotage

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// BrokenTransport returns next without the promise about the engine's own things that this process breaks; next itself if there is none.
func BrokenTransport(next http.RoundTripper) http.RoundTripper {
	if promise, ok := broken(KeptVolume, KeptNetwork, SecondContainer); ok {
		return brokenTransport{next, promise}
	}
	return next
}

type brokenTransport struct {
	next    http.RoundTripper
	promise string
}

// RoundTrip implements http.RoundTripper.
func (b brokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	switch step := engineStep(req.Method, req.URL.Path); {
	case b.promise == KeptVolume && step == EngineRemoveVolume:
		return &http.Response{
			Status: "204 No Content", StatusCode: http.StatusNoContent, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{}, Body: http.NoBody, Request: req,
		}, nil
	case b.promise == SecondContainer && step == EngineCreateContainer:
		return b.twice(req)
	case b.promise == KeptNetwork && step == EngineCreateContainer:
		path, _, _ := strings.Cut(req.URL.Path, "/containers/")
		name := fmt.Sprintf(`{"Name": "kept-%s"}`, req.URL.Query().Get("name"))
		if err := b.send(req, path+"/networks/create", "", []byte(name)); err != nil {
			return nil, err
		}
	}
	return b.next.RoundTrip(req)
}

// twice makes a second container after the first, which differs from it in nothing but the name.
func (b brokenTransport) twice(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	_ = req.Body.Close() // it was read
	req.Body = io.NopCloser(bytes.NewReader(body))
	res, err := b.next.RoundTrip(req)
	if err != nil || res.StatusCode >= http.StatusBadRequest {
		return res, err
	}
	q := req.URL.Query()
	q.Set("name", "second-"+q.Get("name"))
	return res, b.send(req, req.URL.Path, q.Encode(), body)
}

// send posts something else to where req goes. What the engine says to it does not matter: a create that is repeated meets what is there.
func (b brokenTransport) send(req *http.Request, path, query string, body []byte) error {
	other := req.Clone(req.Context())
	other.URL.Path, other.URL.RawPath, other.URL.RawQuery = path, "", query
	other.Body, other.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	other.Header.Set("Content-Type", "application/json")
	res, err := b.next.RoundTrip(other)
	if err != nil {
		return err
	}
	return res.Body.Close()
}
