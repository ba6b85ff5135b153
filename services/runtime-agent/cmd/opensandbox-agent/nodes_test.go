package main

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"opensandbox/libs/cli"
	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/settings"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a store with nodes.
type rig struct {
	t   *testing.T
	now time.Time
	st  *memstore.Store
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	r.st = memstore.New(memstore.WithClock(func() time.Time { return r.now }))
	return r
}

func (r *rig) register(n node.Registration) {
	r.t.Helper()
	n.PortMin, n.PortMax = 40000, 40100
	if _, err := r.st.Register(r.t.Context(), n); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) place(id sandbox.ID, name string, reserve sandbox.Resources) {
	r.t.Helper()
	_, err := r.st.Insert(r.t.Context(), sandbox.New{ID: id, Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"e"}}})
	if err == nil {
		_, err = r.st.Place(r.t.Context(), sandbox.PlaceRequest{ID: id, Reserve: reserve, Candidates: []sandbox.Candidate{{Node: name, PortMin: 40000, PortMax: 40100}}})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

type action func(context.Context, registry, settings.Settings, cli.Call) error

// do runs a command of the agent of node "a".
func (r *rig) do(what action, operand string, yes bool) (string, error) {
	r.t.Helper()
	var out strings.Builder
	err := what(r.t.Context(), r.st, settings.Settings{Agent: settings.Agent{Node: "a"}}, cli.Call{Operand: operand, Yes: yes, Stdout: &out})
	return out.String(), err
}

func (r *rig) node(name string) node.Node {
	r.t.Helper()
	n, err := find(r.t.Context(), r.st, name)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

func TestNodes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.register(node.Registration{Name: "gone", EngineID: "3"})
	r.register(node.Registration{Name: "far", EngineID: "4"})
	if err := r.st.SetDraining(t.Context(), "far", true); err != nil {
		t.Fatal(err)
	}
	if err := r.st.Remove(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(time.Minute)
	r.register(node.Registration{Name: "a", EngineID: "1", MaxSandboxes: 10, Capacity: sandbox.Resources{CPU: 4000, Memory: 8 << 30}, Platform: "linux/amd64",
		Runtimes: []string{"runc", "runsc"}, Host: "10.0.0.1", Labels: map[string]string{"zone": "x", "disk": "ssd"}})
	r.register(node.Registration{Name: "b", EngineID: "2"})
	if err := r.st.SetDraining(t.Context(), "b", true); err != nil {
		t.Fatal(err)
	}
	r.place("1", "a", sandbox.Resources{CPU: 500, Memory: 1 << 30})
	r.place("2", "a", sandbox.Resources{CPU: 1000, Memory: 512 << 20})
	got, err := r.do(list, "", false)
	if err != nil {
		t.Fatal(err)
	}
	want := `
NODE  STATE                 SANDBOXES  CPU    MEMORY       PLATFORM     RUNTIMES    HOST      LABELS
a     ready                 2/10       1.5/4  1.5Gi/8.0Gi  linux/amd64  runc,runsc  10.0.0.1  disk=ssd,zone=x
b     draining              0          0      0            -            -           -         -
far   unreachable,draining  0          0      0            -            -           -         -
gone  removed               0          0      0            -            -           -         -
`
	if diff := cmp.Diff(want[1:], got); diff != "" {
		t.Error(diff)
	}
}

func TestDrainAndUndrain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.register(node.Registration{Name: "a", EngineID: "1"})
	r.register(node.Registration{Name: "b", EngineID: "2"})
	r.place("1", "a", sandbox.Resources{})
	if out, err := r.do(drain(true), "", false); err != nil || !r.node("a").Draining || !strings.Contains(out, "node a gets no new sandboxes; it has 1") {
		t.Errorf("drain: %q, %v", out, err)
	}
	if out, err := r.do(drain(true), "b", false); err != nil || !r.node("b").Draining || !strings.Contains(out, "node b") {
		t.Errorf("drain b: %q, %v", out, err)
	}
	if out, err := r.do(drain(false), "a", false); err != nil || r.node("a").Draining || !strings.Contains(out, "node a gets new sandboxes again") {
		t.Errorf("undrain: %q, %v", out, err)
	}
	if _, err := r.do(drain(true), "c", false); !fault.Is(err, fault.NotFound) {
		t.Errorf("drain of an unknown node: %v", err)
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.register(node.Registration{Name: "a", EngineID: "1"})
	r.place("1", "a", sandbox.Resources{})
	if out, err := r.do(remove, "", false); err == nil || out != "" || !strings.Contains(err.Error(), "gives up the 1 sandboxes of node a") || !strings.Contains(err.Error(), "Its agent is alive") ||
		!strings.Contains(err.Error(), "--yes") || r.node("a").Removed {
		t.Errorf("remove without --yes: %q, %v, removed %v", out, err, r.node("a").Removed)
	}
	r.now = r.now.Add(time.Hour)
	if _, err := r.do(remove, "", false); err == nil || strings.Contains(err.Error(), "alive") {
		t.Errorf("remove of a node that is away: %v", err)
	}
	if out, err := r.do(remove, "a", true); err != nil || !r.node("a").Removed || !strings.Contains(out, "is removed") {
		t.Errorf("remove: %q, %v", out, err)
	}
	if _, err := r.do(remove, "c", true); err == nil || !strings.Contains(err.Error(), "not registered") {
		t.Errorf("remove of an unknown node: %v", err)
	}
}

func TestPublicHost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ configured, publish, engine, want string }{
		"configured":      {"sandboxes.example", "127.0.0.1", "10.9.9.9", "sandboxes.example"},
		"one address":     {"", "127.0.0.1", "10.9.9.9", "127.0.0.1"},
		"a remote engine": {"", "0.0.0.0", "10.9.9.9", "10.9.9.9"},
		"this machine":    {"", "0.0.0.0", "", outbound()},
	} {
		e := fakeexec.New("e", time.Now)
		e.SetFacts(executor.Facts{Host: c.engine})
		got, err := publicHost(t.Context(), settings.Settings{Agent: settings.Agent{Host: c.configured}, Docker: settings.Docker{PublishHost: c.publish}}, e)
		if err != nil || got != c.want || net.ParseIP(got) == nil && c.configured == "" {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestInternalAddress(t *testing.T) {
	t.Parallel()
	for listens, want := range map[string]string{
		"127.0.0.1:8090": "127.0.0.1:8090", "0.0.0.0:8090": "host.example:8090", "[::]:8090": "host.example:8090", "[fd00::1]:1": "[fd00::1]:1",
	} {
		a, err := net.ResolveTCPAddr("tcp", listens)
		if err != nil {
			t.Fatal(err)
		}
		if got := internalAddress(a, "host.example"); got != want {
			t.Errorf("%s: %s, want %s", listens, got, want)
		}
	}
}
