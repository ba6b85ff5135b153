//go:build e2e

package acceptance

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// asked is what a program in a sandbox tells that it was asked (clients/echo.py).
type asked struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Body   string `json:"body"`
	Length string `json:"Content-Length"`
	Coding string `json:"Transfer-Encoding"`
	Type   string `json:"Content-Type"`
	Range  string `json:"Range"`
}

// echo creates a sandbox with a program that tells what it is asked, and returns its URL through the server.
func (s *server) echo() string {
	s.t.Helper()
	program, err := os.ReadFile("clients/echo.py")
	if err != nil {
		s.t.Fatal(err)
	}
	id := s.create(m{"image": m{"uri": "opensandbox/debian-python:dev"}, "entrypoint": []string{"python3", "-c", string(program)}})
	at, _ := s.through(id, 8080)
	s.eventually("the program answers", func() bool {
		a, err := request("GET", at, nil)
		return err == nil && a.status == http.StatusOK
	})
	return at
}

// What a client sends comes to the program as it was sent: bodies of every method, with a length and in chunks, ranges, paths.
func TestRow05RequestsReachTheProgramIntact(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	at := s.echo()
	for _, c := range []struct {
		name, method, path string
		chunked            bool
		header             [2]string
		want               asked
	}{
		{"DELETE with a body", "DELETE", "/a", false, [2]string{"Content-Type", "application/json"}, asked{Body: `{"paths":["/x"]}`, Length: "16", Type: "application/json"}},
		{"DELETE in chunks", "DELETE", "/a", true, [2]string{}, asked{Body: strings.Repeat("delete ", 1000), Coding: "chunked"}},
		{"POST in chunks", "POST", "/b", true, [2]string{"Content-Type", "text/plain"}, asked{Body: strings.Repeat("0123456789", 100_000), Coding: "chunked", Type: "text/plain"}},
		{"PUT with a length", "PUT", "/c?d=e&f=%2F", false, [2]string{}, asked{Body: "put", Length: "3"}},
		{"PATCH with a length", "PATCH", "/c", false, [2]string{}, asked{Body: "patch", Length: "5"}},
		{"a range", "GET", "/d", false, [2]string{"Range", "bytes=5-"}, asked{Range: "bytes=5-"}},
		{"a path that looks untidy", "GET", "/v1/v1/x//y/", false, [2]string{}, asked{}},
	} {
		c.want.Method, c.want.Path = c.method, c.path
		var body io.Reader = strings.NewReader(c.want.Body)
		if c.chunked {
			body = io.MultiReader(body) // of no length that could be announced
		} else if c.want.Body == "" {
			body = nil
		}
		req, err := http.NewRequestWithContext(t.Context(), c.method, at+c.path, body)
		if err != nil {
			t.Fatal(err)
		}
		if c.header[0] != "" {
			req.Header.Set(c.header[0], c.header[1])
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var got asked
		err = json.NewDecoder(res.Body).Decode(&got)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || got != c.want {
			t.Errorf("%s: %d %v, the program was asked %s, want %s", c.name, res.StatusCode, err, shortened(got), shortened(c.want))
		}
	}
}

func shortened(a asked) string {
	a.Body = a.Body[:min(len(a.Body), 100)]
	b, _ := json.Marshal(a)
	return string(b)
}

// A stream is handed on as it comes: what is written first is read before the rest exists.
func TestRow05StreamsAreNotHeldBack(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	at := s.echo()
	s.streams("a program", at+"/stream", "GET", nil, nil, func() {
		if a, err := request("POST", at+"/release", nil); err != nil || a.status != http.StatusOK {
			t.Errorf("release: %v %v", a, err)
		}
	})
	url, header := s.through(s.create(nil), 44772)
	waiting := m{"command": "echo first; until [ -e /tmp/released ]; do sleep 0.1; done; echo second"}
	s.streams("the daemon", url+"/command", "POST", waiting, header, func() {
		s.stream(url, header, m{"command": "touch /tmp/released"})
	})
}

// streams reads a stream up to its first part, then has the second be written, and reads that.
func (s *server) streams(what, url, method string, body m, header []string, release func()) {
	s.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(string(text)))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	defer res.Body.Close()
	if kind := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "text/event-stream") {
		s.t.Errorf("%s: %d %s", what, res.StatusCode, kind)
	}
	lines := bufio.NewScanner(res.Body)
	until := func(part string) {
		for lines.Scan() {
			if strings.Contains(lines.Text(), part) {
				return
			}
		}
		s.t.Fatalf("%s: the stream ended before %q: %v", what, part, lines.Err())
	}
	until("first")
	release()
	until("second")
	for lines.Scan() { // up to the end
	}
	if err := lines.Err(); err != nil {
		s.t.Errorf("%s: the stream did not end in order: %v", what, err)
	}
}

// A part of a file comes through the server as it comes directly, the headers of the answer too.
func TestRow05RangesThroughTheServer(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	s.shell(id, "printf 0123456789 > /tmp/digits")
	direct, directHeader := s.endpoint(id, 44772)
	proxied, proxiedHeader := s.through(id, 44772)
	for asked, want := range map[string]struct {
		status     int
		body, part string
	}{
		"bytes=0-3":  {206, "0123", "bytes 0-3/10"},
		"bytes=4-":   {206, "456789", "bytes 4-9/10"},
		"bytes=-2":   {206, "89", "bytes 8-9/10"},
		"bytes=20-":  {416, "", "bytes */10"},
		"":           {200, "0123456789", ""},
		"bytes=9-99": {206, "9", "bytes 9-9/10"},
	} {
		for way, base := range map[string]string{"directly": direct, "through the server": proxied} {
			header := directHeader
			if base == proxied {
				header = proxiedHeader
			}
			a, err := request("GET", base+"/files/download?path=/tmp/digits", nil, append(header[:len(header):len(header)], "Range", asked)...)
			if err != nil || a.status != want.status || a.header.Get("Content-Range") != want.part || (want.status != 416 && string(a.body) != want.body) {
				t.Errorf("%q %s: %v %v, part %q", asked, way, a, err, a.header.Get("Content-Range"))
			}
		}
	}
}
