package app

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// Every documented operation has a route that takes it, behind the whole chain of the listener, and needs the key exactly where the
// document says so.
func TestDocumentedOperationsAreServed(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *Config, _ *Deps) { c.APIKey = apiKey })
	var document struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if w := b.do("GET", "/openapi.json", ""); json.Unmarshal(w.Body.Bytes(), &document) != nil || len(document.Paths) == 0 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	fill := strings.NewReplacer("{id}", "none", "{port}", "80", "{path}", "a/b", "/docs/assets/{name}", "/docs/assets/docs.js", "{name}", "none")
	for path, item := range document.Paths {
		for method, text := range item {
			if method == "parameters" {
				continue
			}
			var operation struct {
				Security *[]any `json:"security"`
			}
			if err := json.Unmarshal(text, &operation); err != nil {
				t.Fatal(err)
			}
			method, at := strings.ToUpper(method), fill.Replace(path)
			if w := b.do(method, at, "", "OPEN-SANDBOX-API-KEY", apiKey); w.Code == http.StatusMethodNotAllowed || strings.Contains(w.Body.String(), `"NOT_FOUND"`) {
				t.Errorf("%s %s: %d %s", method, at, w.Code, w.Body)
			}
			needed := operation.Security == nil
			if w := b.do(method, at, ""); (w.Code == http.StatusUnauthorized) != needed {
				t.Errorf("%s %s without a key: %d, key needed: %v", method, at, w.Code, needed)
			}
		}
	}
}

func TestPagesBehindTheListener(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(c *Config, _ *Deps) { c.APIKey, c.Version = apiKey, "9.8.7" })
	if w := b.do("GET", "/openapi.json", ""); !strings.Contains(w.Body.String(), `"version":"9.8.7"`) {
		t.Error("the document does not have the version of the server")
	}
	for asked, location := range map[string]string{"/docs/": "../docs", "/docs//": "../../docs"} {
		if w := b.do("GET", asked, ""); w.Code != http.StatusTemporaryRedirect || w.Header().Get("Location") != location {
			t.Errorf("%s: %d %v", asked, w.Code, w.Header())
		}
	}
	if w := b.do("HEAD", "/redoc", ""); w.Code != http.StatusOK {
		t.Errorf("HEAD /redoc: %d", w.Code)
	}
	for _, path := range []string{"/docs/assets/none", "/docsx", "/openapi.json/x"} {
		if w := b.do("GET", path, ""); w.Code != http.StatusUnauthorized {
			t.Errorf("%s without a key: %d", path, w.Code)
		}
	}
}
