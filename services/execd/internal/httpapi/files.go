package httpapi

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/files"
)

// maxDrain is how much of a refused upload is still read, in bytes: a client that is busy sending would otherwise see a broken
// connection instead of the answer.
const maxDrain = 64 << 20

// fileRoute is one route of the file API.
type fileRoute struct {
	method, path string
	handle       handler
}

// fileRoutes lists the file API over f. Execd serves it with its own identity, and workers with another one.
func fileRoutes(f *files.Service) []fileRoute {
	h := fileHandlers{f}
	return []fileRoute{
		{"GET", "/files/info", h.info},
		{"DELETE", "/files", paths(f.Remove)},
		{"DELETE", "/directories", paths(f.RemoveDirs)},
		{"POST", "/files/permissions", change(f.SetPermissions)},
		{"POST", "/directories", change(f.MakeDirs)},
		{"POST", "/files/mv", change(f.Rename)},
		{"POST", "/files/replace", h.replaceText},
		{"GET", "/files/search", h.search},
		{"GET", "/directories/list", h.listDirectory},
		{"POST", "/files/upload", h.upload},
		{"GET", "/files/download", h.download},
		{"HEAD", "/files/download", h.download},
	}
}

// registerFiles adds the file API twice: as it is, and under a user and a group.
func (a *API) registerFiles() {
	for _, rt := range fileRoutes(a.cfg.Files) {
		a.routes.on(rt.method, rt.path, rt.handle)
		a.routes.on(rt.method, "/v1/filesystem/{}/{}"+rt.path, func(w http.ResponseWriter, r *http.Request, args []string) error {
			return a.asIdentity(w, r, args, rt.path)
		})
	}
}

// fileHandlers are the routes that need more than an adapter.
type fileHandlers struct{ files *files.Service }

func (h fileHandlers) info(w http.ResponseWriter, r *http.Request, _ []string) error {
	out, err := h.files.Info(r.URL.Query()["path"])
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, out)
}

// paths adapts an operation on the repeated "path" parameter.
func paths(do func([]string) error) handler {
	return func(w http.ResponseWriter, r *http.Request, _ []string) error {
		if err := do(r.URL.Query()["path"]); err != nil {
			return err
		}
		return empty(w)
	}
}

// change adapts an operation on a JSON body that answers nothing.
func change[T any](do func(T) error) handler {
	return func(w http.ResponseWriter, r *http.Request, _ []string) error {
		var body T
		if err := decode(w, r, &body); err != nil {
			return err
		}
		if err := do(body); err != nil {
			return err
		}
		return empty(w)
	}
}

func (h fileHandlers) replaceText(w http.ResponseWriter, r *http.Request, _ []string) error {
	var body map[string]files.Replacement
	if err := decode(w, r, &body); err != nil {
		return err
	}
	out, err := h.files.Replace(body)
	if err != nil {
		return err
	}
	if r.URL.Query().Get("verbose") == "true" {
		return writeJSON(w, http.StatusOK, out)
	}
	return empty(w)
}

func (h fileHandlers) search(w http.ResponseWriter, r *http.Request, _ []string) error {
	q := r.URL.Query()
	path, pattern := q.Get("path"), q.Get("pattern")
	if path == "" {
		return missingQuery("path")
	}
	if pattern == "" {
		pattern = "**"
	}
	return array(w, r, func(each func(files.Info) error) error { return h.files.Search(r.Context(), path, pattern, each) })
}

func (h fileHandlers) listDirectory(w http.ResponseWriter, r *http.Request, _ []string) error {
	q := r.URL.Query()
	path, depth := q.Get("path"), 1
	if path == "" {
		return missingQuery("path")
	}
	if d := q.Get("depth"); d != "" {
		n, err := strconv.Atoi(d)
		if err != nil || n < 0 {
			return fault.New(fault.Invalid, "invalid request, validation error depth must be a number and not negative").WithCode(codeBody)
		}
		depth = n
	}
	return array(w, r, func(each func(files.Info) error) error { return h.files.List(r.Context(), path, depth, each) })
}

func (h fileHandlers) upload(w http.ResponseWriter, r *http.Request, _ []string) error {
	err := files.NotMultipart()
	kind, params, perr := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if perr == nil && strings.HasPrefix(kind, "multipart/") && params["boundary"] != "" {
		err = h.files.Upload(r.Body, params["boundary"])
	}
	_, _ = io.CopyN(io.Discard, r.Body, maxDrain) // Also takes what follows the last boundary, so that the connection can be kept.
	if err != nil {
		return err
	}
	return empty(w)
}

func (h fileHandlers) download(w http.ResponseWriter, r *http.Request, _ []string) error {
	q := r.URL.Query()
	path := q.Get("path")
	if path == "" {
		return missingQuery("path")
	}
	lines := q.Get("offset") != "" || q.Get("limit") != ""
	if lines && r.Header.Get("Range") != "" {
		return fault.New(fault.Invalid, "invalid request, validation error offset and limit cannot be used with a Range header").WithCode(codeBody)
	}
	from, count, err := files.LineRange(q.Get("offset"), q.Get("limit"))
	if err != nil {
		return err
	}
	f, fi, streamed, err := h.files.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if lines {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := files.CopyLines(w, f, from, count); err != nil {
			panic(http.ErrAbortHandler) // The status is out; a cut connection is the only way to say that the text is not whole.
		}
		return nil
	}
	w.Header().Set("Content-Disposition", disposition(filepath.Base(fi.Name())))
	w.Header().Set("Content-Type", "application/octet-stream")
	if streamed {
		if _, err := io.Copy(w, f); err != nil {
			panic(http.ErrAbortHandler)
		}
		return nil
	}
	if spec := r.Header.Get("Range"); spec != "" && fi.Size() > 0 {
		start, length, err := files.FirstRange(spec, fi.Size())
		if err != nil {
			return unsatisfiable(w, err, fi.Size())
		}
		r = r.Clone(r.Context())
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, start+length-1))
	}
	http.ServeContent(w, r, "", fi.ModTime(), f)
	return nil
}

// unsatisfiable answers 416 and names the size, so that the client can ask again.
func unsatisfiable(w http.ResponseWriter, err error, size int64) error {
	code := "INVALID_RANGE"
	if errors.Is(err, files.ErrRangeOutside) {
		code = "RANGE_NOT_SATISFIABLE"
	}
	w.Header().Del("Content-Disposition")
	w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", size))
	return writeJSON(w, http.StatusRequestedRangeNotSatisfiable, failure{Code: code, Message: err.Error()})
}

// disposition names the download. Names that are not plain ASCII are sent in the form of RFC 5987 as well.
func disposition(base string) string {
	ascii := true
	for i := 0; i < len(base); i++ {
		ascii = ascii && base[i] >= 0x20 && base[i] < 0x7f
	}
	if ascii {
		return `attachment; filename="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(base) + `"`
	}
	pct := url.PathEscape(base)
	return `attachment; filename="` + pct + `"; filename*=UTF-8''` + pct
}
