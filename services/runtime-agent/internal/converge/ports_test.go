package converge_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/sandbox"
)

func TestATakenPortIsSwapped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	taken := r.record().Placement.Ports[8080]
	r.engine.ForeignPort(taken)
	rec := r.want("create", sandbox.StateRunning, sandbox.ReasonRunning)
	if rec.Placement.Ports[8080] == taken || rec.Observed.Addresses.Ports[8080] == taken {
		t.Errorf("still on the taken port: %v", rec.Observed.Addresses)
	}
}

// swapped steps until another port is leased.
func (r *rig) swapped(port int) {
	r.t.Helper()
	r.engine.ForeignPort(r.record().Placement.Ports[port])
	for before := r.record().Placement.Ports[port]; r.record().Placement.Ports[port] == before; {
		if out, err := r.conv.Step(r.t.Context(), r.now, id); err != nil || out.Done {
			r.t.Fatalf("Step = %+v, %v", out, err)
		}
	}
}

func TestTheNextAgentMakesAContainerAnewForItsPort(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.swapped(8080)
	if got := r.engine.Ports(id); len(got) == 0 || got[8080] == r.record().Placement.Ports[8080] {
		t.Fatalf("published %v: the container was made anew before the agent could die", got)
	}
	r.restart()
	rec := r.want("create by the next agent", sandbox.StateRunning, sandbox.ReasonRunning)
	if diff := cmp.Diff(rec.Placement.Ports, r.engine.Ports(id)); diff != "" || r.starts() != 1 {
		t.Errorf("started %d times; leased and published:\n%s", r.starts(), diff)
	}
}

func TestAPortThatIsNotLeasedIsNotServed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.swapped(8080)
	p := executor.Plan{Ref: executor.Ref{ID: id, Epoch: 1}, Ports: r.engine.Ports(id)}
	r.engine.Put(p, executor.Running) // an earlier agent, which was stopped meanwhile, has started it
	r.want("create", sandbox.StateFailed, sandbox.ReasonCreateError)
}

// TestASupersededAgentSwapsNoPort has an agent that is stopped when a port is taken, while another one makes the sandbox.
func TestASupersededAgentSwapsNoPort(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.engine.ForeignPort(r.record().Placement.Ports[8080])
	var once sync.Once
	r.conv = r.converger(1, startsLate{r.engine, func() {
		once.Do(func() {
			r.restart()
			r.want("create by the next agent", sandbox.StateRunning, sandbox.ReasonRunning)
		})
	}})
	old := r.conv
	for range 3 {
		if _, err := old.Step(t.Context(), r.now, id); err != nil {
			t.Fatal(err)
		}
	}
	r.want("afterwards", sandbox.StateRunning, sandbox.ReasonRunning)
	if len(r.engine.Instances()) != 1 || r.starts() != 1 {
		t.Errorf("started %d times, containers %v", r.starts(), r.engine.Instances())
	}
}

// startsLate is an engine whose answer to a start comes after something else has happened.
type startsLate struct {
	*fakeexec.Engine
	meanwhile func()
}

func (s startsLate) Start(ctx context.Context, p executor.Plan) error {
	err := s.Engine.Start(ctx, p)
	s.meanwhile()
	return err
}

func TestTooManyTakenPorts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for p := 40000; p <= 40050; p++ {
		r.engine.ForeignPort(p)
	}
	rec := r.want("create", sandbox.StateFailed, sandbox.ReasonPortsInUse)
	if want := "docker.port_range_min"; !strings.Contains(rec.Observed.Message, want) {
		t.Errorf("message %q does not name %s", rec.Observed.Message, want)
	}
}
