package app_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"opensandbox/libs/agentrpc"
	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/fault"
	"opensandbox/libs/lifecycle"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/app"
)

// world is a whole agent in a bubble.
type world struct {
	t      *testing.T
	store  *flaky
	engine *fakeexec.Engine
	agent  *app.Agent
	log    *lines
	ended  chan error
	stop   context.CancelFunc
}

func newWorld(t *testing.T, dir string) *world {
	t.Helper()
	w := &world{t: t, store: &flaky{Store: memstore.New()}, engine: fakeexec.New("e", time.Now), log: &lines{}, ended: make(chan error, 1)}
	w.begin(dir)
	return w
}

// begin starts the agent.
func (w *world) begin(dir string) {
	w.t.Helper()
	d := deps(w.store, w.engine)
	d.Log, d.Registry = slog.New(slog.NewTextHandler(w.log, nil)), prometheus.NewRegistry()
	w.agent = start(w.t, config(dir), d)
	var ctx context.Context
	ctx, w.stop = context.WithCancel(w.t.Context())
	var g lifecycle.Group
	for _, p := range w.agent.Parts() {
		g.Add(p.Name, p.Run)
	}
	go func() { w.ended <- g.Run(ctx) }()
	synctest.Wait() // it listens to the engine from here on
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) want(id sandbox.ID, state sandbox.State, reason string) {
	w.t.Helper()
	r, err := w.store.Store.Get(w.t.Context(), id)
	if err != nil || r.Observed.State != state || r.Observed.Reason != reason {
		w.t.Errorf("%s is %s/%s (%s), %v; want %s/%s", id, r.Observed.State, r.Observed.Reason, r.Observed.Message, err, state, reason)
	}
}

func (w *world) running() int {
	n := 0
	for _, in := range w.engine.Instances() {
		if in.Phase == executor.Running {
			n++
		}
	}
	return n
}

func TestAnOutageOfTheStoreUpToTheCutOff(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		place(t, w.store.Store, "a")
		place(t, w.store.Store, "b")
		w.pass(2 * time.Second)
		w.want("a", sandbox.StateRunning, sandbox.ReasonRunning)
		if err := w.agent.Ready(); err != nil {
			t.Errorf("Ready = %v", err)
		}
		w.store.away(true)
		w.engine.Exit("b", 3) // its report has to wait
		logged := w.log.count()
		w.pass(lostAfter*4/5 - 10*time.Second)
		if w.running() != 1 {
			t.Errorf("%d run shortly before the cut-off, want 1", w.running())
		}
		if n := w.log.count() - logged; n > 8 {
			t.Errorf("%d lines in the log for one outage:\n%s", n, strings.Join(w.log.all[logged:], ""))
		}
		if err := w.agent.Ready(); err == nil {
			t.Error("ready without a store")
		}
		w.pass(15 * time.Second)
		if w.running() != 0 || len(w.engine.Instances()) != 2 {
			t.Errorf("after the cut-off: %v", w.engine.Instances())
		}
		w.store.away(false)
		w.pass(20 * time.Second)
		place(t, w.store.Store, "c")
		w.pass(2 * time.Second)
		w.want("a", sandbox.StateFailed, sandbox.ReasonNodeCutOff)
		w.want("b", sandbox.StateFailed, sandbox.ReasonExitedError)
		w.want("c", sandbox.StateRunning, sandbox.ReasonRunning)
		w.stop()
		if err := <-w.ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

// An agent that is started anew between the cut-off and the return of the store knows what its predecessor has stopped.
func TestTheNextAgentReportsWhatWasStopped(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		place(t, w.store.Store, "a")
		w.pass(2 * time.Second)
		w.store.away(true)
		w.pass(lostAfter)
		if w.running() != 0 {
			t.Errorf("after the cut-off: %v", w.engine.Instances())
		}
		w.stop()
		<-w.ended
		w.agent.Close()
		next := &world{t: t, store: w.store, engine: w.engine, log: &lines{}, ended: make(chan error, 1)}
		next.store.away(false)
		next.begin(dir)
		next.pass(2 * time.Second)
		next.want("a", sandbox.StateFailed, sandbox.ReasonNodeCutOff)
		if left, err := filepath.Glob(filepath.Join(dir, "stopped.json*")); err != nil || len(left) != 0 {
			t.Errorf("what was reported is still noted: %v, %v", left, err)
		}
		next.stop()
		<-next.ended
	})
}

func TestAnAgentWhoseNodeWasRemovedStopsItsSandboxes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		place(t, w.store.Store, "a")
		w.pass(2 * time.Second)
		if err := w.store.Remove(t.Context(), "n"); err != nil {
			t.Fatal(err)
		}
		w.pass(node.LeaseTime)
		if err := <-w.ended; err == nil || !strings.Contains(err.Error(), "was removed") {
			t.Errorf("Run = %v", err)
		}
		if w.running() != 0 || len(w.engine.Instances()) != 1 {
			t.Errorf("left: %v; want a stopped container", w.engine.Instances())
		}
		w.stop()
	})
}

func TestAnAgentThatWasReplacedLeavesTheSandboxes(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		place(t, w.store.Store, "a")
		w.pass(2 * time.Second)
		if _, err := w.store.Register(t.Context(), node.Registration{Name: "n", EngineID: "e", PortMin: 40000, PortMax: 40050, TakeOver: true}); err != nil {
			t.Fatal(err)
		}
		w.pass(node.LeaseTime)
		if err := <-w.ended; err == nil || !strings.Contains(err.Error(), "another agent") {
			t.Errorf("Run = %v", err)
		}
		if w.running() != 1 {
			t.Errorf("the sandbox of the next agent was stopped: %v", w.engine.Instances())
		}
		w.stop()
	})
}

func TestLive(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, dir)
		place(t, w.store.Store, "a")
		w.pass(2 * time.Second)
		w.engine.Exit("a", 3)
		w.pass(2 * time.Second)
		r, err := w.store.Get(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		live, ref := w.agent.Live(), agentrpc.RefOf(&r)
		in, err := live.Inspect(t.Context(), ref)
		if err != nil || in.Phase != executor.Exited || in.ExitCode == nil || *in.ExitCode != 3 || in.Image != "image" {
			t.Errorf("Inspect = %+v, %v", in, err)
		}
		events, err := live.Events(t.Context(), ref, 2)
		if err != nil || len(events) != 2 || events[0].Action != executor.ActionStarted || events[1].Action != executor.ActionEnded || *events[1].ExitCode != 3 {
			t.Errorf("Events = %+v, %v", events, err)
		}
		if lines, err := live.Logs(t.Context(), ref, 5); err != nil || len(lines) != 0 {
			t.Errorf("Logs = %q, %v", lines, err)
		}
		for what, wrong := range map[string]agentrpc.Ref{
			"another epoch": {Node: "n", ID: "a", Epoch: 2}, "another node": {Node: "m", ID: "a", Epoch: 1}, "another id": {Node: "n", ID: "b", Epoch: 1},
		} {
			if _, err := live.Inspect(t.Context(), wrong); !fault.Is(err, fault.NotFound) {
				t.Errorf("Inspect of %s: %v", what, err)
			}
			if lines, err := live.Logs(t.Context(), wrong, 5); !fault.Is(err, fault.NotFound) {
				t.Errorf("Logs of %s: %q, %v", what, lines, err)
			}
			if events, err := live.Events(t.Context(), wrong, 5); len(events) != 0 || (what == "another node") != fault.Is(err, fault.NotFound) {
				t.Errorf("Events of %s: %v, %v", what, events, err)
			}
		}
		w.stop()
		<-w.ended
	})
}
