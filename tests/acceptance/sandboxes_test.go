//go:build e2e

package acceptance

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"opensandbox/libs/secrettest"
)

// spec is the body of an ordinary create, with changes.
func spec(change m) m {
	b := m{"image": m{"uri": image}, "entrypoint": []string{"tail", "-f", "/dev/null"}, "timeout": 600, "resourceLimits": m{"cpu": "500m", "memory": "128Mi"}}
	for k, v := range change {
		b[k] = v
	}
	return b
}

// create makes a sandbox that must be Running.
func (s *server) create(change m) string {
	s.t.Helper()
	a := s.do("POST", "/v1/sandboxes", spec(change))
	if a.status != http.StatusAccepted {
		s.t.Fatalf("create: %v", a)
	}
	return a.json(s.t)["id"].(string)
}

func (s *server) state(id string) string {
	a := s.do("GET", "/v1/sandboxes/"+id, nil)
	if a.status != http.StatusOK {
		return fmt.Sprint(a.status)
	}
	return a.json(s.t)["status"].(m)["state"].(string)
}

// endpoint returns the URL of a port and the headers to send.
func (s *server) endpoint(id string, port int) (string, []string) {
	s.t.Helper()
	a := s.do("GET", fmt.Sprintf("/v1/sandboxes/%s/endpoints/%d", id, port), nil)
	if a.status != http.StatusOK {
		s.t.Fatalf("endpoint: %v", a)
	}
	e := a.json(s.t)
	var header []string
	if h, ok := e["headers"].(m); ok {
		for k, v := range h {
			header = append(header, k, v.(string))
			secrettest.Note("the token of a daemon", v.(string))
		}
	}
	return "http://" + e["endpoint"].(string), header
}

// shell runs a command in a sandbox and returns the events of its stream.
func (s *server) shell(id, command string) []m {
	s.t.Helper()
	url, header := s.endpoint(id, 44772)
	return s.stream(url, header, m{"command": command})
}

func (s *server) stream(url string, header []string, body m) []m {
	s.t.Helper()
	a, err := request("POST", url+"/command", body, header...)
	if err != nil || a.status != http.StatusOK {
		s.t.Fatalf("command: %v %v", a, err)
	}
	var events []m
	for frame := range strings.SplitSeq(string(a.body), "\n\n") {
		if frame == "" {
			continue
		}
		var e m
		if err := json.Unmarshal([]byte(frame), &e); err != nil {
			s.t.Fatalf("frame %q: %v", frame, err)
		}
		events = append(events, e)
	}
	return events
}

// output joins the texts of one kind of event.
func output(events []m, kind string) string {
	var b strings.Builder
	for _, e := range events {
		if e["type"] == kind {
			b.WriteString(e["text"].(string))
		}
	}
	return b.String()
}

// items returns what the list shows.
func (s *server) items(query string) []m {
	s.t.Helper()
	a := s.do("GET", "/v1/sandboxes?pageSize=200&"+query, nil)
	if a.status != http.StatusOK {
		s.t.Fatalf("list: %v", a)
	}
	var out []m
	for _, i := range a.json(s.t)["items"].([]any) {
		out = append(out, i.(m))
	}
	return out
}

// sweep deletes all sandboxes.
func (s *server) sweep() {
	for _, i := range s.items("") {
		s.eventuallyDeleted(i["id"].(string))
	}
}

func ids(items []m) []string {
	var out []string
	for _, i := range items {
		out = append(out, i["id"].(string))
	}
	return out
}
