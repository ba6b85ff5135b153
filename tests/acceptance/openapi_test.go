//go:build e2e

package acceptance

import (
	"bytes"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"opensandbox/tests/openapi"
)

// watcher holds every answer of every API against the document of that API, whichever test asked: an answer that is not documented fails
// the test whose server gave it.
type watcher struct {
	// apis has a *watched for each host and port.
	apis sync.Map

	mu     sync.Mutex
	text   string
	parsed *openapi.Document
}

// watched is an API and the test that runs it.
type watched struct {
	t        *testing.T
	document *openapi.Document
}

var answers = &watcher{}

// watch begins to look at the answers of an API, until the end of the test.
func (w *watcher) watch(t *testing.T, base string) {
	t.Helper()
	host := strings.TrimPrefix(base, "http://")
	if _, already := w.apis.Load(host); already {
		return
	}
	var got answer
	err := errors.New("not asked")
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); waitABit() { // one of several may still be starting
		got, err = request(http.MethodGet, base+"/openapi.json", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	document, err := w.parse(string(got.body))
	if err != nil {
		t.Fatal(err)
	}
	w.apis.Store(host, &watched{t, document})
	t.Cleanup(func() { w.apis.Delete(host) })
}

// parse reads a document once: all servers have the same one.
func (w *watcher) parse(text string) (*openapi.Document, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.parsed != nil && w.text == text {
		return w.parsed, nil
	}
	d, err := openapi.Parse([]byte(text))
	if err == nil {
		w.text, w.parsed = text, d
	}
	return d, err
}

// RoundTrip implements http.RoundTripper.
func (w *watcher) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	w.look(r.URL.Host, res)
	return res, nil
}

// look checks an answer. Its body can be read again; that of a program in a sandbox is left alone, since it may be a stream.
func (w *watcher) look(host string, res *http.Response) {
	api, ok := w.apis.Load(host)
	path := res.Request.URL.EscapedPath()
	if !ok || strings.Contains(path, "/proxy/") {
		return
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	res.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return // cut off in the middle, as tests that end processes do
	}
	x := api.(*watched)
	method := res.Request.Method
	if err := x.document.Check(method, path, openapi.Answer{Status: res.StatusCode, Header: res.Header, Body: body}); err != nil && method != http.MethodHead {
		x.t.Errorf("%s %s: %d %s: not as documented: %v", method, path, res.StatusCode, tail(string(body), 600), err)
	}
}

// recorded returns the address of a proxy in front of the API that looks at what it answers: for published clients, whose requests
// cannot be looked at otherwise.
func (s *server) recorded() string {
	s.t.Helper()
	return s.recordedTo(func(*http.Response) {})
}

// recordedTo is recorded, and tells of every answer, of those of programs in sandboxes too. seen is called concurrently.
func (s *server) recordedTo(seen func(*http.Response)) string {
	s.t.Helper()
	target, err := url.Parse(s.base)
	if err != nil {
		s.t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(res *http.Response) error {
			seen(res)
			answers.look(target.Host, res)
			return nil
		},
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Else net/http closes the body of the request when the answer begins, and the transport, which may just be looking for its end, breaks off.
		_ = http.NewResponseController(w).EnableFullDuplex()
		proxy.ServeHTTP(w, r)
	}))
	s.t.Cleanup(front.Close)
	return front.URL
}
