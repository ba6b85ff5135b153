package converge_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
	"opensandbox/services/runtime-agent/internal/converge"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id = sandbox.ID("s")

// rig is a node with one sandbox.
type rig struct {
	t      *testing.T
	now    time.Time
	store  *memstore.Store
	engine *fakeexec.Engine
	conv   *converge.Converger
}

func newRig(t *testing.T, entrypoint ...string) *rig {
	t.Helper()
	r := emptyRig(t)
	r.insert(id, entrypoint...)
	return r
}

func emptyRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return r.now }
	r.store, r.engine = memstore.New(memstore.WithClock(clock)), fakeexec.New("e", clock)
	r.restart()
	return r
}

// restart makes a new agent of the node, with a session of its own.
func (r *rig) restart() {
	r.t.Helper()
	n, err := r.store.Register(r.t.Context(), node.Registration{Name: "n", EngineID: "e", PortMin: 40000, PortMax: 40050, TakeOver: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.conv = r.converger(n.Session, r.engine)
}

// token is that of every daemon.
var token = secrettest.New("the token of a daemon")

func (r *rig) converger(session uint64, engine executor.Executor) *converge.Converger {
	return converge.New(converge.Config{
		Node: "n", Session: session, RetainFailed: time.Hour, ReadyTimeout: 10 * time.Second, PortMin: 40000, PortMax: 40050,
		Token: func(sandbox.ID, uint64) string { return token }, Log: slog.New(slog.DiscardHandler),
	}, converge.Deps{Store: r.store, Executor: engine})
}

func (r *rig) insert(id sandbox.ID, entrypoint ...string) {
	r.t.Helper()
	if len(entrypoint) == 0 {
		entrypoint = []string{"run"}
	}
	img := "image"
	if entrypoint[0] == "no image" {
		img = fakeexec.MissingImage
	}
	r.insertSpec(id, sandbox.Spec{Image: img, Entrypoint: entrypoint})
}

func (r *rig) insertSpec(id sandbox.ID, spec sandbox.Spec) {
	r.t.Helper()
	_, err := r.store.Insert(r.t.Context(), sandbox.New{ID: id, Spec: spec})
	if err == nil {
		_, err = r.store.Place(r.t.Context(), sandbox.PlaceRequest{ID: id, Ports: []int{44772, 8080}, Candidates: []sandbox.Candidate{{Node: "n", PortMin: 40000, PortMax: 40050}}})
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// settle steps until nothing is left to do and returns the record.
func (r *rig) settle() sandbox.Record {
	r.t.Helper()
	for range 10_000 {
		out, err := r.conv.Step(r.t.Context(), r.now, id)
		if err != nil {
			r.t.Fatal(err)
		}
		if out.Done {
			return r.record()
		}
		r.now = r.now.Add(max(out.Again, time.Microsecond))
	}
	r.t.Fatal("never done")
	return sandbox.Record{}
}

func (r *rig) record() sandbox.Record {
	r.t.Helper()
	rec, err := r.store.Get(r.t.Context(), id)
	if err != nil {
		r.t.Fatal(err)
	}
	return rec
}

func (r *rig) want(what string, state sandbox.State, reason string) sandbox.Record {
	r.t.Helper()
	rec := r.settle()
	if rec.Observed.State != state || rec.Observed.Reason != reason {
		r.t.Errorf("%s: %s/%s (%s), want %s/%s", what, rec.Observed.State, rec.Observed.Reason, rec.Observed.Message, state, reason)
	}
	return rec
}

func (r *rig) desire(d sandbox.Desired) {
	r.t.Helper()
	if _, err := r.store.SetDesired(r.t.Context(), id, d, r.record().Intent.Generation); err != nil {
		r.t.Fatal(err)
	}
}

func TestCreateRunPauseResumeDelete(t *testing.T) {
	t.Parallel()
	r := newRig(t, "slow", "3")
	rec := r.want("create", sandbox.StateRunning, sandbox.ReasonRunning)
	if rec.Observed.Addresses.Ports[44772] != rec.Placement.Ports[44772] {
		t.Errorf("addresses %v, leased %v", rec.Observed.Addresses, rec.Placement.Ports)
	}
	r.desire(sandbox.DesiredPaused)
	r.want("pause", sandbox.StatePaused, sandbox.ReasonPaused)
	r.desire(sandbox.DesiredRunning)
	r.want("resume", sandbox.StateRunning, sandbox.ReasonRunning)
	if _, err := r.store.SetGone(t.Context(), id, sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	if rec := r.settle(); !rec.Ended() || len(r.engine.Instances()) != 0 {
		t.Errorf("after the delete: ended %v, containers %v", rec.Ended(), r.engine.Instances())
	}
}

func TestFailedCreates(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		entrypoint []string
		breaks     func(*fakeexec.Engine)
		reason     string
		says       string
	}{
		"no image":          {[]string{"no image"}, nil, sandbox.ReasonImageUnavailable, "does not exist"},
		"no entry point":    {[]string{"missing"}, nil, sandbox.ReasonEntrypointFailed, "not found"},
		"ends at once":      {[]string{"exit", "3"}, nil, sandbox.ReasonEntrypointFailed, "exit code 3"},
		"never ready":       {[]string{"slow", "1000000"}, nil, sandbox.ReasonExecdNotAnswering, "10s"},
		"refused by engine": {[]string{"run"}, func(e *fakeexec.Engine) { e.FailNext(fakeexec.Create, fault.New(fault.Invalid, "too little memory")) }, sandbox.ReasonInvalidForRuntime, "too little memory"},
		"engine is away":    {[]string{"run"}, func(e *fakeexec.Engine) { e.FailNext(fakeexec.Create, fault.New(fault.Unavailable, "away")) }, sandbox.ReasonEngineUnavailable, "does not answer"},
		"engine has a bug":  {[]string{"run"}, func(e *fakeexec.Engine) { e.FailNext(fakeexec.Start, errors.New("secret detail")) }, sandbox.ReasonCreateError, "refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, c.entrypoint...)
			if c.breaks != nil {
				c.breaks(r.engine)
			}
			rec := r.want("create", sandbox.StateFailed, c.reason)
			if !strings.Contains(rec.Observed.Message, c.says) || strings.Contains(rec.Observed.Message, "secret detail") {
				t.Errorf("message %q", rec.Observed.Message)
			}
			if !rec.Placement.Released || len(r.engine.Instances()) != 0 {
				t.Errorf("released %v, containers %v; want nothing held", rec.Placement.Released, r.engine.Instances())
			}
		})
	}
}

func TestAnEntryPointThatEndsWellIsTerminated(t *testing.T) {
	t.Parallel()
	r := newRig(t, "exit", "0")
	rec := r.want("create", sandbox.StateTerminated, sandbox.ReasonExited)
	if !rec.Observed.Started || len(r.engine.Instances()) != 1 {
		t.Errorf("started %v, containers %d; the container stays", rec.Observed.Started, len(r.engine.Instances()))
	}
}

func TestWhatHappensByItself(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		happens func(*rig)
		state   sandbox.State
		reason  string
	}{
		"ends with 0":     {func(r *rig) { r.engine.Exit(id, 0) }, sandbox.StateTerminated, sandbox.ReasonExited},
		"ends with 1":     {func(r *rig) { r.engine.Exit(id, 1) }, sandbox.StateFailed, sandbox.ReasonExitedError},
		"removed by hand": {func(r *rig) { r.engine.RemoveByHand(id) }, sandbox.StateFailed, sandbox.ReasonContainerLost},
		"paused by hand":  {func(r *rig) { r.engine.PauseByHand(id) }, sandbox.StateRunning, sandbox.ReasonRunning},
		"engine restarts": {func(r *rig) { r.engine.Stop(); r.engine.Go() }, sandbox.StateFailed, sandbox.ReasonEngineRestarted},
		"engine was away": {func(r *rig) {
			from := r.now
			r.now = r.now.Add(time.Second)
			r.engine.Exit(id, 143)
			r.conv.EngineAway(from, r.now)
		}, sandbox.StateFailed, sandbox.ReasonEngineRestarted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.want("create", sandbox.StateRunning, sandbox.ReasonRunning)
			c.happens(r)
			r.want(name, c.state, c.reason)
			if n := r.starts(); n != 1 {
				t.Errorf("started %d times", n)
			}
		})
	}
}

func (r *rig) starts() int {
	n := 0
	for _, e := range r.engine.History() {
		if e.What == fakeexec.WasStarted {
			n++
		}
	}
	return n
}

func TestAFailedPauseIsFinal(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.want("create", sandbox.StateRunning, sandbox.ReasonRunning)
	r.engine.FailNext(fakeexec.Pause, errors.New("no"))
	r.desire(sandbox.DesiredPaused)
	rec := r.want("pause", sandbox.StateRunning, sandbox.ReasonPauseFailed)
	if !rec.Finished() || !rec.Withdrawable() {
		t.Errorf("finished %v, withdrawable %v", rec.Finished(), rec.Withdrawable())
	}
	r.want("another look", sandbox.StateRunning, sandbox.ReasonPauseFailed)
}

func TestAnotherAgentGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, "slow", "5")
	for range 2 { // far enough to have started it
		if _, err := r.conv.Step(t.Context(), r.now, id); err != nil {
			t.Fatal(err)
		}
	}
	old := r.conv
	r.restart()
	r.want("create by the next agent", sandbox.StateRunning, sandbox.ReasonRunning)
	if r.starts() != 1 {
		t.Errorf("started %d times", r.starts())
	}
	r.engine.Exit(id, 1)
	if out, err := old.Step(t.Context(), r.now, id); err != nil || out.Done {
		t.Errorf("the old agent: %+v, %v; its report must be refused", out, err)
	}
	if rec := r.record(); rec.Observed.State != sandbox.StateRunning {
		t.Errorf("the old agent's report was taken: %s", rec.Observed.State)
	}
}

func TestTheNextAgentDeliversTheToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.engine.LoseToken()
	if _, err := r.conv.Step(t.Context(), r.now, id); err != nil { // starts it, and dies
		t.Fatal(err)
	}
	r.restart()
	r.want("create by the next agent", sandbox.StateRunning, sandbox.ReasonRunning)
	if r.starts() != 1 {
		t.Errorf("started %d times", r.starts())
	}
}

func TestDeleteWaitsForTheEngine(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.want("create", sandbox.StateRunning, sandbox.ReasonRunning)
	if _, err := r.store.SetGone(t.Context(), id, sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	r.engine.Stop()
	for range 3 {
		if out, err := r.conv.Step(t.Context(), r.now, id); err != nil || out.Done {
			t.Fatalf("step with the engine away: %+v, %v", out, err)
		}
	}
	if rec := r.record(); rec.Observed.Reason != sandbox.ReasonEngineUnavailable || rec.Ended() {
		t.Errorf("observed %s, ended %v", rec.Observed.Reason, rec.Ended())
	}
	r.engine.Go()
	if rec := r.settle(); !rec.Ended() {
		t.Error("not ended after the engine came back")
	}
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.want("create", sandbox.StateRunning, sandbox.ReasonRunning)
	r.now = r.now.Add(time.Minute)
	older, younger := r.now.Add(-time.Hour), r.now
	r.engine.Put(executor.Plan{Ref: executor.Ref{ID: "older", Epoch: 1}, CreatedAt: older}, executor.Running)
	r.engine.Put(executor.Plan{Ref: executor.Ref{ID: "younger", Epoch: 1}, CreatedAt: younger}, executor.Running)
	k := converge.NewComparer(r.conv)
	left := func() string {
		var names []string
		for _, in := range r.engine.Instances() {
			names = append(names, string(in.ID))
		}
		return strings.Join(names, " ")
	}
	_, again, err := k.Compare(t.Context(), r.now)
	if err != nil || !again.Equal(r.now.Add(converge.SecondLook)) {
		t.Errorf("first look: again at %v, %v", again, err)
	}
	if got := left(); got != "older s younger" {
		t.Errorf("after the first look: %s", got)
	}
	if _, _, err := k.Compare(t.Context(), r.now.Add(converge.SecondLook)); err != nil {
		t.Fatal(err)
	}
	if got := left(); got != "older s" {
		t.Errorf("after the second look: %s; only what is younger than the store goes", got)
	}
}

func TestCompareFindsDifferences(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.want("create", sandbox.StateRunning, sandbox.ReasonRunning)
	k := converge.NewComparer(r.conv)
	if ids, _, err := k.Compare(t.Context(), r.now); err != nil || len(ids) != 0 {
		t.Errorf("nothing differs: %v, %v", ids, err)
	}
	r.engine.Exit(id, 1)
	if ids, _, err := k.Compare(t.Context(), r.now); err != nil || len(ids) != 1 {
		t.Errorf("an exit nobody told of: %v, %v", ids, err)
	}
}
