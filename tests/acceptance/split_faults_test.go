//go:build e2e

package acceptance

import (
	"maps"
	"net/http"
	"slices"
	"testing"
)

func TestSplitSpreadsOverEngines(t *testing.T) {
	s := startSplit(t, "")
	hosts := map[string]string{}
	for range 12 {
		id := s.create(nil)
		hosts[s.hostOf(id)] = id
		if len(hosts) == 2 {
			break
		}
	}
	if len(hosts) != 2 {
		t.Fatalf("12 sandboxes are on %v, want both engines", slices.Collect(maps.Keys(hosts)))
	}
	for host, id := range hosts {
		if out := output(s.shell(id, "echo direct"), "stdout"); out != "direct\n" {
			t.Errorf("command on %s: %q", host, out)
		}
		_, token := s.endpoint(id, 44772)
		if out := output(s.stream(s.split.router+"/"+id+"/44772", token, m{"command": "echo routed"}), "stdout"); out != "routed\n" {
			t.Errorf("command through the router on %s: %q", host, out)
		}
	}
}

func TestSplitStoreGoesAway(t *testing.T) {
	s := startSplit(t, "")
	id := s.create(nil)
	url, token := s.endpoint(id, 44772)
	routed := s.split.router + "/" + id + "/44772"
	if out := output(s.stream(routed, token, m{"command": "echo before"}), "stdout"); out != "before\n" {
		t.Fatalf("through the router: %q", out)
	}
	s.split.redis.Kill()
	s.eventually("the api says that the store is away", func() bool {
		a, err := s.try("GET", "/v1/sandboxes/"+id, nil)
		return err == nil && a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "" && a.json(t)["code"] != ""
	})
	if a := s.do("POST", "/v1/sandboxes", spec(nil)); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("create without a store: %v", a)
	}
	for what, at := range map[string]string{"directly": url, "through the router": routed} {
		if out := output(s.stream(at, token, m{"command": "echo during"}), "stdout"); out != "during\n" {
			t.Errorf("traffic while the store is away, %s: %q", what, out)
		}
	}
	s.split.redis.Start()
	s.eventually("the api answers again", func() bool { return s.state(id) == "Running" })
	var a answer
	s.eventually("creates succeed again", func() bool {
		a = s.do("POST", "/v1/sandboxes", spec(nil))
		return a.status == http.StatusAccepted
	})
	s.settled("after the store came back")
}
