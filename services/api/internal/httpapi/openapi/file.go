package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"

	"opensandbox/libs/fault"
	"opensandbox/libs/kitx"
)

// file is kept compressed, the form in which almost every client takes it.
type file struct {
	contentType string
	compressed  []byte
	// tag is weak: it names the content, whether or not it is sent compressed.
	tag string
}

func newFile(contentType string, compressed []byte) *file {
	sum := sha256.Sum256(compressed)
	return &file{contentType: contentType, compressed: compressed, tag: `W/"` + hex.EncodeToString(sum[:8]) + `"`}
}

func compress(text []byte) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// policy lets the pages load from this server and nowhere else. Both put styles into the page, Redoc searches in a worker that it makes
// itself, and images can be part of a style.
const policy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; connect-src 'self'; " +
	"worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// ServeHTTP serves the files. Clients may keep them but have to ask each time whether they are still good, which costs a few bytes:
// a new server has new files under the same names.
func (d *Document) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := d.files[r.URL.Path]
	if f == nil {
		kitx.WriteError(w, fault.New(fault.NotFound, "there is no such route"))
		return
	}
	h := w.Header()
	if asked, _, _ := strings.Cut(r.RequestURI, "?"); strings.HasSuffix(asked, "/") {
		// The pages load by relative names, so that they work below any path of a proxy in front; those lead astray from /docs/. Each slash
		// at the end is one step up.
		slashes := len(asked) - len(strings.TrimRight(asked, "/"))
		h.Set("Location", strings.Repeat("../", slashes)+path.Base(r.URL.Path))
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	h.Set("ETag", f.tag)
	h.Set("Cache-Control", "no-cache")
	h.Add("Vary", "Accept-Encoding")
	if listed(r.Header.Values("If-None-Match"), f.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	if strings.HasPrefix(f.contentType, "text/html") {
		h.Set("Content-Security-Policy", policy)
	}
	if acceptsGzip(r.Header.Values("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", strconv.Itoa(len(f.compressed)))
		_, _ = w.Write(f.compressed) // the client may have gone
		return
	}
	z, err := gzip.NewReader(bytes.NewReader(f.compressed))
	if err != nil {
		kitx.WriteError(w, err)
		return
	}
	_, _ = io.Copy(w, z) // the client may have gone
}

// listed reports whether a list of tags (RFC 9110, If-None-Match) has this one, weak or strong.
func listed(lines []string, tag string) bool {
	for t := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		t = strings.TrimSpace(t)
		if t == "*" || strings.TrimPrefix(t, "W/") == strings.TrimPrefix(tag, "W/") {
			return true
		}
	}
	return false
}

// acceptsGzip reads Accept-Encoding (RFC 9110).
func acceptsGzip(lines []string) bool {
	for part := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		coding, weight, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		q, found := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(weight), " ", ""), "q=")
		if n, err := strconv.ParseFloat(q, 64); !found || err == nil && n > 0 {
			return true
		}
	}
	return false
}
