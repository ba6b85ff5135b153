package converge_test

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/converge"
)

// witness notes everything that an Observer and a tracer are told.
type witness struct {
	mu   sync.Mutex
	told []string
}

func (w *witness) tell(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, s)
}

func (w *witness) Stage(stage string, took time.Duration) {
	w.tell("stage " + stage + " " + took.String())
}
func (w *witness) Begin(stage string) func() { return func() { w.tell("stage " + stage) } }
func (w *witness) Difference(kind string)    { w.tell("difference " + kind) }
func (w *witness) GarbageRemoved()           { w.tell("garbage") }
func (w *witness) Containers(count map[executor.Phase]int) {
	for _, p := range []executor.Phase{executor.Created, executor.Running, executor.Exited} {
		if count[p] > 0 {
			w.tell("containers " + string(p))
		}
	}
}

func (w *witness) work(ctx context.Context, parent, name string) (context.Context, func(error)) {
	return ctx, func(err error) {
		outcome := " ok"
		if err != nil {
			outcome = " failed"
		}
		w.tell(parent + ": " + name + outcome)
	}
}

func (w *witness) want(t *testing.T, what string, want ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.told, want) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(w.told, "\n"), strings.Join(want, "\n"))
	}
	w.told = nil
}

// belonging is a log that fails if a line about a sandbox is not written as a part of the request that the work is for.
type belonging struct {
	t     *testing.T
	want  sandbox.Origin
	lines []string
}

func (b *belonging) Enabled(context.Context, slog.Level) bool { return true }
func (b *belonging) WithAttrs([]slog.Attr) slog.Handler       { return b }
func (b *belonging) WithGroup(string) slog.Handler            { return b }
func (b *belonging) Handle(ctx context.Context, line slog.Record) error {
	b.lines = append(b.lines, line.Message)
	if got := sandbox.OriginOf(ctx); got != b.want {
		b.t.Errorf("the line %q belongs to %+v, want %+v", line.Message, got, b.want)
	}
	return nil
}

func TestLinesBelongToTheRequest(t *testing.T) {
	t.Parallel()
	r := emptyRig(t)
	n, err := r.store.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	log := &belonging{t: t, want: sandbox.Origin{Trace: "trace", Request: "create"}}
	r.conv = converge.New(converge.Config{Node: "n", Session: n[0].Session, RetainFailed: time.Hour, ReadyTimeout: 10 * time.Second,
		Token: func(sandbox.ID, uint64) string { return "" }, Log: slog.New(log)}, converge.Deps{Store: r.store, Executor: r.engine})
	step := func() converge.Outcome {
		t.Helper()
		out, err := r.conv.Step(t.Context(), r.now, id)
		if err != nil {
			t.Fatal(err)
		}
		if out.For != log.want {
			t.Errorf("the step worked for %+v, want %+v", out.For, log.want)
		}
		return out
	}
	steps := func() {
		t.Helper()
		for range 100 {
			if step().Done {
				return
			}
			r.now = r.now.Add(time.Second)
		}
		t.Error("the work has no end")
	}
	_, err = r.store.Insert(sandbox.WithOrigin(t.Context(), log.want), sandbox.New{ID: id, Spec: sandbox.Spec{Image: "image", Entrypoint: []string{"run"}}})
	if err == nil {
		_, err = r.store.Place(t.Context(), sandbox.PlaceRequest{ID: id, Ports: []int{44772}, Candidates: []sandbox.Candidate{{Node: "n", PortMin: 40000, PortMax: 40050}}})
	}
	if err != nil {
		t.Fatal(err)
	}
	steps()
	log.want.Request = "pause"
	if _, err := r.store.SetDesired(sandbox.WithOrigin(t.Context(), log.want), id, sandbox.DesiredPaused, 1); err != nil {
		t.Fatal(err)
	}
	r.engine.FailNext(fakeexec.Pause, fault.New(fault.Internal, "no"))
	steps()
	log.want.Request = "delete"
	if _, err := r.store.SetGone(sandbox.WithOrigin(t.Context(), log.want), id, sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	steps()
	if want := []string{"sandbox reported", "pause failed", "sandbox reported", "sandbox removed"}; !slices.Equal(log.lines, want) {
		t.Errorf("the log says %q, want %q", log.lines, want)
	}
}

func TestTheWorkIsObserved(t *testing.T) {
	t.Parallel()
	r, w := newRig(t), &witness{}
	n, err := r.store.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pulled := 0
	r.conv = converge.New(converge.Config{Node: "n", Session: n[0].Session, RetainFailed: time.Hour, ReadyTimeout: 10 * time.Second,
		Token: func(sandbox.ID, uint64) string { return "" }, Log: slog.New(slog.DiscardHandler)},
		converge.Deps{Store: r.store, Executor: r.engine, Observe: w, Work: w.work, Pulled: func() { pulled++ }})
	const traced, other = sandbox.ID("traced"), sandbox.ID("other")
	ctx := sandbox.WithOrigin(t.Context(), sandbox.Origin{Trace: "trace", Request: "request"})
	create := func(id sandbox.ID, image string, entrypoint ...string) {
		t.Helper()
		_, err := r.store.Insert(ctx, sandbox.New{ID: id, Spec: sandbox.Spec{Image: image, Entrypoint: entrypoint}})
		if err == nil {
			_, err = r.store.Place(ctx, sandbox.PlaceRequest{ID: id, Ports: []int{44772}, Candidates: []sandbox.Candidate{{Node: "n", PortMin: 40000, PortMax: 40050}}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	steps := func(id sandbox.ID) {
		t.Helper()
		for range 1000 {
			out, err := r.conv.Step(t.Context(), r.now, id)
			if err != nil {
				t.Fatal(err)
			}
			if out.Done {
				return
			}
			r.now = r.now.Add(max(out.Again, time.Microsecond))
		}
	}
	create(traced, fakeexec.RemoteImage, "slow", "2")
	r.now = r.now.Add(time.Second)
	steps(traced)
	w.want(t, "create", "stage queue 1s", "stage pull", "stage create", "stage start", "trace: agent make ok", "stage ready", "trace: agent ready ok",
		"trace: agent report ok", "stage report")
	if pulled != 1 {
		t.Errorf("told of %d pulls", pulled)
	}
	if _, err := r.store.SetDesired(ctx, traced, sandbox.DesiredPaused, 1); err != nil {
		t.Fatal(err)
	}
	steps(traced)
	w.want(t, "pause", "trace: agent pause ok", "trace: agent report ok")
	if _, err := r.store.SetGone(ctx, traced, sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	steps(traced)
	w.want(t, "delete", "trace: agent remove ok")

	create(other, "image", "run")
	r.engine.FailNext(fakeexec.Ready, fault.New(fault.Unavailable, "not yet"))
	if _, err := r.conv.Step(t.Context(), r.now, other); err != nil {
		t.Fatal(err)
	}
	r.engine.Exit(other, 3)
	steps(other)
	w.want(t, "failed create", "stage queue 0s", "stage pull", "stage create", "stage start", "trace: agent make ok", "trace: agent report ok", "trace: agent ready failed",
		"trace: agent remove ok")
	if pulled != 1 {
		t.Errorf("told of %d pulls", pulled)
	}

	r.engine.Put(executor.Plan{Ref: executor.Ref{ID: "stranger", Epoch: 1}, CreatedAt: r.now.Add(time.Second)}, executor.Running)
	k := converge.NewComparer(r.conv)
	for range 2 {
		if _, _, err := k.Compare(t.Context(), r.now); err != nil {
			t.Fatal(err)
		}
		r.now = r.now.Add(converge.SecondLook)
	}
	w.want(t, "comparison", "containers running", "difference stranger", "containers running", "garbage")
}
