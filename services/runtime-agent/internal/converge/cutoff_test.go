package converge_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/converge"
)

// lostAfter is when the scheduler of these tests gives a node up.
const lostAfter = 10 * time.Minute

// flaky is a store that can be away as a whole, or for writes only.
type flaky struct {
	*memstore.Store
	mu     sync.Mutex
	reads  bool
	writes bool
	// calls counts what was asked while it was away.
	calls int
}

func (f *flaky) away(reads, writes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads, f.writes = reads, writes
}

func (f *flaky) fail(write bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if (write && f.writes) || (!write && f.reads) {
		f.calls++
		return fault.New(fault.Unavailable, "the store is away")
	}
	return nil
}

func (f *flaky) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	if err := f.fail(false); err != nil {
		return sandbox.Record{}, err
	}
	return f.Store.Get(ctx, id)
}

func (f *flaky) OnNode(ctx context.Context, n string) ([]sandbox.Record, error) {
	if err := f.fail(false); err != nil {
		return nil, err
	}
	return f.Store.OnNode(ctx, n)
}

func (f *flaky) Now(ctx context.Context) (time.Time, error) {
	if err := f.fail(false); err != nil {
		return time.Time{}, err
	}
	return f.Store.Now(ctx)
}

func (f *flaky) Incarnation(ctx context.Context) (time.Time, error) {
	if err := f.fail(false); err != nil {
		return time.Time{}, err
	}
	return f.Store.Incarnation(ctx)
}

func (f *flaky) Report(ctx context.Context, r sandbox.Report) (sandbox.Record, error) {
	if err := f.fail(true); err != nil {
		return sandbox.Record{}, err
	}
	return f.Store.Report(ctx, r)
}

func (f *flaky) SwapPort(ctx context.Context, s sandbox.PortSwap) (sandbox.Record, error) {
	if err := f.fail(true); err != nil {
		return sandbox.Record{}, err
	}
	return f.Store.SwapPort(ctx, s)
}

func (f *flaky) Cleaned(ctx context.Context, c sandbox.Cleaned) error {
	if err := f.fail(true); err != nil {
		return err
	}
	return f.Store.Cleaned(ctx, c)
}

// cutRig is a node whose lease counts and whose store can be away.
type cutRig struct {
	*rig
	flaky *flaky
	lease *converge.Lease
	// session is the one of the agent.
	session uint64
}

func newCutRig(t *testing.T, entrypoint ...string) *cutRig {
	t.Helper()
	r := &cutRig{rig: &rig{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}}
	clock := func() time.Time { return r.now }
	r.store, r.engine = memstore.New(memstore.WithClock(clock)), fakeexec.New("e", clock)
	r.flaky = &flaky{Store: r.store}
	r.start()
	r.insert(id, entrypoint...)
	return r
}

// start makes a new agent of the node.
func (r *cutRig) start() {
	r.t.Helper()
	n, err := r.store.Register(r.t.Context(), node.Registration{Name: "n", EngineID: "e", PortMin: 40000, PortMax: 40050, TakeOver: true})
	if err != nil {
		r.t.Fatal(err)
	}
	r.session, r.lease = n.Session, converge.NewLease(lostAfter, r.now)
	r.conv = converge.New(converge.Config{
		Node: "n", Session: n.Session, RetainFailed: time.Hour, ReadyTimeout: 10 * time.Second, PortMin: 40000, PortMax: 40050, Lease: r.lease,
		Clock: func() time.Time { return r.now }, Token: func(sandbox.ID, uint64) string { return token }, Log: slog.New(slog.DiscardHandler),
	}, converge.Deps{Store: r.flaky, Executor: r.engine})
}

// renew does what the beat does.
func (r *cutRig) renew() {
	r.t.Helper()
	if err := r.store.RenewLease(r.t.Context(), "n", r.session); err != nil {
		r.t.Fatal(err)
	}
	r.lease.Renewed(r.now)
}

func (r *cutRig) leaseUntil() time.Time {
	r.t.Helper()
	all, err := r.store.Nodes(r.t.Context())
	if err != nil || len(all) != 1 {
		r.t.Fatal(all, err)
	}
	return all[0].LeaseUntil
}

func (r *cutRig) what() []fakeexec.What {
	var out []fakeexec.What
	for _, e := range r.engine.History() {
		out = append(out, e.What)
	}
	return out
}

func (r *cutRig) cutOff() {
	r.t.Helper()
	if err := r.conv.CutOff(r.t.Context(), r.now); err != nil {
		r.t.Fatal(err)
	}
}

func TestLease(t *testing.T) {
	t.Parallel()
	at := time.Unix(1000, 0)
	l := converge.NewLease(10*time.Minute, at)
	for after, want := range map[time.Duration]bool{0: false, 8*time.Minute - 1: false, 8 * time.Minute: true, time.Hour: true} {
		if _, over := l.CutOff(at.Add(after)); over != want {
			t.Errorf("after %v: cut off %v, want %v", after, over, want)
		}
	}
	l.Renewed(at.Add(time.Minute))
	l.Renewed(at.Add(time.Second)) // an answer that came late says nothing new
	if since, over := l.CutOff(at.Add(9*time.Minute - 1)); over || !since.Equal(at.Add(time.Minute)) {
		t.Errorf("cut off %v, since %v", over, since)
	}
	for _, never := range []*converge.Lease{nil, converge.NewLease(0, at)} {
		never.Renewed(at)
		if _, over := never.CutOff(at.Add(1000 * time.Hour)); over {
			t.Error("a lease without an end is over")
		}
	}
}

func TestANodeThatIsCutOffStopsItsSandboxes(t *testing.T) {
	t.Parallel()
	r := newCutRig(t)
	r.want("create", sandbox.StateRunning, sandbox.ReasonRunning)
	r.flaky.away(true, true)
	r.now = r.now.Add(lostAfter*4/5 - 2*time.Second)
	r.cutOff()
	if got := r.engine.Instances()[0].Phase; got != executor.Running {
		t.Fatalf("%s before the time has come", got)
	}
	r.now = r.now.Add(2 * time.Second)
	r.cutOff()
	if got := r.engine.Instances()[0].Phase; got != executor.Exited {
		t.Fatalf("%s when the time has come", got)
	}
	// The store comes back, and the lease with it; nobody has given the sandbox up.
	r.flaky.away(false, false)
	r.now = r.now.Add(time.Second)
	r.renew()
	rec := r.want("back", sandbox.StateFailed, sandbox.ReasonNodeCutOff)
	if rec.Observed.ExitCode == nil || *rec.Observed.ExitCode != 137 || !rec.Observed.Started || rec.FailedCreate() {
		t.Errorf("observed %+v", rec.Observed)
	}
	r.want("another look", sandbox.StateFailed, sandbox.ReasonNodeCutOff)
	if r.starts() != 1 || len(r.engine.Instances()) != 1 {
		t.Errorf("started %d times, containers %v; it is over, and its container stays", r.starts(), r.engine.Instances())
	}
}

func TestAStepOfAnAgentThatWasStoppedStopsFirst(t *testing.T) {
	t.Parallel()
	r := newCutRig(t)
	r.want("create", sandbox.StateRunning, sandbox.ReasonRunning)
	r.desire(sandbox.DesiredPaused)
	r.now = r.now.Add(lostAfter) // SIGSTOP, and SIGCONT: the store is there, and a step comes before the beat
	out, err := r.conv.Step(t.Context(), r.now, id)
	if err != nil || out.Done || out.Again <= 0 {
		t.Errorf("Step = %+v, %v; want a pause", out, err)
	}
	if got, want := r.what(), []fakeexec.What{fakeexec.WasCreated, fakeexec.WasStarted, fakeexec.WasKilled}; !slices.Equal(got, want) {
		t.Errorf("history %v, want %v", got, want)
	}
	if ids, _, err := converge.NewComparer(r.conv).Compare(t.Context(), r.now); err != nil || len(ids) != 0 {
		t.Errorf("a comparison while cut off: %v, %v", ids, err)
	}
	r.renew()
	r.want("back", sandbox.StateFailed, sandbox.ReasonNodeCutOff)
}

func TestACutOffNodeThatWasGivenUpRemovesWhatItHad(t *testing.T) {
	t.Parallel()
	r := newCutRig(t)
	r.want("create", sandbox.StateRunning, sandbox.ReasonRunning)
	r.now = r.now.Add(lostAfter)
	r.cutOff()
	if _, err := r.store.Lose(t.Context(), sandbox.Loss{ID: id, Node: "n", Epoch: 1, LeaseUntil: r.leaseUntil(), RetainFor: time.Hour}); err != nil {
		t.Fatal(err)
	}
	r.renew()
	if rec := r.settle(); rec.Observed.Reason != sandbox.ReasonNodeLost {
		t.Errorf("reason %s, want what the scheduler has said", rec.Observed.Reason)
	}
	if _, _, err := converge.NewComparer(r.conv).Compare(t.Context(), r.now); err != nil || len(r.engine.Instances()) != 0 {
		t.Errorf("left: %v, %v", r.engine.Instances(), err)
	}
}

func TestNothingIsStartedWhileCutOff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		// stop is the call of the engine during which the agent is stopped for long.
		stop   fakeexec.Method
		want   []fakeexec.What
		after  sandbox.State
		reason string
	}{
		"before the create": {fakeexec.EnsureImage, nil, sandbox.StateRunning, sandbox.ReasonRunning},
		"before the start":  {fakeexec.Create, []fakeexec.What{fakeexec.WasCreated}, sandbox.StateFailed, sandbox.ReasonNodeCutOff},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newCutRig(t)
			var once sync.Once
			engine := stopped{r.engine, c.stop, func() { once.Do(func() { r.now = r.now.Add(lostAfter) }) }}
			r.conv = converge.New(converge.Config{Node: "n", Session: r.session, RetainFailed: time.Hour, ReadyTimeout: 10 * time.Second, Lease: r.lease,
				Clock: func() time.Time { return r.now }, Token: func(sandbox.ID, uint64) string { return "" }, Log: slog.New(slog.DiscardHandler)},
				converge.Deps{Store: r.flaky, Executor: engine})
			if out, err := r.conv.Step(t.Context(), r.now, id); err != nil || out.Done {
				t.Fatalf("Step = %+v, %v", out, err)
			}
			r.cutOff()
			if got := r.what(); !slices.Equal(got, c.want) {
				t.Errorf("history %v, want %v", got, c.want)
			}
			r.renew()
			r.want("back", c.after, c.reason)
		})
	}
}

// stopped is an engine during one of whose calls this process is stopped.
type stopped struct {
	*fakeexec.Engine
	during fakeexec.Method
	stop   func()
}

func (s stopped) EnsureImage(ctx context.Context, img executor.Image, progress func(string)) error {
	if s.during == fakeexec.EnsureImage {
		s.stop()
	}
	return s.Engine.EnsureImage(ctx, img, progress)
}

func (s stopped) Create(ctx context.Context, p executor.Plan) error {
	err := s.Engine.Create(ctx, p)
	if s.during == fakeexec.Create {
		s.stop()
	}
	return err
}

func TestASandboxThatCouldNotBeStoppedGoesOn(t *testing.T) {
	t.Parallel()
	r := newCutRig(t)
	r.want("create", sandbox.StateRunning, sandbox.ReasonRunning)
	r.now = r.now.Add(lostAfter)
	r.engine.FailNext(fakeexec.Kill, fault.New(fault.Unavailable, "busy"))
	if err := r.conv.CutOff(t.Context(), r.now); !fault.Is(err, fault.Unavailable) {
		t.Errorf("CutOff = %v, want what the engine said", err)
	}
	r.renew()
	r.want("back", sandbox.StateRunning, sandbox.ReasonRunning)
}

func TestWhileTheStoreIsAwayEverythingGoesOn(t *testing.T) {
	t.Parallel()
	for name, writes := range map[string]bool{"away": false, "read only": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newCutRig(t)
			r.want("create", sandbox.StateRunning, sandbox.ReasonRunning)
			r.insert("going", "run")
			r.engine.Put(executor.Plan{Ref: executor.Ref{ID: "stranger", Epoch: 1}, CreatedAt: r.now.Add(time.Hour)}, executor.Running)
			before := len(r.engine.History())
			r.flaky.away(!writes, true)
			k := converge.NewComparer(r.conv)
			for range 100 {
				r.now = r.now.Add(time.Second)
				if _, err := r.conv.Step(t.Context(), r.now, id); err == nil && !writes {
					t.Fatal("a step without a store succeeded")
				}
				if !writes {
					if _, _, err := k.Compare(t.Context(), r.now); err == nil {
						t.Fatal("a comparison without a store succeeded")
					}
				}
			}
			if got := r.engine.History()[before:]; len(got) != 0 {
				t.Errorf("without a store: %v", got)
			}
			r.flaky.away(false, false)
			r.want("back", sandbox.StateRunning, sandbox.ReasonRunning)
		})
	}
}

// A store that takes no writes for a while must not look like a series of taken ports.
func TestATakenPortWhileTheStoreTakesNoWrites(t *testing.T) {
	t.Parallel()
	r := newCutRig(t)
	r.engine.ForeignPort(r.record().Placement.Ports[8080])
	r.flaky.away(false, true)
	for range 20 {
		if _, err := r.conv.Step(t.Context(), r.now, id); err == nil {
			continue
		}
		r.now = r.now.Add(time.Second)
	}
	r.flaky.away(false, false)
	r.want("back", sandbox.StateRunning, sandbox.ReasonRunning)
}
