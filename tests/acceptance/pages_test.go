//go:build e2e

package acceptance

import (
	"net/http"
	"os"
	"slices"
	"testing"
)

// The pages of the document work in a real browser that reaches nothing but the server.
func TestDocumentPagesInABrowser(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	b := openBrowser(t)
	for path, shown := range map[string][]string{
		"/docs":  {"OpenSandbox Lifecycle API", "/v1/sandboxes/{id}/renew-expiration", "Set a new deadline", "Find out how to reach a port", "Without /v1", "Authorize"},
		"/redoc": {"OpenSandbox Lifecycle API", "Set a new deadline", "Find out how to reach a port", "/v1/sandboxes/{id}/renew-expiration", "Response samples"},
	} {
		b.open(s.base + path)
		b.shows(shown...)
		if asked := b.quiet(s.base); !slices.Contains(asked, s.base+"/openapi.json") {
			t.Errorf("%s did not load the document: %v", path, asked)
		}
	}
}

// A page of a program in a sandbox, with a WebSocket, works through the server.
func TestWebSocketPageInABrowser(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	program, err := os.ReadFile("clients/websocket_page.py")
	if err != nil {
		t.Fatal(err)
	}
	id := s.create(m{"image": m{"uri": "opensandbox/debian-python:dev"}, "entrypoint": []string{"python3", "-c", string(program)}})
	page := s.base + "/v1/sandboxes/" + id + "/proxy/8080/"
	s.eventually("the program answers", func() bool {
		a, err := request("GET", page, nil)
		return err == nil && a.status == http.StatusOK
	})
	b := openBrowser(t)
	b.open(page)
	b.shows("echo of hello")
	b.quiet(s.base)
}
