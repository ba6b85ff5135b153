package openapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"opensandbox/libs/kitx"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// built is the document of all tests; it never changes.
var built = sync.OnceValues(func() (*Document, error) { return New("1.2.3") })

func newDocument(t *testing.T) *Document {
	t.Helper()
	d, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// serve sends a request through the routes of the document; header is names and values in turn.
func serve(t *testing.T, method, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	k, err := kitx.New(slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	newDocument(t).Routes(k)
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	k.ServeHTTP(w, r)
	return w
}

func TestDocumentIsComplete(t *testing.T) {
	t.Parallel()
	const small = `{"openapi":"3.1.0","info":{"title":"T","version":"0"},"servers":[],"security":[],"tags":[],"components":{"schemas":{}},"paths":{
		"/v1/b/{id}":{"parameters":[{"name":"id"}],"get":{"operationId":"getB","tags":["B"],"responses":{}}},
		"/v1/a":{"x-v1-only":true,"post":{"operationId":"postA","tags":["A"],"responses":{}}},
		"/health":{"get":{"operationId":"health","tags":["S"],"responses":{}}}}}`
	got, err := complete([]byte(small), "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"openapi":"3.1.0","info":{"title":"T","version":"1.2.3"},"servers":[],"security":[],` +
		`"tags":[{"description":"The same routes for clients that put no version in front.","name":"Without /v1"}],"paths":{` +
		`"/v1/b/{id}":{"get":{"operationId":"getB","tags":["B"],"responses":{}},"parameters":[{"name":"id"}]},` +
		`"/v1/a":{"post":{"operationId":"postA","tags":["A"],"responses":{}}},` +
		`"/health":{"get":{"operationId":"health","tags":["S"],"responses":{}}},` +
		`"/b/{id}":{"get":{"operationId":"getBWithoutVersion","responses":{},"tags":["Without /v1"]},"parameters":[{"name":"id"}]}},` +
		`"components":{"schemas":{}}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("document (-want +got):\n%s", diff)
	}
	for _, bad := range []string{``, `[]`, `{"paths":[]}`, `{"info":{},"paths":{"/v1/a":{"get":{}}}}`, `{"info":{},"paths":{"/v1/a":{"get":1}}}`} {
		if _, err := complete([]byte(bad), "1"); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

// operations calls do for each operation of the served document.
func operations(t *testing.T, do func(method, path string, operation map[string]any)) map[string]any {
	t.Helper()
	var d map[string]any
	if err := json.Unmarshal(serve(t, "GET", "/openapi.json").Body.Bytes(), &d); err != nil {
		t.Fatal(err)
	}
	for path, item := range d["paths"].(map[string]any) {
		for method, operation := range item.(map[string]any) {
			if method != "parameters" {
				do(method, path, operation.(map[string]any))
			}
		}
	}
	return d
}

func TestServedDocument(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	d := operations(t, func(method, path string, o map[string]any) {
		id := o["operationId"].(string)
		if other, twice := seen[id]; twice {
			t.Errorf("%s is the id of %s and of %s %s", id, other, method, path)
		}
		seen[id] = method + " " + path
		for _, word := range []string{"summary", "tags", "responses"} {
			if o[word] == nil {
				t.Errorf("%s %s has no %s", method, path, word)
			}
		}
	})
	if v := d["info"].(map[string]any)["version"]; v != "1.2.3" {
		t.Errorf("version %v", v)
	}
	if len(seen) < 80 {
		t.Errorf("%d operations", len(seen))
	}
}

// Every reference leads somewhere, and everything that can be referred to is.
func TestReferences(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`"\$ref": "#/components/(\w+/\w+)"`).FindAllStringSubmatch(string(source), -1) {
		used[m[1]] = true
	}
	var d struct {
		Components map[string]map[string]any `json:"components"`
	}
	if err := json.Unmarshal(source, &d); err != nil {
		t.Fatal(err)
	}
	for kind, named := range d.Components {
		for name := range named {
			if kind != "securitySchemes" && !used[kind+"/"+name] {
				t.Errorf("nothing refers to %s/%s", kind, name)
			}
			delete(used, kind+"/"+name)
		}
	}
	for name := range used {
		t.Errorf("there is no %s", name)
	}
}

func TestFilesAreServed(t *testing.T) {
	t.Parallel()
	for path, c := range map[string]struct{ kind, content string }{
		"/openapi.json":                         {"application/json", `"openapi":"3.1.0"`},
		"/docs":                                 {"text/html; charset=utf-8", `<div id="swagger-ui">`},
		"/docs/oauth2-redirect":                 {"text/html; charset=utf-8", "oauth2-redirect.js"},
		"/redoc":                                {"text/html; charset=utf-8", `<redoc spec-url="openapi.json">`},
		"/docs/assets/docs.js":                  {"text/javascript; charset=utf-8", "SwaggerUIBundle({"},
		"/docs/assets/swagger-ui-bundle.js":     {"text/javascript; charset=utf-8", "SwaggerUIBundle"},
		"/docs/assets/swagger-ui.css":           {"text/css; charset=utf-8", ".swagger-ui"},
		"/docs/assets/favicon-32x32.png":        {"image/png", "PNG"},
		"/docs/assets/redoc.standalone.js":      {"text/javascript; charset=utf-8", "redoc"},
		"/docs/assets/redoc.LICENSE.txt":        {"text/plain; charset=utf-8", "MIT"},
		"/docs/assets/swagger-ui.LICENSE.txt":   {"text/plain; charset=utf-8", "Apache License"},
		"/docs/assets/swagger-ui.NOTICE.txt":    {"text/plain; charset=utf-8", "SmartBear"},
		"/docs/assets/oauth2-redirect.js":       {"text/javascript; charset=utf-8", "swaggerUIRedirectOauth2"},
		"/docs/assets/redoc.css":                {"text/css; charset=utf-8", "margin"},
		"/docs/assets/redoc.standalone.js?v=42": {"text/javascript; charset=utf-8", "redoc"},
	} {
		plain := serve(t, "GET", path)
		if plain.Code != 200 || plain.Header().Get("Content-Type") != c.kind || !strings.Contains(plain.Body.String(), c.content) || plain.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s: %d %v", path, plain.Code, plain.Header())
		}
		packed := serve(t, "GET", path, "Accept-Encoding", "br, gzip;q=0.5")
		z, err := gzip.NewReader(packed.Body)
		if err != nil || packed.Header().Get("Content-Encoding") != "gzip" {
			t.Errorf("%s compressed: %v %v", path, err, packed.Header())
			continue
		}
		if text, err := io.ReadAll(z); err != nil || !bytes.Equal(text, plain.Body.Bytes()) {
			t.Errorf("%s: the compressed form differs, %v", path, err)
		}
		again := serve(t, "GET", path, "If-None-Match", `"x", `+plain.Header().Get("ETag"))
		if again.Code != 304 || again.Body.Len() != 0 || again.Header().Get("ETag") != packed.Header().Get("ETag") {
			t.Errorf("%s asked again: %d %v", path, again.Code, again.Header())
		}
	}
	for _, path := range []string{"/docs/assets/none", "/docs/assets/openapi.json", "/docs/assets/..%2f..%2fopenapi.json", "/docs/assets/redoc.standalone.js.gz"} {
		if w := serve(t, "GET", path); w.Code != 404 || !strings.Contains(w.Body.String(), `"NOT_FOUND"`) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := serve(t, "POST", "/docs"); w.Code != 405 {
		t.Errorf("POST /docs: %d", w.Code)
	}
}

// A page at /docs/ would load its files from below /docs/. Listeners fold the slash, so only the request line still has it.
func TestSlashLeadsToThePage(t *testing.T) {
	t.Parallel()
	d := newDocument(t)
	for asked, page := range map[string]string{
		"/docs/": "/docs", "/docs/?x": "/docs", "/docs//": "/docs", "/docs///?x": "/docs", "/redoc//": "/redoc",
		"/docs/oauth2-redirect/": "/docs/oauth2-redirect", "/docs/oauth2-redirect//": "/docs/oauth2-redirect",
	} {
		for _, below := range []string{"", "/behind/a/proxy"} {
			r := httptest.NewRequestWithContext(t.Context(), "GET", asked, nil)
			r.URL.Path = page
			w := httptest.NewRecorder()
			d.ServeHTTP(w, r)
			browser, err := url.Parse("http://server" + below + asked)
			if err != nil {
				t.Fatal(err)
			}
			to, err := browser.Parse(w.Header().Get("Location"))
			if err != nil || w.Code != http.StatusTemporaryRedirect || to.Path != below+page {
				t.Errorf("%s: %d to %v, %v; want %s", asked, w.Code, to, err, below+page)
			}
		}
	}
}

// The pages load nothing from elsewhere and run no script but files of this server; what they load is there.
func TestPagesStandAlone(t *testing.T) {
	t.Parallel()
	d := newDocument(t)
	links := regexp.MustCompile(`(?:src|href|spec-url)="([^"]*)"`)
	for page, folder := range map[string]string{"/docs": "/", "/redoc": "/", "/docs/oauth2-redirect": "/docs/"} {
		w := serve(t, "GET", page)
		text := w.Body.String()
		if regexp.MustCompile(`<script>|<script [^>]*>[^<]|\son\w+=|https?://`).MatchString(text) {
			t.Errorf("%s has a script inside, or leads elsewhere", page)
		}
		found := links.FindAllStringSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("%s loads nothing", page)
		}
		for _, m := range found {
			if !d.Has(folder + m[1]) {
				t.Errorf("%s loads %s, which is not there", page, m[1])
			}
		}
		if p := w.Header().Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'") || strings.Contains(p, "script-src 'self' 'unsafe") {
			t.Errorf("%s: policy %q", page, p)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "deflate, gzip": true, "gzip;q=0": false, "gzip; q=0.0": false, "gzip; q=0.1": true, "gzip;q=x": false, "gzipped": false, "*": false,
	} {
		if got := acceptsGzip([]string{line}); got != want {
			t.Errorf("Accept-Encoding %q: %v", line, got)
		}
	}
	for line, want := range map[string]bool{"": false, "*": true, `"a"`: true, `W/"a"`: true, `"b", W/"a"`: true, `"b"`: false, "a": false} {
		if got := listed([]string{line}, `W/"a"`); got != want {
			t.Errorf("If-None-Match %q: %v", line, got)
		}
	}
}

// Redoc as it is published loads an image from the internet.
func TestRedocLoadsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	if w := serve(t, "GET", "/docs/assets/redoc.standalone.js"); regexp.MustCompile(`https?://(cdn|fonts)\.`).MatchString(w.Body.String()) {
		t.Error("there is an address in Redoc that it would load from")
	}
}

// What the files add to a program is bounded on purpose.
func TestSize(t *testing.T) {
	t.Parallel()
	var sum int
	for _, f := range newDocument(t).files {
		sum += len(f.compressed)
	}
	if sum > 900<<10 {
		t.Errorf("the documents have %d bytes", sum)
	}
}

func TestOnlyExactPathsBelongToTheDocument(t *testing.T) {
	t.Parallel()
	d := newDocument(t)
	for path, want := range map[string]bool{
		"/docs": true, "/redoc": true, "/openapi.json": true, "/docs/oauth2-redirect": true, "/docs/assets/docs.js": true,
		"/docs/": false, "/docsx": false, "/docs/assets/": false, "/docs/assets/x": false, "/v1/docs": false, "/openapi.json/x": false, "": false,
	} {
		if d.Has(path) != want {
			t.Errorf("%q: %v", path, !want)
		}
	}
}

// What the document adds to the start of a server.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		if _, err := New("1"); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add(`gzip;q=0.5, *;q=0`, `W/"x", "y"`)
	d, err := New("1")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, accept, match string) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/docs", nil)
		r.Header["Accept-Encoding"], r.Header["If-None-Match"] = []string{accept}, []string{match}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r)
		if !slices.Contains([]int{200, 304}, w.Code) {
			t.Errorf("%q %q: %d", accept, match, w.Code)
		}
	})
}
