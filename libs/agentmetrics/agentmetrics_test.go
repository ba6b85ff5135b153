package agentmetrics_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"opensandbox/libs/agentmetrics"
	"opensandbox/libs/executor"
	"opensandbox/libs/executor/executortest"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newMetrics(t *testing.T) (*agentmetrics.Metrics, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	m, err := agentmetrics.New(reg)
	if err != nil {
		t.Fatal(err)
	}
	return m, reg
}

func feed(m *agentmetrics.Metrics) {
	m.Stage(agentmetrics.StagePull, time.Second)
	m.Stage("an invented stage", -time.Second)
	m.Begin(agentmetrics.StageCreate)()
	over := m.Waiting(agentmetrics.TurnMake)
	m.Waiting(agentmetrics.TurnKill)()
	m.Containers(map[executor.Phase]int{executor.Running: 3, executor.Exited: 1})
	m.Containers(map[executor.Phase]int{executor.Running: 2, "invented": 9})
	m.GarbageRemoved()
	m.Difference(agentmetrics.DifferenceStranger)
	m.Difference("id-of-a-sandbox")
	m.Queue(4, time.Time{})
	_ = over // still waiting
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	m, reg := newMetrics(t)
	feed(m)
	want := `
# HELP opensandbox_agent_comparison_differences_total Differences between engine and store that comparisons found, by kind.
# TYPE opensandbox_agent_comparison_differences_total counter
opensandbox_agent_comparison_differences_total{kind="behind"} 0
opensandbox_agent_comparison_differences_total{kind="older"} 0
opensandbox_agent_comparison_differences_total{kind="other"} 1
opensandbox_agent_comparison_differences_total{kind="stranger"} 1
opensandbox_agent_comparison_differences_total{kind="superseded"} 0
opensandbox_agent_comparison_differences_total{kind="unread"} 0
# HELP opensandbox_agent_containers Containers of this agent at the last comparison, by phase.
# TYPE opensandbox_agent_containers gauge
opensandbox_agent_containers{phase="created"} 0
opensandbox_agent_containers{phase="exited"} 0
opensandbox_agent_containers{phase="paused"} 0
opensandbox_agent_containers{phase="removing"} 0
opensandbox_agent_containers{phase="running"} 2
# HELP opensandbox_agent_garbage_removed_total Containers that were removed because they had no record.
# TYPE opensandbox_agent_garbage_removed_total counter
opensandbox_agent_garbage_removed_total 1
# HELP opensandbox_agent_gate_waiting Engine calls that wait for their turn now, by turn.
# TYPE opensandbox_agent_gate_waiting gauge
opensandbox_agent_gate_waiting{turn="kill"} 0
opensandbox_agent_gate_waiting{turn="make"} 1
opensandbox_agent_gate_waiting{turn="other"} 0
opensandbox_agent_gate_waiting{turn="remove"} 0
# HELP opensandbox_agent_queue_depth Sandboxes of this node that need work, at the last look.
# TYPE opensandbox_agent_queue_depth gauge
opensandbox_agent_queue_depth 4
# HELP opensandbox_agent_queue_oldest_age_seconds Time for which some sandbox of this node has needed work; 0 when none does. Grows also while the agent hangs.
# TYPE opensandbox_agent_queue_oldest_age_seconds gauge
opensandbox_agent_queue_oldest_age_seconds 0
`
	names := []string{
		"opensandbox_agent_comparison_differences_total", "opensandbox_agent_containers", "opensandbox_agent_garbage_removed_total",
		"opensandbox_agent_gate_waiting", "opensandbox_agent_queue_depth", "opensandbox_agent_queue_oldest_age_seconds",
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}

func TestNilMeasuresNothing(t *testing.T) {
	t.Parallel()
	m, err := agentmetrics.New(nil)
	if m != nil || err != nil {
		t.Fatalf("New(nil) = %v, %v", m, err)
	}
	feed(m)
	next := fakeexec.New("fake", time.Now)
	if m.Engine(next, nil) != executor.Executor(next) {
		t.Error("nil measures an engine")
	}
}

// The measured engine passes the suite of the port, as the engine inside does.
func TestExecutor(t *testing.T) {
	t.Parallel()
	executortest.TestExecutor(t, func(t *testing.T) executortest.Harness {
		m, _ := newMetrics(t)
		e := fakeexec.New("fake", time.Now)
		var n atomic.Int64
		return executortest.Harness{
			Executor: m.Engine(e, nil), Image: "image", NoImage: fakeexec.MissingImage + "-image",
			Forever: []string{"run"}, Missing: []string{"missing"},
			Exit:         func(code int) []string { return []string{"exit", fmt.Sprint(code)} },
			Ports:        func() map[int]int { return map[int]int{44772: int(40000 + n.Add(1)), 8080: int(50000 + n.Add(1))} },
			TakePort:     func(_ *testing.T, port int) { e.ForeignPort(port) },
			HasVolume:    func(_ *testing.T, name string) bool { return slices.Contains(e.Volumes(), name) },
			MakeVolume:   func(_ *testing.T, name string) { e.PutVolume(name) },
			RemoveVolume: func(_ *testing.T, name string) { e.RemoveVolume(name) },
			LeaveVolume: func(t *testing.T, p executor.Plan) {
				e.FailNext(fakeexec.AfterVolumes, errors.New("the agent died"))
				if err := e.Create(t.Context(), p); err == nil {
					t.Fatal("the create did not fail")
				}
			},
			NewID: func() sandbox.ID { return sandbox.ID(fmt.Sprintf("id-%d", n.Add(1))) },
		}
	})
}

func TestEngineCallsAreCountedByOutcome(t *testing.T) {
	t.Parallel()
	m, reg := newMetrics(t)
	fake := fakeexec.New("fake", time.Now)
	e := m.Engine(fake, nil)
	if _, err := e.Inspect(t.Context(), "none"); !fault.Is(err, fault.NotFound) {
		t.Errorf("Inspect = %v", err)
	}
	if _, err := e.List(t.Context()); err != nil {
		t.Error(err)
	}
	fake.Stop()
	if _, err := e.List(t.Context()); err == nil {
		t.Error("an engine that is away answers")
	}
	got := map[string]bool{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "opensandbox_agent_engine_call_duration_seconds" {
			for _, x := range f.GetMetric() {
				got[x.GetLabel()[0].GetValue()+" "+x.GetLabel()[1].GetValue()] = true
			}
		}
	}
	if len(got) != 3 || !got["inspect notfound"] || !got["list ok"] || !got["list unavailable"] {
		t.Errorf("series: %v", got)
	}
}

// Parts of an engine, to be combined.
type (
	plain  struct{ executor.Executor }
	pauses struct{}
	logs   struct{}
	events struct{}
	facts  struct{}
)

func (pauses) Pause(context.Context, executor.Ref) error               { return errors.New("pause") }
func (pauses) Unpause(context.Context, executor.Ref) error             { return nil }
func (logs) Tail(context.Context, executor.Ref, int) ([]string, error) { return []string{"line"}, nil }
func (events) Watch(context.Context, func(), func(executor.Event)) error {
	return errors.New("watch")
}
func (facts) Describe(context.Context) (executor.Facts, error) {
	return executor.Facts{Platform: "plan9/386"}, nil
}

func TestAMeasuredEngineCanWhatTheEngineCan(t *testing.T) {
	t.Parallel()
	m, _ := newMetrics(t)
	for name, c := range map[string]struct {
		engine              executor.Executor
		pause, log, w, tell bool
	}{
		"nothing": {engine: plain{}},
		"pause": {engine: struct {
			plain
			pauses
		}{}, pause: true},
		"logs": {engine: struct {
			plain
			logs
		}{}, log: true},
		"watch and facts": {engine: struct {
			plain
			events
			facts
		}{}, w: true, tell: true},
		"all": {engine: struct {
			plain
			pauses
			logs
			events
			facts
		}{}, pause: true, log: true, w: true, tell: true},
	} {
		got := m.Engine(m.Engine(c.engine, nil), nil)
		p, canPause := executor.As[executor.Pauser](got)
		l, canLog := executor.As[executor.LogReader](got)
		w, canWatch := executor.As[executor.Watcher](got)
		d, canTell := executor.As[executor.Describer](got)
		if canPause != c.pause || canLog != c.log || canWatch != c.w || canTell != c.tell {
			t.Errorf("%s: pauses %v, reads logs %v, watches %v, tells facts %v", name, canPause, canLog, canWatch, canTell)
		}
		if canPause && (p.Pause(t.Context(), executor.Ref{}) == nil || p.Unpause(t.Context(), executor.Ref{}) != nil) {
			t.Errorf("%s: pause is not passed on", name)
		}
		if canLog {
			if lines, err := l.Tail(t.Context(), executor.Ref{}, 1); len(lines) != 1 || err != nil {
				t.Errorf("%s: Tail = %v, %v", name, lines, err)
			}
		}
		if canWatch && w.Watch(t.Context(), nil, nil) == nil {
			t.Errorf("%s: watch is not passed on", name)
		}
		if canTell {
			if f, err := d.Describe(t.Context()); f.Platform != "plan9/386" || err != nil {
				t.Errorf("%s: Describe = %+v, %v", name, f, err)
			}
		}
		if err := got.(executor.Pauser).Pause(t.Context(), executor.Ref{}); !c.pause && !fault.Is(err, fault.Unsupported) {
			t.Errorf("%s: Pause of an engine that cannot = %v", name, err)
		}
	}
}

func TestEngineCallsAreSpans(t *testing.T) {
	t.Parallel()
	var spans []string
	span := func(ctx context.Context, name string) (context.Context, func(error)) {
		return context.WithValue(ctx, spanKey{}, name), func(err error) { spans = append(spans, fmt.Sprintf("%s %v", name, err != nil)) }
	}
	fake := fakeexec.New("fake", time.Now)
	e := (*agentmetrics.Metrics)(nil).Engine(fake, span)
	p := executor.Plan{Ref: executor.Ref{ID: "a", Epoch: 1}}
	if err := e.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if err := e.Create(t.Context(), p); err == nil {
		t.Error("created twice")
	}
	_ = e.Ready(t.Context(), executor.Instance{Ref: p.Ref})
	if want := []string{"engine create false", "engine create true"}; !slices.Equal(spans, want) {
		t.Errorf("spans %q, want %q", spans, want)
	}
}

type spanKey struct{}

// gate lets calls in when the test says so.
type gate struct{ open chan struct{} }

func (g gate) Make(ctx context.Context) (func(), error) {
	select {
	case <-g.open:
		return func() {}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
func (g gate) Kill(ctx context.Context) (func(), error)   { return g.Make(ctx) }
func (g gate) Remove(ctx context.Context) (func(), error) { return g.Make(ctx) }

func TestGate(t *testing.T) {
	t.Parallel()
	m, reg := newMetrics(t)
	inside := gate{make(chan struct{})}
	g := m.Gate(inside)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Kill(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Kill = %v", err)
	}
	close(inside.open)
	for _, enter := range []func(context.Context) (func(), error){g.Make, g.Kill, g.Remove} {
		leave, err := enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leave()
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, x := range f.GetMetric() {
			switch f.GetName() {
			case "opensandbox_agent_gate_waiting":
				if x.GetGauge().GetValue() != 0 {
					t.Errorf("somebody still waits: %v", x)
				}
			case "opensandbox_agent_gate_wait_seconds":
				want := map[string]uint64{"make": 1, "kill": 2, "remove": 1}[x.GetLabel()[0].GetValue()]
				if x.GetHistogram().GetSampleCount() != want {
					t.Errorf("%v, want %d waits", x, want)
				}
			}
		}
	}
	if got := (*agentmetrics.Metrics)(nil).Gate(inside); got != agentmetrics.Gate(inside) {
		t.Error("nil measures a gate")
	}
}
