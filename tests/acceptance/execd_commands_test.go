//go:build e2e

package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A client that goes away ends its command and what the command started, also through the server; one that asked for it does not, nor does
// any in a sandbox that was made so.
func TestClientThatLeaves(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	ordinary, keeping := s.create(nil), s.create(m{"env": m{"EXECD_ON_DISCONNECT": "keep"}})
	for _, tt := range []struct {
		id      string
		through bool
		more    m
		ends    bool
	}{
		{ordinary, false, nil, true},
		{ordinary, true, nil, true},
		{ordinary, true, m{"on_disconnect": "keep"}, false},
		{keeping, false, nil, false},
		{keeping, false, m{"on_disconnect": "end"}, true},
	} {
		url, header := s.endpoint(tt.id, 44772)
		if tt.through {
			url, header = s.through(tt.id, 44772)
		}
		pids := s.abandon(url, header, tt.more)
		alive := func() int {
			return strings.Count(output(s.shell(tt.id, "for p in "+pids+"; do kill -0 $p 2>/dev/null && echo alive; done"), "stdout"), "alive")
		}
		if tt.ends {
			s.eventually("the command of a client that left has ended", func() bool { return alive() == 0 })
			continue
		}
		for range 50 { // Long enough for a SIGTERM that should not come; a slower one is missed, never reported wrongly.
			if alive() != 2 {
				t.Errorf("%+v: the command ended with its client", tt)
				break
			}
			waitABit()
		}
		s.shell(tt.id, "kill "+pids)
	}
}

// abandon starts a command, leaves when it says its process numbers, and returns them.
func (s *server) abandon(url string, header []string, more m) string {
	s.t.Helper()
	body := m{"command": "sleep 1000 & echo pids $$ $!; wait"}
	for k, v := range more {
		body[k] = v
	}
	ctx, leave := context.WithCancel(s.t.Context())
	defer leave()
	res := follow(ctx, s.t, "POST", url+"/command", header, body)
	defer res.Body.Close()
	for sc := bufio.NewScanner(res.Body); sc.Scan(); {
		var e struct{ Text string }
		if json.Unmarshal(sc.Bytes(), &e) == nil && strings.HasPrefix(e.Text, "pids ") {
			return strings.TrimSpace(strings.TrimPrefix(e.Text, "pids "))
		}
	}
	s.t.Fatal("the command did not say its process numbers")
	return ""
}

// follow sends a request, with a body unless that is nil, and returns its answer while that is still on its way. The end of ctx breaks the
// connection.
func follow(ctx context.Context, t *testing.T, method, url string, header []string, body m) *http.Response {
	t.Helper()
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return res
}
