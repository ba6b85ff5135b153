//go:build e2e

package acceptance

import (
	"net/http"
	"strings"
	"testing"
)

// The scope decides on the form of an answer, whatever is accepted; inspect and summary have one form.
func TestRow15TheScopeChoosesTheForm(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	for _, c := range []struct {
		path string
		json bool
	}{
		{"logs", false}, {"logs?tail=5", false}, {"events", false}, {"events?limit=5", false},
		{"logs?scope=container", true}, {"logs?scope=all", true}, {"events?scope=runtime", true}, {"events?scope=all", true},
		{"inspect", false}, {"summary", false}, {"summary?tail=5&event_limit=2", false},
	} {
		for _, accepted := range []string{"*/*", "text/plain", "application/json", ""} {
			a := s.do("GET", "/v1/sandboxes/"+id+"/diagnostics/"+c.path, nil, "Accept", accepted)
			form := "text/plain"
			if c.json {
				form = "application/json"
			}
			if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), form) {
				t.Errorf("%s, accepting %q: %d %s, want %s", c.path, accepted, a.status, a.header.Get("Content-Type"), form)
			}
			if c.json && a.json(t)["sandboxId"] != id {
				t.Errorf("%s: %v", c.path, a)
			}
		}
	}
}

// The published command line has both forms, diagnostics and devops.
func TestRow15DiagnosticsOfTheCLI(t *testing.T) {
	t.Parallel()
	c := withProxiedCLI(t)
	id := c.create(m{"entrypoint": []string{"sh", "-c", "echo said-at-the-start; exec tail -f /dev/null"}})
	c.eventually("the logs have what the entry point wrote", func() bool {
		return strings.Contains(string(c.do("GET", "/v1/sandboxes/"+id+"/diagnostics/logs", nil).body), "said-at-the-start")
	})
	c.steps(id, []step{
		{"", []string{"diagnostics", "logs", id, "--scope", "container"}, "said-at-the-start"},
		{"", []string{"diagnostics", "logs", id, "--scope", "all", "-o", "json"}, "said-at-the-start"},
		{"", []string{"diagnostics", "events", id, "--scope", "runtime"}, ""},
		{"", []string{"diagnostics", "events", id, "--scope", "all", "-o", "json"}, `"inline"`},
		{"", []string{"devops", "logs", id, "-n", "10"}, "said-at-the-start"},
		{"", []string{"devops", "events", id, "-l", "10"}, ""},
		{"", []string{"devops", "inspect", id}, id},
		{"", []string{"devops", "summary", id, "-n", "10", "--event-limit", "5"}, "said-at-the-start"},
	})
	if out, _, err := c.try("devops", "logs", "none"); err == nil || !strings.Contains(out, "not found") {
		t.Errorf("the logs of no sandbox: %v\n%s", err, out)
	}
}

func TestRow15Diagnostics(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	const secret = "not-to-be-shown" // not a listed one: the record and the engine have it
	id := s.create(m{"entrypoint": []string{"sh", "-c", "echo said-at-the-start; exec tail -f /dev/null"}, "env": m{"SECRET": secret}})
	path := "/v1/sandboxes/" + id + "/diagnostics/"
	for _, kind := range []string{"logs", "events", "inspect", "summary"} {
		a := s.do("GET", path+kind, nil, "Accept", "text/plain")
		if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") || strings.Contains(string(a.body), secret) {
			t.Errorf("%s: %v %v", kind, a, a.header)
		}
		if deprecated := a.header.Get("Deprecation") == "true"; deprecated != (kind == "logs" || kind == "events") {
			t.Errorf("%s: deprecated %v", kind, deprecated)
		}
	}
	s.eventually("the logs have what the entry point wrote", func() bool {
		return strings.Contains(string(s.do("GET", path+"logs", nil).body), "said-at-the-start")
	})
	for kind, scope := range map[string]string{"logs": "container", "events": "runtime"} {
		a := s.do("GET", path+kind+"?scope="+scope, nil)
		if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") || a.json(t)["scope"] != scope {
			t.Errorf("%s with a scope: %v", kind, a)
		}
	}
}
