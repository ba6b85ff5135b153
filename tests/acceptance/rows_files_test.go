//go:build e2e

package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func row25(d daemon, p place) {
	for _, chunked := range []bool{true, false} {
		dir := fmt.Sprintf("%s/up/%v/", p.dir, chunked)
		files := map[string]string{dir + "a": "alpha", dir + "b c": strings.Repeat("beta", 100_000), dir + "empty": "", dir + "ü\n": "\x00\xff"}
		if a := upload(d.t, d.url, d.header, chunked, files); a.status != 200 || a.header.Get("Content-Length") != "0" {
			d.t.Errorf("upload: %v", a)
		}
		for path, content := range files {
			if a := d.call("GET", "/files/download?path="+url.QueryEscape(path), nil); a.status != 200 || string(a.body) != content {
				d.t.Errorf("%s came back with %d bytes", path, len(a.body))
			}
			info, _ := d.call("GET", "/files/info?path="+url.QueryEscape(path), nil).json(d.t)[path].(m)
			if info["mode"] != 644.0 || info["owner"] != p.names() || info["size"] != float64(len(content)) {
				d.t.Errorf("%s: %v", path, info)
			}
		}
	}
	wantEnvelope(d.t, "no form", d.call("POST", "/files/upload", m{}), 400)
	unknownOwners(d, p)
}

// unknownOwners names owners that no image has. One without /etc/passwd and /etc/group says the same of them as the others.
func unknownOwners(d daemon, p place) {
	path := p.dir + "/own"
	upload(d.t, d.url, d.header, false, map[string]string{path: "x"})
	for want, asked := range map[string]m{"unknown user no-such-user": {"owner": "no-such-user"}, "unknown group no-such-group": {"group": "no-such-group"}} {
		a := d.call("POST", "/files/permissions", m{path: asked})
		wantEnvelope(d.t, want, a, 500)
		if said, _ := a.json(d.t)["message"].(string); !strings.HasSuffix(said, ": "+want) || a.json(d.t)["code"] != "RUNTIME_ERROR" {
			d.t.Errorf("%v: %v, want %q", asked, a, want)
		}
	}
}

func row26(d daemon, p place) {
	dir := p.dir + "/down"
	upload(d.t, d.url, d.header, false, map[string]string{dir + "/lines": "one\ntwo\nthree\n"})
	get := func(query string, more ...string) answer {
		d.header = append(slices.Clone(d.header), more...)
		defer func() { d.header = d.header[:len(d.header)-len(more)] }()
		return d.call("GET", query, nil)
	}
	download := "/files/download?path=" + dir + "/lines"
	if a := get(download); a.status != 200 || a.header.Get("Accept-Ranges") != "bytes" || a.header.Get("Content-Length") != "14" {
		d.t.Errorf("whole: %v %v", a, a.header)
	}
	for header, want := range map[string][2]string{"bytes=4-6": {"two", "bytes 4-6/14"}, "bytes=8-": {"three\n", "bytes 8-13/14"}, "bytes=-6": {"three\n", "bytes 8-13/14"}} {
		if a := get(download, "Range", header); a.status != 206 || string(a.body) != want[0] || a.header.Get("Content-Range") != want[1] {
			d.t.Errorf("%s: %v %v", header, a, a.header)
		}
	}
	wantEnvelope(d.t, "behind the end", get(download, "Range", "bytes=99-"), 416)
	for query, want := range map[string]string{"&offset=2&limit=1": "two", "&offset=2": "two\nthree", "&limit=1": "one", "&offset=9": ""} {
		if a := get(download + query); a.status != 200 || string(a.body) != want {
			d.t.Errorf("%s: %v, want %q", query, a, want)
		}
	}
	wantEnvelope(d.t, "a directory", get("/files/download?path="+dir), 500)
	wantEnvelope(d.t, "nothing there", get("/files/download?path="+dir+"/none"), 404)
	d.call("POST", "/directories", m{dir + "/empty": m{"mode": 755, "owner": nil, "group": nil}})
	for _, query := range []string{"/files/search?path=" + dir + "&pattern=nothing*", "/directories/list?path=" + dir + "/empty", "/directories/list?depth=0&path=" + dir} {
		if a := get(query); a.status != 200 || string(bytes.TrimSpace(a.body)) != "[]" {
			d.t.Errorf("%s: %v", query, a)
		}
	}
	var listed []m
	if a := get("/directories/list?path=" + dir); json.Unmarshal(a.body, &listed) != nil || len(listed) != 2 {
		d.t.Fatalf("list: %v", a)
	}
	file, _ := get("/files/info?path=" + dir + "/lines").json(d.t)[dir+"/lines"].(m)
	if file["mode"] != 644.0 || file["size"] != 14.0 {
		d.t.Errorf("info: %v", file)
	}
	for _, info := range append(listed, file) {
		for _, k := range []string{"path", "size", "modified_at", "created_at", "owner", "group", "mode", "type"} {
			if info[k] == nil {
				d.t.Errorf("info without %s: %v", k, info)
			}
		}
		if want := map[any]string{dir + "/lines": "file", dir + "/empty": "directory"}[info["path"]]; info["type"] != want {
			d.t.Errorf("info: %v, want a %s", info, want)
		}
	}
}

// Isolated sessions are not offered yet: the daemon says so, and everything that would need one is 503.
func row28(d daemon, _ place) {
	a := d.call("GET", "/v1/isolated/capabilities", nil)
	capabilities := a.json(d.t)
	if text, _ := capabilities["message"].(string); a.status != 200 || capabilities["available"] != false || text == "" || bytes.Contains(a.body, []byte("null")) {
		d.t.Errorf("capabilities: %v", a)
	}
	if a := d.call("GET", "/v1/isolated/sessions", nil); a.status != 200 || string(bytes.TrimSpace(a.body)) != `{"sessions":[]}` {
		d.t.Errorf("sessions: %v", a)
	}
	for _, route := range []string{
		"POST /session", "GET /session/none", "DELETE /session/none", "POST /session/none/run", "GET /session/none/runs/none", "GET /session/none/runs/none/logs",
		"GET /session/none/diff", "POST /session/none/commit", "GET /session/none/files/info", "POST /session/none/files/replace", "GET /session/none/directories/list",
	} {
		method, path, _ := strings.Cut(route, " ")
		a := d.call(method, "/v1/isolated"+path, nil)
		wantEnvelope(d.t, route, a, 503)
		if a.json(d.t)["code"] != "NOT_SUPPORTED" || a.header.Get("Retry-After") != "" {
			d.t.Errorf("%s: %v %v", route, a, a.header)
		}
	}
}

func row30(d daemon, p place) {
	if !p.shell {
		row30WithoutShell(d, p)
		return
	}
	session, _ := d.call("POST", "/session", nil).json(d.t)["session_id"].(string)
	if got := output(d.run(session, m{"command": `printf '%s' "$EXECD_ENVS"`}), "stdout"); got == "" {
		d.t.Error("a session does not see EXECD_ENVS")
	}
	set := `mkdir -p "$(dirname "$EXECD_ENVS")" && printf '%s\n' "$0" >> "$EXECD_ENVS"`
	for line, want := range map[string]string{
		`A='single $HOME'`: "single $HOME", `B="two\nlines \"q\""`: "two\nlines \"q\"", `C=plain`: "plain", "D='two\nlines'": "two\nlines", `E=""`: "",
	} {
		if events := d.command(m{"argv": []string{"sh", "-c", set, line}}); ending(events) != "execution_complete" {
			d.t.Fatalf("set %s: %v", line, events)
		}
		shows := `printf '%s' "$` + line[:1] + `"`
		if got := output(d.command(m{"command": shows}), "stdout"); got != want {
			d.t.Errorf("%s in a command: %q, want %q", line, got, want)
		}
		if got := output(d.command(m{"command": shows, "envs": m{line[:1]: "of the request"}}), "stdout"); got != "of the request" {
			d.t.Errorf("%s with a variable of the request: %q", line, got)
		}
		session, _ := d.call("POST", "/session", m{}).json(d.t)["session_id"].(string)
		if got := output(d.run(session, m{"command": shows}), "stdout"); got != want {
			d.t.Errorf("%s in a session: %q, want %q", line, got, want)
		}
	}
}

// row30WithoutShell replaces the file: an image without a shell has nothing that could append to it. Both ways to the daemon share the file.
func row30WithoutShell(d daemon, p place) {
	told := output(d.command(m{"argv": []string{onlyProgram, "tell", "EXECD_ENVS"}}), "stdout")
	_, file, found := strings.Cut(strings.TrimSpace(told), "EXECD_ENVS=")
	if !found {
		d.t.Fatalf("a command does not see EXECD_ENVS: %q", told)
	}
	if a := upload(d.t, d.url, d.header, false, map[string]string{file: "A='single $HOME'\nB=\"q \\\"\"\n"}); a.status != 200 {
		d.t.Fatalf("upload of %s: %v", file, a)
	}
	events := d.command(m{"argv": []string{onlyProgram, "tell", "A", "B"}, "cwd": "/"})
	if got, want := output(events, "stdout"), p.tells("/")+"A=single $HOME\nB=q \"\n"; got != want {
		d.t.Errorf("%q, want %q", got, want)
	}
}

func row31(d daemon, _ place) {
	keys := []string{"cpu_count", "cpu_used_pct", "mem_total_mib", "mem_used_mib", "timestamp"}
	complete := func(sample m) {
		for _, k := range keys {
			if _, ok := sample[k].(float64); !ok {
				d.t.Errorf("no %s: %v", k, sample)
			}
		}
	}
	complete(d.call("GET", "/metrics", nil).json(d.t))
	ctx, leave := context.WithCancel(d.t.Context())
	defer leave()
	res := follow(ctx, d.t, "GET", d.url+"/metrics/watch", d.header, nil)
	defer res.Body.Close()
	if res.StatusCode != 200 || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		d.t.Fatalf("watch: %d %v", res.StatusCode, res.Header)
	}
	lines := bufio.NewScanner(res.Body)
	for seen := 0; seen < 2; {
		if !lines.Scan() {
			d.t.Fatalf("the watch ended: %v", lines.Err())
		}
		if lines.Text() == "" {
			continue
		}
		var sample m
		if err := json.Unmarshal(lines.Bytes(), &sample); err != nil {
			d.t.Fatalf("a sample: %q: %v", lines.Text(), err)
		}
		complete(sample)
		seen++
	}
}

func row32(d daemon, p place) {
	dir := p.dir + "/lengths"
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{"GET", "/ping", nil},
		{"POST", "/directories", m{dir: m{"mode": 755}, dir + "/d": m{"mode": 755, "owner": nil, "group": nil}}},
		{"POST", "/files/upload", nil},
		{"POST", "/files/permissions", m{dir + "/f": m{"mode": 600, "owner": nil, "group": nil}}},
		{"POST", "/files/replace", m{dir + "/f": m{"old": "a", "new": "b"}}},
		{"POST", "/files/replace?verbose=false", m{dir + "/f": m{"old": "b", "new": "c"}}},
		{"POST", "/files/mv", []m{{"src": dir + "/f", "dest": dir + "/g"}}},
		{"DELETE", "/files?path=" + dir + "/g", nil},
		{"DELETE", "/files?path=" + dir + "/none", nil},
		{"DELETE", "/directories?path=" + dir, nil},
		{"DELETE", "/directories?path=" + dir, nil},
	} {
		var a answer
		if c.path == "/files/upload" {
			a = upload(d.t, d.url, d.header, true, map[string]string{dir + "/f": "a"})
		} else {
			a = d.call(c.method, c.path, c.body)
		}
		if a.status != 200 || a.header.Get("Content-Length") != "0" || len(a.body) != 0 {
			d.t.Errorf("%s %s: %v %v", c.method, c.path, a, a.header)
		}
	}
}

// upload sends files as the published clients do: pairs of a metadata part and a file part.
func upload(t *testing.T, url string, header []string, chunked bool, files map[string]string) answer {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for path, content := range files {
		meta, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="metadata"; filename="metadata"`}, "Content-Type": {"application/json"}})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(meta, `{"path":%q,"owner":null,"group":null,"mode":644}`, path)
		file, err := w.CreateFormFile("file", "ignored")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(file, content)
	}
	_ = w.Close()
	var r io.Reader = &body
	if chunked {
		r = io.MultiReader(&body)
	}
	req, err := http.NewRequest("POST", url+"/files/upload", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", w.FormDataContentType())
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, b}
}
