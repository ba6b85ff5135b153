//go:build e2e

package acceptance

import (
	"net/http"
	"runtime"
	"strings"
	"testing"

	"opensandbox/tests/process"
)

// TestSplitCapacity asks for what no node has, and takes nodes out of use: the answer says what was short, and what runs goes on.
func TestSplitCapacity(t *testing.T) {
	s := newSplit(t, "")
	for _, p := range s.programs {
		switch {
		case strings.HasPrefix(p.name, "scheduler-"):
			p.env = nil // what does not fit is answered at once
		case strings.HasPrefix(p.name, "agent-"):
			p.env = append(p.env, "OPENSANDBOX_AGENT_MAX_SANDBOXES=2", "OPENSANDBOX_AGENT_CAPACITY_CPU=8", "OPENSANDBOX_AGENT_CAPACITY_MEMORY=8Gi")
		default:
			p.env = append(p.env, "OPENSANDBOX_DOCKER_ALLOWED_RUNTIMES=runc,unheard-of")
		}
	}
	s.run()
	s.cleanUp()
	s.eventually("both agents have joined", func() bool {
		out := s.agentCommand("nodes")
		return strings.Count(out, " ready ") == 2
	})
	foreign := "arm64"
	if runtime.GOARCH == foreign {
		foreign = "amd64"
	}
	s.wantNoCapacity("a platform that no node has", m{"platform": m{"os": "linux", "arch": foreign}}, "platform: linux/"+foreign+" wanted")
	s.wantNoCapacity("a runtime that no node has", m{"extensions": m{"node.runtime": "unheard-of"}}, "runtime: unheard-of wanted")
	s.wantNoCapacity("more than a node has", m{"resourceLimits": m{"cpu": "1", "memory": "128Mi"}, "resourceRequests": m{"cpu": "100", "memory": "128Mi"}}, "cpu")

	stays := s.create(nil)
	node, other := "node-0", "node-1"
	if s.hostOf(stays) == s.split.secondAddress {
		node, other = other, node
	}
	if out := s.agentCommand("drain", node); !strings.Contains(out, "gets no new sandboxes; it has 1") {
		t.Errorf("drain says %q", out)
	}
	// The other node takes all that it can, and the one that is drained none.
	at := map[string]bool{}
	for range 2 {
		at[s.hostOf(s.create(nil))] = true
	}
	if len(at) != 1 || at[s.hostOf(stays)] {
		t.Errorf("with %s drained, sandboxes are on %v; the one from before is on %s", node, at, s.hostOf(stays))
	}
	s.wantNoCapacity("a node full, the other one drained", nil, "node "+node+": draining", "node "+other)
	if out := output(s.shell(stays, "echo alive"), "stdout"); out != "alive\n" {
		t.Errorf("command on the drained node: %q", out)
	}
	_, token := s.endpoint(stays, 44772)
	if out := output(s.stream(s.split.router+"/"+stays+"/44772", token, m{"command": "echo routed"}), "stdout"); out != "routed\n" {
		t.Errorf("command on the drained node through the router: %q", out)
	}
	if out := s.agentCommand("undrain", node); !strings.Contains(out, "gets new sandboxes again") {
		t.Errorf("undrain says %q", out)
	}
	if host := s.hostOf(s.create(nil)); host != s.hostOf(stays) {
		t.Errorf("after undrain a sandbox is on %s, want %s", host, s.hostOf(stays))
	}
}

// wantNoCapacity checks that a create is answered with 503, when to come again, and what was short.
func (s *server) wantNoCapacity(what string, change m, texts ...string) {
	s.t.Helper()
	a := s.do("POST", "/v1/sandboxes", spec(change))
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || a.text("code") != "SANDBOX::NO_CAPACITY" {
		s.t.Errorf("%s: %v, Retry-After %q", what, a, a.header.Get("Retry-After"))
	}
	for _, text := range texts {
		if !strings.Contains(a.text("message"), text) {
			s.t.Errorf("%s: %v does not say %q", what, a, text)
		}
	}
}

// agentCommand runs a command of the agent's program, and returns what it prints.
func (s *server) agentCommand(args ...string) string {
	s.t.Helper()
	cmd := process.Command(nil, service(s.t, "agent"), append(args, "--config", s.configFile())...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("opensandbox-agent %v: %v\n%s", args, err, &said)
	}
	return string(out)
}
