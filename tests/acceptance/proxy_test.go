//go:build e2e

package acceptance

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
)

// through returns the URL of a port through the server, as clients get it, and the headers to send.
func (s *server) through(id string, port int) (string, []string) {
	s.t.Helper()
	a := s.do("GET", fmt.Sprintf("/v1/sandboxes/%s/endpoints/%d?use_server_proxy=true", id, port), nil)
	want := fmt.Sprintf("%s/v1/sandboxes/%s/proxy/%d", strings.TrimPrefix(s.base, "http://"), id, port)
	if a.status != http.StatusOK || a.json(s.t)["endpoint"] != want {
		s.t.Fatalf("endpoint through the server: %v, want %q", a, want)
	}
	var header []string
	if h, ok := a.json(s.t)["headers"].(m); ok {
		for k, v := range h {
			header = append(header, k, v.(string))
		}
	}
	return "http://" + want, header
}

// Commands, ranges, chunked uploads and bodies of DELETE go through the server as they go directly, and execd keeps its token rule.
func TestRow05ThroughTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	for range s.engines() {
		id := s.create(nil)
		url, header := s.through(id, 44772)
		if len(header) != 2 || header[0] != tokenHeader {
			t.Fatalf("headers %v", header)
		}
		if got := output(s.stream(url, header, m{"command": "echo through; cat /etc/hostname"}), "stdout"); !strings.Contains(got, "through") {
			t.Errorf("a command printed %q", got)
		}
		if a, err := request("POST", url+"/command", m{"command": "id"}); err != nil || a.status != http.StatusUnauthorized {
			t.Errorf("a command without the token: %v %v", a, err)
		}
		if a, err := request("GET", url+"/ping", nil); err != nil || a.status != http.StatusOK {
			t.Errorf("ping: %v %v", a, err)
		}
		content := bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
		uploadChunked(t, url, header, "/tmp/large", content)
		download := url + "/files/download?path=/tmp/large"
		if a, err := request("GET", download, nil, header...); err != nil || sha256.Sum256(a.body) != sha256.Sum256(content) {
			t.Errorf("download: %d bytes, %v", len(a.body), err)
		}
		if a, err := request("GET", download, nil, append(header, "Range", "bytes=16-19")...); err != nil || a.status != http.StatusPartialContent || string(a.body) != "0123" {
			t.Errorf("range: %v %v", a, err)
		}
		if a, err := request("DELETE", url+"/files?path=/tmp/large", "{}", header...); err != nil || a.status != http.StatusOK {
			t.Errorf("delete with a body: %v %v", a, err)
		}
	}
}

// uploadChunked sends a file in chunks of no announced length.
func uploadChunked(t *testing.T, url string, header []string, path string, content []byte) {
	t.Helper()
	r, w := io.Pipe()
	form := multipart.NewWriter(w)
	go func() {
		meta, err := form.CreateFormFile("metadata", "metadata")
		if err == nil {
			_, err = fmt.Fprintf(meta, `{"path":%q}`, path)
		}
		file, fileErr := form.CreateFormFile("file", "large")
		if err == nil && fileErr == nil {
			_, err = file.Write(content)
		}
		_ = form.Close()
		_ = w.CloseWithError(err)
	}()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url+"/files/upload", r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", form.FormDataContentType())
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		t.Fatalf("upload: %d %s", res.StatusCode, body)
	}
}

// A port that the node does not publish is reached at the container's own address, on another host through the agent there. Many requests
// at once, and nothing listens on another port.
func TestProxyReachesEveryPort(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	for range s.engines() {
		id := s.create(nil)
		s.shell(id, "mkdir -p /tmp/www && echo page > /tmp/www/index.html && busybox httpd -p 9123 -h /tmp/www")
		url, header := s.through(id, 9123)
		if len(header) != 0 {
			t.Errorf("headers of a port of an application: %v", header)
		}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if a, err := request("GET", url+"/index.html", nil); err != nil || a.status != http.StatusOK || string(a.body) != "page\n" {
					t.Errorf("%v %v", a, err)
				}
			})
		}
		all.Wait()
		closed, _ := s.through(id, 9124)
		if a, err := request("GET", closed, nil); err != nil || a.status != http.StatusBadGateway || a.json(t)["code"] != "BACKEND_CONNECTION_FAILED" {
			t.Errorf("a port that nothing listens on: %v %v", a, err)
		}
		c, _, err := websocket.Dial(t.Context(), closed, nil)
		if err != nil {
			t.Fatal(err)
		}
		// By way of the daemon, as to an engine elsewhere, it is the daemon that refuses.
		if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusInternalError && websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
			t.Errorf("a WebSocket to it: %v", err)
		}
		_ = c.CloseNow()
	}
}

func TestPublishedClientsThroughTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	python := needEnv(t, "OPENSANDBOX_TEST_VENV") + "/bin/python"
	for _, kind := range []string{"async", "sync"} {
		out, err := s.program(python, "clients/sdk.py", kind, image, "use_server_proxy")
		if err != nil || !strings.Contains(out, kind+" lifecycle ok") {
			t.Errorf("%v\n%s", err, out)
		}
	}
	module := needEnv(t, "OPENSANDBOX_TEST_NODE_MODULES") + "/@alibaba-group/opensandbox/dist/index.js"
	if out, err := s.program("node", "clients/sdk.mjs", module, image, "use_server_proxy"); err != nil || !strings.Contains(out, "js lifecycle ok") {
		t.Errorf("%v\n%s", err, out)
	}
}
