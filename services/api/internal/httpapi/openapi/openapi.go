// Package openapi serves the description of the API: the OpenAPI document, and Swagger UI and Redoc, which show it to people. Everything
// that they load is in the program, so the pages work without the internet.
//
// It knows nothing of the routes but what openapi.json says; tests compare both.
package openapi

import (
	"embed"
	"fmt"
	"mime"
	"net/http"
	"path"
	"strings"

	"opensandbox/libs/kitx"
)

//go:embed openapi.json
var source []byte

// assets are files of Swagger UI and Redoc, as scripts/docs-assets.sh puts them there, and their licences.
//
//go:embed assets/*.gz
var assets embed.FS

// pages are ours.
//
//go:embed pages
var pages embed.FS

// assetPath is where the files of the pages are.
const assetPath = "/docs/assets/"

// Document is the OpenAPI document with everything around it. Use New.
type Document struct {
	files map[string]*file
}

// New returns the document for a server of a version.
func New(version string) (*Document, error) {
	json, err := complete(source, version)
	if err != nil {
		return nil, err
	}
	d := &Document{files: map[string]*file{}}
	if err := d.add("/openapi.json", "application/json", json); err != nil {
		return nil, err
	}
	for name, at := range map[string]string{
		"docs.html": "/docs", "oauth2-redirect.html": "/docs/oauth2-redirect", "redoc.html": "/redoc",
		"docs.js": assetPath + "docs.js", "redoc.css": assetPath + "redoc.css",
	} {
		text, err := pages.ReadFile("pages/" + name)
		if err != nil {
			return nil, err
		}
		if err := d.add(at, typeOf(name), text); err != nil {
			return nil, err
		}
	}
	entries, err := assets.ReadDir("assets")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		compressed, err := assets.ReadFile("assets/" + e.Name())
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(e.Name(), ".gz")
		d.files[assetPath+name] = newFile(typeOf(name), compressed)
	}
	return d, nil
}

func (d *Document) add(at, contentType string, text []byte) error {
	compressed, err := compress(text)
	if err != nil {
		return fmt.Errorf("compress %s: %w", at, err)
	}
	d.files[at] = newFile(contentType, compressed)
	return nil
}

// typeOf returns the content type for a file name. The table of the system is not asked: it differs from machine to machine.
func typeOf(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".txt":
		return "text/plain; charset=utf-8"
	}
	return mime.TypeByExtension(path.Ext(name))
}

// Has reports whether exactly this path belongs to the document.
func (d *Document) Has(path string) bool { return d.files[path] != nil }

// Routes adds the document's routes.
func (d *Document) Routes(k *kitx.Kit) {
	for _, r := range []struct{ path, operation string }{
		{"/openapi.json", "OpenAPI"}, {"/docs", "SwaggerUI"}, {"/docs/oauth2-redirect", "OAuth2Redirect"}, {"/redoc", "Redoc"}, {assetPath + "{name}", "Asset"},
	} {
		k.Handle("GET "+r.path, kitx.Op(r.operation, http.StatusOK), d)
	}
}
