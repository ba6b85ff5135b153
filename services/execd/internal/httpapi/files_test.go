package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/services/execd/internal/files"
)

func (s *sandbox) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *sandbox) write(name, content string, mode fs.FileMode) string {
	s.t.Helper()
	p := s.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), mode); err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *sandbox) content(path string) string {
	s.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

func q(kv ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(kv); i += 2 {
		v.Add(kv[i], kv[i+1])
	}
	return "?" + v.Encode()
}

// part is one piece of a form; file names are used only where one is given.
type part struct{ field, name, content string }

func form(parts ...part) (body []byte, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		h := fmt.Sprintf(`form-data; name="%s"`, p.field)
		if p.name != "" {
			h += fmt.Sprintf(`; filename="%s"`, p.name)
		}
		pw, _ := w.CreatePart(map[string][]string{"Content-Disposition": {h}})
		_, _ = io.WriteString(pw, p.content)
	}
	_ = w.Close()
	return b.Bytes(), w.FormDataContentType()
}

func (s *sandbox) upload(parts ...part) answer {
	s.t.Helper()
	return s.uploadTo("", parts...)
}

// uploadTo uploads through the routes below a prefix.
func (s *sandbox) uploadTo(prefix string, parts ...part) answer {
	s.t.Helper()
	body, ct := form(parts...)
	return s.do("POST", prefix+"/files/upload", bytes.NewReader(body), "Content-Type", ct)
}

func meta(path string, more string) part {
	return part{"metadata", "metadata", `{"path":` + strconv.Quote(path) + more + `}`}
}

func TestUpload(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	a, b := s.path("new/dir/a b"), s.path("b")
	s.upload(meta(a, `,"owner":null,"group":null,"mode":640`), part{"file", "x", "AAA"},
		part{"metadata", "", `{"path":"~/b"}`}, part{"file", "", "BBB"}).wantEmpty(t)
	if s.content(a) != "AAA" || s.content(b) != "BBB" {
		t.Error("uploaded files differ")
	}
	for path, want := range map[string]fs.FileMode{a: 0o640, b: 0o755} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want mode %o", path, fi.Mode(), err, want)
		}
	}
	// Files before their descriptions, in the same order.
	c, d := s.path("c"), s.path("d")
	s.upload(part{"file", "1", "CCC"}, part{"file", "2", "DDD"}, meta(c, ""), part{"other", "", "x"}, meta(d, `,"owner":"nobody","group":"nogroup"`)).wantEmpty(t)
	if s.content(c) != "CCC" || s.content(d) != "DDD" {
		t.Error("files that came first differ")
	}
	var info map[string]files.Info
	if err := json.Unmarshal([]byte(s.do("GET", "/files/info"+q("path", d), nil).body), &info); err != nil || info[d].Owner != "nobody" || info[d].Group != "nogroup" {
		t.Errorf("owner: %+v %v", info, err)
	}
	if left, _ := filepath.Glob(s.path(".opensandbox*")); len(left) > 0 {
		t.Errorf("temporary files stay: %v", left)
	}
}

func TestUploadOverExisting(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	old := s.write("old", "long old content", 0o604)
	if err := os.Chown(old, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	link, dangling := s.path("link"), s.path("dangling")
	for name, to := range map[string]string{link: "old", dangling: "fresh"} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	s.upload(meta(link, ""), part{"file", "f", "new"}, meta(dangling, ""), part{"file", "f", "made"}).wantEmpty(t)
	if s.content(old) != "new" || s.content(s.path("fresh")) != "made" {
		t.Error("symlinks were not followed")
	}
	fi, err := os.Lstat(old)
	if err != nil {
		t.Fatal(err)
	}
	if st := fi.Sys().(*syscall.Stat_t); fi.Mode().Perm() != 0o604 || st.Uid != 65534 || st.Gid != 65534 {
		t.Errorf("mode %v uid %d gid %d, want those of the old file", fi.Mode(), st.Uid, st.Gid)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
		t.Error("the symlink itself was replaced")
	}
	hard := s.path("hard")
	if err := os.Link(old, hard); err != nil {
		t.Fatal(err)
	}
	s.upload(meta(hard, `,"mode":600`), part{"file", "f", "shared"}).wantEmpty(t)
	if s.content(old) != "shared" {
		t.Error("the hard link was broken")
	}
	s.upload(meta(s.dir, ""), part{"file", "f", "x"}).wantError(t, 500, codeRuntime)
	s.upload(meta("/dev/null", ""), part{"file", "f", "x"}).wantEmpty(t)
}

func TestUploadErrors(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	p := s.path("x")
	file := part{"file", "f", "x"}
	s.do("POST", "/files/upload", "x").wantError(t, 400, "INVALID_FILE")
	s.do("POST", "/files/upload", "x", "Content-Type", "multipart/form-data").wantError(t, 400, "INVALID_FILE")
	s.do("POST", "/files/upload", "x", "Content-Type", "multipart/form-data; boundary=b").wantError(t, 400, "INVALID_FILE")
	s.upload().wantError(t, 400, "INVALID_FILE_METADATA")
	s.upload(file).wantError(t, 400, "INVALID_FILE_METADATA")
	s.upload(meta(p, "")).wantError(t, 400, "INVALID_FILE_CONTENT")
	s.upload(meta(p, ""), file, meta(p, "")).wantError(t, 400, "INVALID_FILE")
	s.upload(meta(p, ""), file, file).wantError(t, 400, "INVALID_FILE")
	s.upload(meta("", ""), file).wantError(t, 400, "INVALID_FILE_METADATA")
	s.upload(part{"metadata", "m", "{"}, file).wantError(t, 400, "INVALID_FILE_METADATA")
	s.upload(meta(s.path("y"), `,"owner":"no-such-user"`), file).wantError(t, 500, codeRuntime)
	s.upload(meta(s.path("y"), `,"mode":888`), file).wantError(t, 500, codeRuntime)
	s.upload(meta("$NO_SUCH_VARIABLE/y", ""), file).wantError(t, 500, codeRuntime)
	s.upload(meta(s.write("plain", "", 0o644)+"/y", ""), file).wantError(t, 500, codeRuntime)
	if _, err := os.Stat(s.path("y")); err == nil {
		t.Error("a file with an unknown owner was written")
	}
	large := meta(p, `,"ignored":"`+strings.Repeat("x", 1<<20-200)+`"`)
	s.upload(append(slices.Repeat([]part{large}, 17), slices.Repeat([]part{file}, 17)...)...).wantError(t, 400, "INVALID_FILE")
	pipe := s.path("pipe")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	s.upload(meta(pipe, ""), file).wantError(t, 500, codeRuntime) // Nobody reads it.
	// A body that is cut leaves the old content.
	keep := s.write("keep", "old", 0o644)
	body, ct := form(meta(keep, ""), part{"file", "f", strings.Repeat("n", 100000)})
	s.do("POST", "/files/upload", bytes.NewReader(body[:50000]), "Content-Type", ct).wantError(t, 400, "INVALID_FILE")
	if got := s.content(keep); got != "old" {
		t.Errorf("a broken upload changed the file to %d bytes", len(got))
	}
}

func TestBigUploadAndDownload(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	p := s.path("big")
	content := strings.Repeat("0123456789abcdef\r\n--", 1<<19)
	body, ct := form(meta(p, ""), part{"file", p, content})
	// A reader of unknown length makes the body chunked.
	s.do("POST", "/files/upload", io.MultiReader(bytes.NewReader(body)), "Content-Type", ct).wantEmpty(t)
	if got := s.do("GET", "/files/download"+q("path", p), nil); got.body != content || got.Header.Get("Content-Length") != strconv.Itoa(len(content)) {
		t.Errorf("downloaded %d bytes, want %d equal ones", len(got.body), len(content))
	}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	p := s.write("ünï \"x\"", "0123456789", 0o644)
	plain := s.write("plain", "0123456789", 0o644)
	a := s.do("GET", "/files/download"+q("path", p), nil)
	if want := `attachment; filename="%C3%BCn%C3%AF%20%22x%22"; filename*=UTF-8''%C3%BCn%C3%AF%20%22x%22`; a.Header.Get("Content-Disposition") != want {
		t.Errorf("disposition %s, want %s", a.Header.Get("Content-Disposition"), want)
	}
	if a.Header.Get("Accept-Ranges") != "bytes" || a.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("headers %v", a.Header)
	}
	if a := s.do("GET", "/files/download"+q("path", plain), nil, "If-Modified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)); a.StatusCode != 304 {
		t.Errorf("If-Modified-Since: got %d", a.StatusCode)
	}
	for spec, want := range map[string]string{
		"bytes=0-3": "206 bytes 0-3/10 0123", "bytes=8-": "206 bytes 8-9/10 89", "bytes=-2": "206 bytes 8-9/10 89",
		"bytes=0-9223372036854775807": "206 bytes 0-9/10 0123456789", "bytes=3-99999999999999999999999": "206 bytes 3-9/10 3456789",
		"bytes=50-60,1-2,4-5": "206 bytes 1-2/10 12", "bytes=-99": "206 bytes 0-9/10 0123456789",
	} {
		a := s.do("GET", "/files/download"+q("path", plain), nil, "Range", spec)
		if got := fmt.Sprintf("%d %s %s", a.StatusCode, a.Header.Get("Content-Range"), a.body); got != want {
			t.Errorf("%s: got %s, want %s", spec, got, want)
		}
	}
	for spec, code := range map[string]string{"bytes=10-": "RANGE_NOT_SATISFIABLE", "bytes=5-2": "INVALID_RANGE", "lines=1-2": "INVALID_RANGE", "x": "INVALID_RANGE"} {
		a := s.do("GET", "/files/download"+q("path", plain), nil, "Range", spec)
		a.wantError(t, 416, code)
		if got := a.Header.Get("Content-Range"); got != "bytes */10" {
			t.Errorf("%s: Content-Range %q", spec, got)
		}
	}
	s.do("GET", "/files/download", nil).wantError(t, 400, codeQuery)
	s.do("GET", "/files/download"+q("path", s.path("nope")), nil).wantError(t, 404, "FILE_NOT_FOUND")
	s.do("GET", "/files/download"+q("path", s.dir), nil).wantError(t, 500, codeRuntime)
	fifo := s.path("fifo")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	s.do("GET", "/files/download"+q("path", fifo), nil).wantError(t, 500, codeRuntime)
	if a := s.do("GET", "/files/download"+q("path", "/proc/self/stat"), nil); a.StatusCode != 200 || a.body == "" {
		t.Errorf("a file of /proc: got %d, %d bytes", a.StatusCode, len(a.body))
	}
}

func TestDownloadLines(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	p := s.write("lines", "one\ntwo\r\n\nfour\r\r\nfi\rve", 0o644)
	for query, want := range map[string]string{
		"offset=1": "one\ntwo\n\nfour\nfi\rve", "offset=2&limit=1": "two", "limit=2": "one\ntwo", "offset=3&limit=1": "", "offset=3&limit=2": "\nfour",
		"offset=9": "", "offset=5&limit=99999999999": "fi\rve",
	} {
		a := s.do("GET", "/files/download"+q("path", p)+"&"+query, nil)
		if a.StatusCode != 200 || a.body != want || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: got %d %q %s, want %q", query, a.StatusCode, a.body, a.Header.Get("Content-Type"), want)
		}
	}
	for _, query := range []string{"offset=0", "limit=0", "offset=-1", "limit=x"} {
		s.do("GET", "/files/download"+q("path", p)+"&"+query, nil).wantError(t, 400, codeBody)
	}
	s.do("GET", "/files/download"+q("path", p)+"&limit=1", nil, "Range", "bytes=0-1").wantError(t, 400, codeBody)
}

func TestInfoAndPermissions(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	p := s.write("f", "12345", 0o644)
	link := s.path("l")
	if err := os.Symlink("f", link); err != nil {
		t.Fatal(err)
	}
	var info map[string]files.Info
	a := s.do("GET", "/files/info"+q("path", "~/f", "path", link, "path", s.dir), nil)
	if err := json.Unmarshal([]byte(a.body), &info); err != nil || len(info) != 3 {
		t.Fatalf("info: %s", a.body)
	}
	if f := info["~/f"]; f.Path != p || f.Type != "file" || f.Size != 5 || f.Mode != 644 || f.Owner != "root" || f.ModifiedAt.IsZero() || f.CreatedAt.IsZero() {
		t.Errorf("info of the file: %+v", f)
	}
	if info[link].Type != "symlink" || info[s.dir].Type != "directory" {
		t.Errorf("types: %+v", info)
	}
	if a := s.do("GET", "/files/info", nil); a.body != "{}" {
		t.Errorf("no path: %s", a.body)
	}
	s.do("GET", "/files/info"+q("path", p, "path", s.path("nope")), nil).wantError(t, 404, "FILE_NOT_FOUND")
	s.do("POST", "/files/permissions", obj{p: obj{"mode": 4751, "owner": "nobody", "group": nil}}).wantEmpty(t)
	fi, err := os.Stat(p)
	if err != nil || fi.Mode() != 0o751 || fi.Sys().(*syscall.Stat_t).Uid != 65534 {
		t.Errorf("after permissions: %v %v", fi.Mode(), err)
	}
	s.do("POST", "/files/permissions", obj{p: obj{"group": "nogroup"}, link: obj{"mode": 0}}).wantEmpty(t)
	if fi, err := os.Stat(p); err != nil || fi.Mode() != 0o751 || fi.Sys().(*syscall.Stat_t).Gid != 65534 {
		t.Errorf("without a mode, and with 0: %v %v", fi.Mode(), err)
	}
	s.do("POST", "/files/permissions", obj{s.path("nope"): obj{"mode": 644}}).wantError(t, 500, codeRuntime)
	s.do("POST", "/files/permissions", obj{p: obj{"mode": 989}}).wantError(t, 500, codeRuntime)
	s.do("POST", "/files/permissions", obj{p: obj{"group": "no-such-group"}}).wantError(t, 500, codeRuntime)
	s.do("POST", "/files/permissions", "[").wantError(t, 400, codeBody)
}

func TestMoveRemoveReplace(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	a, b := s.write("a", "x.y.x", 0o600), s.path("new/b")
	s.do("POST", "/files/mv", []obj{{"src": a, "dest": b}}).wantEmpty(t)
	s.do("POST", "/files/mv", []obj{{"src": a, "dest": s.path("c")}}).wantError(t, 404, "FILE_NOT_FOUND")
	s.do("POST", "/files/mv", []obj{{"src": b, "dest": s.write("there", "", 0o644)}}).wantError(t, 500, codeRuntime)
	s.do("POST", "/files/replace?verbose=false", obj{b: obj{"old": "x", "new": "zz"}}).wantEmpty(t)
	if got := s.content(b); got != "zz.y.zz" {
		t.Errorf("replaced: %q", got)
	}
	if fi, err := os.Stat(b); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode after replace: %v %v", fi.Mode(), err)
	}
	if a := s.do("POST", "/files/replace?verbose=true", obj{b: obj{"old": "z", "new": ""}}); a.body != `{"`+b+`":{"replacedCount":4}}` {
		t.Errorf("verbose: %s", a.body)
	}
	s.do("POST", "/files/replace", obj{b: obj{"old": "", "new": "x"}}).wantError(t, 400, codeBody)
	s.do("POST", "/files/replace", obj{s.path("nope"): obj{"old": "a", "new": "x"}}).wantError(t, 404, "FILE_NOT_FOUND")
	s.do("DELETE", "/files"+q("path", b, "path", s.path("nope")), nil).wantEmpty(t)
	s.do("DELETE", "/files", nil).wantEmpty(t)
	s.do("DELETE", "/directories?path=", nil).wantError(t, 400, codeBody)
	s.do("DELETE", "/files"+q("path", s.dir), nil).wantError(t, 500, codeRuntime)
	if _, err := os.Stat(b); err == nil {
		t.Error("the file is still there")
	}
}

func TestDirectories(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	root := s.path("r")
	s.do("POST", "/directories", obj{root + "/b/c": obj{"mode": 700, "owner": nil}, root + "/a b": obj{"mode": 755}}).wantEmpty(t)
	s.do("POST", "/directories", obj{root + "/b/c": obj{"mode": 777}}).wantEmpty(t)
	if fi, err := os.Stat(root + "/b/c"); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("leaf: %v %v", fi.Mode(), err)
	}
	s.write("r/b/c/f.txt", "", 0o644)
	s.write("r/.hidden", "", 0o644)
	if err := os.Symlink("b", root+"/l"); err != nil {
		t.Fatal(err)
	}
	s.do("POST", "/directories", obj{root + "/.hidden/x": obj{}}).wantError(t, 500, codeRuntime)
	list := func(query string) (out []string) {
		a := s.do("GET", query, nil)
		var infos []files.Info
		if err := json.Unmarshal([]byte(a.body), &infos); err != nil || infos == nil {
			t.Fatalf("%s: %s", query, a.body)
		}
		for _, i := range infos {
			out = append(out, strings.TrimPrefix(i.Path, root+"/"))
		}
		return out
	}
	for query, want := range map[string][]string{
		"/directories/list" + q("path", root):               {".hidden", "a b", "b", "l"},
		"/directories/list" + q("path", root, "depth", "9"): {".hidden", "a b", "b", "b/c", "b/c/f.txt", "l"},
		"/directories/list" + q("path", root, "depth", "0"): nil,
		"/files/search" + q("path", root):                   {".hidden", "b/c/f.txt", "l"},
		"/files/search" + q("path", root, "pattern", "*.t?t"): {
			"b/c/f.txt"},
		"/files/search" + q("path", root, "pattern", "c/*.txt"): nil,
		"/files/search" + q("path", root+"/l"):                  {"l"},
	} {
		if d := cmp.Diff(want, list(query)); d != "" {
			t.Errorf("%s (-want +got):\n%s", query, d)
		}
	}
	s.do("GET", "/directories/list", nil).wantError(t, 400, codeQuery)
	s.do("GET", "/directories/list"+q("path", root, "depth", "-1"), nil).wantError(t, 400, codeBody)
	s.do("GET", "/directories/list"+q("path", root, "depth", "x"), nil).wantError(t, 400, codeBody)
	s.do("GET", "/directories/list"+q("path", root+"/l"), nil).wantError(t, 400, codeBody)
	s.do("GET", "/directories/list"+q("path", root+"/.hidden"), nil).wantError(t, 400, codeBody)
	s.do("GET", "/directories/list"+q("path", root+"/nope"), nil).wantError(t, 404, "FILE_NOT_FOUND")
	s.do("GET", "/files/search"+q("path", root+"/nope"), nil).wantError(t, 404, "FILE_NOT_FOUND")
	s.do("GET", "/files/search", nil).wantError(t, 400, codeQuery)
	s.do("GET", "/files/search"+q("path", root, "pattern", "[a"), nil).wantError(t, 500, codeRuntime)
	s.do("DELETE", "/directories"+q("path", root, "path", root), nil).wantEmpty(t)
	if _, err := os.Stat(root); err == nil {
		t.Error("the directory is still there")
	}
}
