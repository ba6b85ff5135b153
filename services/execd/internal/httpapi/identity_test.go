package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"opensandbox/services/execd/internal/files"
)

// stranger is a user number without an account.
const stranger = 54321

// as is the prefix of the routes of an identity.
func as(uid, gid int) string {
	return "/v1/filesystem/" + strconv.Itoa(uid) + "/" + strconv.Itoa(gid)
}

// shared returns a directory that the stranger can reach and write to, and one inside it that is closed to it.
func shared(t *testing.T) (open, closed string) {
	t.Helper()
	open, err := os.MkdirTemp("/tmp", "identity-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(open) })
	closed = filepath.Join(open, "closed")
	err = errors.Join(os.Chmod(open, 0o777), os.Mkdir(closed, 0o700), os.WriteFile(filepath.Join(closed, "secret"), []byte("x"), 0o644),
		os.WriteFile(filepath.Join(open, "private"), []byte("x"), 0o600), os.WriteFile(filepath.Join(open, "public"), []byte("for all"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	return open, closed
}

// TestIdentityOwn needs no privilege: it is the identity that execd has already.
func TestIdentityOwn(t *testing.T) {
	t.Parallel()
	s := start(t, setup{token: secret})
	me := as(os.Getuid(), os.Getgid())
	path := s.path("deep/a.bin")
	data := strings.Repeat("0123456789", 300_000)
	s.uploadTo(me, meta(path, `,"mode":640,"owner":null`), part{"file", "x", data}).wantEmpty(t)
	a := s.do("GET", me+"/files/download"+q("path", path), nil, "Range", "bytes=2999990-")
	if a.StatusCode != 206 || a.body != "0123456789" || a.Header.Get("Content-Range") != "bytes 2999990-2999999/3000000" {
		t.Errorf("range: got %d %q %v", a.StatusCode, a.body, a.Header)
	}
	if a := s.do("GET", me+"/files/download"+q("path", path), nil); a.body != data || a.ContentLength != int64(len(data)) {
		t.Errorf("download: got %d bytes, length %d", len(a.body), a.ContentLength)
	}
	if a := s.do("GET", me+"/files/download"+q("path", path, "limit", "1"), nil); a.body != data {
		t.Errorf("lines: got %d bytes", len(a.body))
	}
	s.do("POST", me+"/files/mv", []obj{{"src": path, "dest": s.path("b")}}).wantEmpty(t)
	if a := s.do("POST", me+"/files/replace?verbose=true", obj{s.path("b"): obj{"old": "01", "new": ""}}); !strings.Contains(a.body, "300000") {
		t.Errorf("replace: %s", a.body)
	}
	for _, call := range [][2]string{{"GET", "/files/search"}, {"DELETE", "/files"}} {
		method, route := call[0], call[1]
		if a := s.do(method, me+route+q("path", s.path("b")), nil); a.StatusCode != 200 || len(a.Header.Values(requestIDHeader)) != 1 {
			t.Errorf("%s %s: got %d %s %v", method, route, a.StatusCode, a.body, a.Header)
		}
	}
	s.do("GET", me+"/files/info"+q("path", s.path("b")), nil).wantError(t, 404, "FILE_NOT_FOUND")
	s.do("GET", me+"/files/info", nil, TokenHeader, "").wantError(t, 401, codeUnauthorized)
	if a := s.do("GET", me+"/files/info", nil, requestIDHeader, "mine"); a.body != "{}" || a.Header.Get(requestIDHeader) != "mine" {
		t.Errorf("got %s %v", a.body, a.Header)
	}
}

func TestIdentityBadRequests(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	for _, ids := range []string{"-1/0", "0/-1", "x/0", "0/4294967295", "4294967296/0", "01/0", "+1/0", "1e3/0", "0/%20"} {
		s.do("GET", "/v1/filesystem/"+ids+"/files/info", nil).wantError(t, 400, codeBody)
	}
	s.do("GET", "/v1/filesystem/0/0/ping", nil).wantError(t, 404, codeNotFound)
	s.do("GET", "/v1/filesystem/0/0", nil).wantError(t, 404, codeNotFound)
	s.do("PUT", "/v1/filesystem/0/0/files/info", nil).wantError(t, 405, codeMethod)
}

// TestIdentityOfAnother: root becomes a stranger, and the kernel refuses it what it refuses strangers. Without the privilege the
// routes refuse instead of using execd's own identity.
func TestIdentityOfAnother(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	open, closed := shared(t)
	her := as(stranger, 43210)
	if os.Geteuid() != 0 {
		s.do("GET", her+"/files/info"+q("path", open), nil).wantError(t, 501, codeNotSupported)
		return
	}
	s.do("GET", her+"/files/download"+q("path", open+"/private"), nil).wantError(t, 403, codeDenied)
	s.do("GET", her+"/files/info"+q("path", closed+"/secret"), nil).wantError(t, 403, codeDenied)
	s.do("GET", her+"/files/search"+q("path", closed), nil).wantError(t, 403, codeDenied)
	s.do("GET", her+"/directories/list"+q("path", closed), nil).wantError(t, 403, codeDenied)
	s.do("POST", her+"/files/mv", []obj{{"src": closed + "/secret", "dest": open + "/stolen"}}).wantError(t, 403, codeDenied)
	s.do("POST", her+"/files/permissions", obj{open + "/private": obj{"mode": 777}}).wantError(t, 403, codeDenied)
	s.do("POST", her+"/files/replace", obj{open + "/private": obj{"old": "x", "new": "y"}}).wantError(t, 403, codeDenied)
	s.do("DELETE", her+"/directories"+q("path", closed), nil).wantError(t, 403, codeDenied)
	s.uploadTo(her, meta(closed+"/new/file", ""), part{"file", "x", "x"}).wantError(t, 403, codeDenied)
	s.uploadTo(her, meta(open+"/mine", `,"owner":"root"`), part{"file", "x", "x"}).wantError(t, 403, codeDenied)
	if a := s.do("GET", her+"/files/download"+q("path", open+"/public"), nil); a.body != "for all" {
		t.Errorf("public file: %d %s", a.StatusCode, a.body)
	}
	s.uploadTo(her, meta(open+"/new/deep/file", `,"mode":600`), part{"file", "x", "hers"}).wantEmpty(t)
	s.do("POST", her+"/directories", obj{open + "/dir": obj{"mode": 750}}).wantEmpty(t)
	a := s.do("GET", "/files/info"+q("path", open+"/new/deep/file", "path", open+"/new", "path", open+"/dir"), nil)
	var infos map[string]files.Info
	if err := json.Unmarshal([]byte(a.body), &infos); err != nil || len(infos) != 3 {
		t.Fatalf("%v: %s", err, a.body)
	}
	for path, i := range infos {
		if i.Owner != strconv.Itoa(stranger) || i.Group != "43210" {
			t.Errorf("%s belongs to %s:%s", path, i.Owner, i.Group)
		}
	}
	// A file part that comes before its metadata is kept by the worker, in a place of its own.
	s.uploadTo(her, part{"file", "f", "early"}, meta(open+"/early", "")).wantEmpty(t)
	if a := s.do("GET", her+"/files/download"+q("path", open+"/early"), nil); a.body != "early" {
		t.Errorf("early: %d %s", a.StatusCode, a.body)
	}
}

// TestIdentityGroups: the groups that the image's group file lists for the account count, the ones of execd do not.
func TestIdentityGroups(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	open, _ := shared(t)
	path := filepath.Join(open, "of-a-group")
	if err := os.WriteFile(path, []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		s.do("GET", as(stranger, 0)+"/files/info"+q("path", path), nil).wantError(t, 501, codeNotSupported)
		return
	}
	s.do("GET", as(stranger, 43210)+"/files/download"+q("path", path), nil).wantError(t, 403, codeDenied)
	if a := s.do("GET", as(stranger, 0)+"/files/download"+q("path", path), nil); a.body != "x" {
		t.Errorf("with the file's group: %d %s", a.StatusCode, a.body)
	}
}

// TestIdentityClientLeaves: a cut upload leaves neither its temporary file nor its worker.
func TestIdentityClientLeaves(t *testing.T) {
	t.Parallel()
	s := start(t, setup{})
	open, _ := shared(t)
	if err := os.WriteFile(filepath.Join(open, "target"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	req, err := http.NewRequest("POST", s.url+as(os.Getuid(), os.Getgid())+"/files/upload", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	sent := make(chan error, 1)
	go func() {
		_, err := http.DefaultClient.Do(req)
		sent <- err
	}()
	head := "--b\r\nContent-Disposition: form-data; name=\"metadata\"; filename=\"m\"\r\n\r\n{\"path\":\"" + open + "/target\"}\r\n"
	_, err = io.WriteString(w, head+"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n"+strings.Repeat("x", 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	// The file may be one without a name: then only its worker knows it.
	temporary := func() (found []string) {
		found, _ = filepath.Glob(filepath.Join(open, ".opensandbox-*"))
		fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
		for _, fd := range fds {
			if link, err := os.Readlink(fd); err == nil && strings.HasPrefix(link, open+"/") {
				found = append(found, link)
			}
		}
		return found
	}
	eventually(t, "a temporary file is made", func() bool { return len(temporary()) > 0 })
	_ = w.CloseWithError(errors.New("cut"))
	if err := <-sent; err == nil {
		t.Error("the cut request succeeded")
	}
	eventually(t, "the temporary file is gone", func() bool { return len(temporary()) == 0 })
	if got, err := os.ReadFile(filepath.Join(open, "target")); err != nil || string(got) != "old" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestIdentityManyAtOnce: more requests than workers may run at the same time.
func TestIdentityManyAtOnce(t *testing.T) {
	s := start(t, setup{})
	me := as(os.Getuid(), os.Getgid())
	done := make(chan string, 100)
	for range cap(done) {
		go func() {
			res, err := http.Get(s.url + me + "/files/info")
			if err != nil {
				done <- err.Error()
				return
			}
			defer res.Body.Close()
			b, _ := io.ReadAll(res.Body)
			done <- string(b)
		}()
	}
	for range cap(done) {
		if got := <-done; got != "{}" {
			t.Errorf("got %s", got)
		}
	}
}
