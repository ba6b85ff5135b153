//go:build e2e

package acceptance

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"opensandbox/libs/agentrpc"
	"opensandbox/libs/sandbox"
	"opensandbox/tests/process"
)

// ends starts one more process that must end by itself, and returns what it said.
func (s *server) ends(p *program) string {
	s.t.Helper()
	p.run(s.t, s.dir, s.configFile())
	s.eventually(p.name+" gives up", func() bool { return !p.Runs() })
	if p.ExitCode() != 1 {
		s.t.Errorf("%s: exit code %d, want 1", p.name, p.ExitCode())
	}
	text, err := os.ReadFile(p.log(s.dir))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// TestSplitMisuse is about processes that are set up wrongly: they refuse to start and say why, and the others do not notice.
func TestSplitMisuse(t *testing.T) {
	s := startSplit(t, "")
	id := s.create(nil)
	state := func(name string) string { return "OPENSANDBOX_AGENT_STATE_DIR=" + filepath.Join(s.dir, name) }
	listen := fmt.Sprintf("OPENSANDBOX_AGENT_LISTEN=127.0.0.1:%d", process.FreePort(t))
	for _, c := range []struct {
		name, binary string
		env          []string
		want         string
	}{
		{"same-name", "agent", []string{"OPENSANDBOX_AGENT_NODE=node-0", state("same-name"), listen, "DOCKER_HOST=" + s.split.second}, "node-0"},
		{"same-engine", "agent", []string{"OPENSANDBOX_AGENT_NODE=other", state("same-engine"), listen}, "in use by another live agent"},
		{"same-state", "agent", []string{"OPENSANDBOX_AGENT_NODE=node-0", state("state-0"), listen}, "in use by another agent"},
		{"another-secret", "api", []string{"OPENSANDBOX_INTERNAL_SHARED_SECRET=" + strings.Repeat("x", 32), fmt.Sprintf("OPENSANDBOX_SERVER_PORT=%d", process.FreePort(t))}, "installation"},
		{"sqlite", "api", []string{"OPENSANDBOX_STORE_TYPE=sqlite"}, "redis"},
		{"no-secret", "agent", []string{"OPENSANDBOX_INTERNAL_SHARED_SECRET=short"}, "OPENSANDBOX_INTERNAL_SHARED_SECRET"},
	} {
		said := s.ends(&program{name: c.name, binary: service(t, c.binary), env: c.env})
		if !strings.Contains(said, c.want) || strings.Contains(said, s.split.Secret) {
			t.Errorf("%s says:\n%s\nwant something about %q and no secret", c.name, said, c.want)
		}
	}
	if got := s.state(id); got != "Running" {
		t.Errorf("the sandbox is %s", got)
	}
	s.forgedCalls(id)
}

// forgedCalls asks the agents' internal API without the secret, and with another one.
func (s *server) forgedCalls(id string) {
	s.t.Helper()
	store := s.openStore(s.t)
	r, err := store.Get(s.t.Context(), sandbox.ID(id))
	if err != nil {
		s.t.Fatal(err)
	}
	for secret, want := range map[string]bool{s.split.Secret: true, strings.Repeat("y", 32): false} {
		agents, err := agentrpc.NewClient(store, secret)
		if err != nil {
			s.t.Fatal(err)
		}
		_, err = agents.Inspect(s.t.Context(), agentrpc.Ref{Node: r.Placement.Node, ID: r.ID, Epoch: r.Placement.Epoch})
		agents.Close()
		if (err == nil) != want {
			s.t.Errorf("a call that is signed with a secret, the right one: %t: %v", want, err)
		}
	}
	for _, e := range s.named("agent-0").env {
		address, ok := strings.CutPrefix(e, "OPENSANDBOX_AGENT_LISTEN=")
		if !ok {
			continue
		}
		for _, header := range [][]string{nil, {"Authorization", "Bearer x"}, {"OPEN-SANDBOX-API-KEY", apiKey}} {
			a, err := request(http.MethodGet, "http://"+address+"/internal/v1/sandboxes/"+id+"/logs", nil, header...)
			if err != nil || a.status != http.StatusUnauthorized {
				s.t.Errorf("forged call with %v: %v %v", header, a, err)
			}
		}
	}
}
