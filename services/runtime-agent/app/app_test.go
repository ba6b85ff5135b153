package app_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
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
	"opensandbox/services/runtime-agent/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// flaky is a store that can be away.
type flaky struct {
	*memstore.Store
	mu   sync.Mutex
	gone bool
	// atCleaned happens just before something that was removed is told of.
	atCleaned func()
}

func (f *flaky) Cleaned(ctx context.Context, c sandbox.Cleaned) error {
	f.mu.Lock()
	happen := f.atCleaned
	f.atCleaned = nil
	f.mu.Unlock()
	if happen != nil {
		happen()
	}
	return f.Store.Cleaned(ctx, c)
}

func (f *flaky) away(gone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = gone
}

func (f *flaky) fail() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return fault.New(fault.Unavailable, "the store is away")
	}
	return nil
}

func (f *flaky) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	if err := f.fail(); err != nil {
		return sandbox.Record{}, err
	}
	return f.Store.Get(ctx, id)
}

func (f *flaky) Work(ctx context.Context, n string, max int) ([]sandbox.Task, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	return f.Store.Work(ctx, n, max)
}

func (f *flaky) Now(ctx context.Context) (time.Time, error) {
	if err := f.fail(); err != nil {
		return time.Time{}, err
	}
	return f.Store.Now(ctx)
}

func (f *flaky) RenewLease(ctx context.Context, n string, session uint64) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.Store.RenewLease(ctx, n, session)
}

func (f *flaky) Nodes(ctx context.Context) ([]node.Node, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	return f.Store.Nodes(ctx)
}

func (f *flaky) Unmirrored(ctx context.Context, n string, max int) ([]sandbox.Record, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	return f.Store.Unmirrored(ctx, n, max)
}

// lines keeps what is logged.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(b))
	return len(b), nil
}

func (l *lines) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

const lostAfter = 10 * time.Minute

func config(dir string) app.Config {
	return app.Config{Node: "n", StateDir: dir, PortMin: 40000, PortMax: 40050, RetainFailed: time.Hour, NodeLostAfter: lostAfter, Host: "10.0.0.1",
		Address: "10.0.0.1:8090", Labels: map[string]string{"zone": "a"}, MaxSandboxes: 7}
}

// token is that of every daemon.
var token = secrettest.New("the token of a daemon")

func deps(st app.Store, e executor.Executor) app.Deps {
	return app.Deps{Store: st, Executor: e, Token: func(sandbox.ID, uint64) string { return token }, Log: slog.New(slog.DiscardHandler), Clock: time.Now,
		Boot: func() (string, time.Duration) { return "this boot", time.Duration(time.Now().UnixNano()) }}
}

func start(t *testing.T, cfg app.Config, d app.Deps) *app.Agent {
	t.Helper()
	a, err := app.Start(t.Context(), cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// refused starts an agent that must not start, and must say these things.
func refused(t *testing.T, cfg app.Config, d app.Deps, says ...string) {
	t.Helper()
	a, err := app.Start(t.Context(), cfg, d)
	if err == nil {
		a.Close()
		t.Fatal("the agent started")
	}
	for _, want := range says {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func place(t *testing.T, st *memstore.Store, id sandbox.ID) {
	t.Helper()
	_, err := st.Insert(t.Context(), sandbox.New{ID: id, Spec: sandbox.Spec{Image: "image", Entrypoint: []string{"run"}}})
	if err == nil {
		_, err = st.Place(t.Context(), sandbox.PlaceRequest{ID: id, Ports: []int{44772}, Candidates: []sandbox.Candidate{{Node: "n", PortMin: 40000, PortMax: 40050}}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheNodeIsRegisteredWithItsFacts(t *testing.T) {
	t.Parallel()
	st, e := memstore.New(), fakeexec.New("e", time.Now)
	e.SetFacts(executor.Facts{Platform: "linux/arm64", Runtimes: []string{"runc", "runsc"}})
	start(t, config(t.TempDir()), deps(st, e))
	all, err := st.Nodes(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	n := all[0]
	if n.EngineID != "e" || n.Platform != "linux/arm64" || len(n.Runtimes) != 2 || n.Host != "10.0.0.1" || n.Address != "10.0.0.1:8090" || n.Labels["zone"] != "a" || n.MaxSandboxes != 7 {
		t.Errorf("%+v", n)
	}
}

func TestSecondAgentsAreRefused(t *testing.T) {
	t.Parallel()
	st, e := memstore.New(), fakeexec.New("e", time.Now)
	first := t.TempDir()
	start(t, config(first), deps(st, e))
	refused(t, config(first), deps(st, e), "in use by another agent")
	// Another machine has a state directory of its own: the lock says nothing there.
	refused(t, config(t.TempDir()), deps(st, e), `a live agent of node "n"`, "agent.node")
	refused(t, config(t.TempDir()), deps(st, fakeexec.New("f", time.Now)), `a live agent of node "n"`, "agent.node")
	other := config(t.TempDir())
	other.Node = "m"
	refused(t, other, deps(st, e), `driven by the agent of node "n"`, "DOCKER_HOST")
}

func TestARestartTakesOverAtOnce(t *testing.T) {
	t.Parallel()
	st, e, dir := memstore.New(), fakeexec.New("e", time.Now), t.TempDir()
	for range 3 { // each dies without giving its lease back
		a, err := app.Start(t.Context(), config(dir), deps(st, e))
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
	}
	// Somebody else has had the node since: what this directory remembers is old.
	if _, err := st.Register(t.Context(), node.Registration{Name: "n", EngineID: "e", TakeOver: true}); err != nil {
		t.Fatal(err)
	}
	refused(t, config(dir), deps(st, e), `a live agent of node "n"`)
	// The engine is another one: the lease is of somebody who drives the first.
	refused(t, config(dir), deps(st, fakeexec.New("f", time.Now)), `a live agent of node "n"`)
	// A store of this process alone has room for no other agent.
	alone := config(t.TempDir())
	alone.NodeLostAfter = 0
	start(t, alone, deps(st, e))
}

func TestANodeWithSandboxesKeepsItsEngine(t *testing.T) {
	t.Parallel()
	now := time.Now()
	st := memstore.New(memstore.WithClock(func() time.Time { return now }))
	a, err := app.Start(t.Context(), config(t.TempDir()), deps(st, fakeexec.New("e", time.Now)))
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	place(t, st, "a")
	now = now.Add(time.Hour)
	cfg, d := config(t.TempDir()), deps(st, fakeexec.New("f", time.Now))
	refused(t, cfg, d, "has 1 sandboxes on another container engine", "remove --yes n")
	if err := st.Remove(t.Context(), "n"); err != nil {
		t.Fatal(err)
	}
	start(t, cfg, d)
}
