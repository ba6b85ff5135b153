package usecase_test

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
	"opensandbox/services/api/internal/usecase"
)

// world is a store with one node, and a waiter that lets the test act as the agent in place of waiting.
type world struct {
	t     *testing.T
	store *memstore.Store
	// port is the store as the use cases have it.
	port    *faulty
	uses    *usecase.UseCases
	session uint64
	// agent is called once for each wait.
	agent func(id sandbox.ID)
}

func newWorld(t *testing.T, change func(*usecase.Config)) *world {
	t.Helper()
	w := &world{t: t, store: memstore.New(), agent: func(sandbox.ID) {}}
	n, err := w.store.Register(t.Context(), registration("n"))
	if err != nil {
		t.Fatal(err)
	}
	w.session = n.Session
	w.port = newFaulty(w.store)
	cfg := usecase.Config{CreateWait: time.Second, ChangeWait: time.Second, AddressWait: time.Second, PublicHost: "host", MaxTimeout: time.Hour}
	if change != nil {
		change(&cfg)
	}
	w.uses = usecase.New(cfg, usecase.Deps{
		Store: w.port, Waiter: w, Log: slog.New(slog.DiscardHandler),
		Token: func(id sandbox.ID, epoch uint64) string { return tokens + string(id) },
	})
	return w
}

// tokens is the start of all tokens, which end with the ids of their sandboxes.
var tokens = secrettest.New("the token of a daemon")

func registration(name string) node.Registration {
	return node.Registration{Name: name, EngineID: "engine of " + name, PortMin: 40000, PortMax: 40100}
}

// Await lets the agent act once, then answers by the record.
func (w *world) Await(ctx context.Context, id sandbox.ID, _ time.Duration, done func(*sandbox.Record) bool) (sandbox.Record, bool, error) {
	w.agent(id)
	r, err := w.port.Get(ctx, id)
	return r, err == nil && done(&r), err
}

func (w *world) place(id sandbox.ID) {
	w.t.Helper()
	_, err := w.store.Place(w.t.Context(), sandbox.PlaceRequest{ID: id, Ports: []int{usecase.ExecdPort, usecase.AppPort},
		Candidates: []sandbox.Candidate{{Node: "n", PortMin: 40000, PortMax: 40100}}})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) report(id sandbox.ID, state sandbox.State, reason string) {
	w.t.Helper()
	r, err := w.store.Get(w.t.Context(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.store.Report(w.t.Context(), sandbox.Report{ID: id, Node: "n", Epoch: r.Placement.Epoch, Session: w.session, Generation: r.Intent.Generation,
		State: state, Reason: reason, Message: "text of " + reason, RetainFor: time.Hour,
		Addresses: sandbox.Addresses{ContainerIP: "172.17.0.2", Ports: r.Placement.Ports}})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) cleaned(id sandbox.ID) {
	w.t.Helper()
	if err := w.store.Cleaned(w.t.Context(), sandbox.Cleaned{ID: id, Node: "n", Epoch: 1, Session: w.session}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) running() usecase.Ref {
	w.t.Helper()
	w.agent = func(id sandbox.ID) { w.place(id); w.report(id, sandbox.StateRunning, sandbox.ReasonRunning) }
	v, err := w.uses.Create(w.t.Context(), create())
	if err != nil {
		w.t.Fatal(err)
	}
	if v.Status.State != sandbox.StateRunning || !v.Record.Intent.Accepted {
		w.t.Fatalf("created %s, accepted %v", v.Status.State, v.Record.Intent.Accepted)
	}
	return usecase.Ref{ID: v.Record.ID}
}

func create() usecase.CreateRequest {
	return usecase.CreateRequest{Spec: sandbox.Spec{Image: "i", Entrypoint: []string{"e"}, Timeout: time.Minute}}
}

func (w *world) want(what string, err error, kind fault.Kind, code string) {
	w.t.Helper()
	if !fault.Is(err, kind) || fault.CodeOf(err) != code {
		w.t.Errorf("%s: %v (kind %v, code %q); want kind %v, code %q", what, err, fault.KindOf(err), fault.CodeOf(err), kind, code)
	}
}

func TestCreateThatIsNotReadyInTimeIsPending(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	v, err := w.uses.Create(t.Context(), create())
	if err != nil || v.Status.State != sandbox.StatePending || !v.Record.Intent.Accepted {
		t.Errorf("Create = %+v, %v; want an accepted Pending", v.Status, err)
	}
}

func TestFailedCreateIsAnErrorAndForgotten(t *testing.T) {
	t.Parallel()
	for reason, want := range map[string]struct {
		kind fault.Kind
		code string
	}{
		sandbox.ReasonImageUnavailable:  {fault.Invalid, "DOCKER::SANDBOX_IMAGE_PULL_FAILED"},
		sandbox.ReasonEntrypointFailed:  {fault.Invalid, "DOCKER::INVALID_ENTRYPOINT"},
		sandbox.ReasonInvalidForRuntime: {fault.Invalid, "SANDBOX::INVALID_PARAMETER"},
		sandbox.ReasonEngineUnavailable: {fault.Unavailable, "DOCKER::ENGINE_UNAVAILABLE"},
		sandbox.ReasonNoCapacity:        {fault.Unavailable, "SANDBOX::NO_CAPACITY"},
		sandbox.ReasonPortsInUse:        {fault.Unavailable, "DOCKER::SANDBOX_START_FAILED"},
		sandbox.ReasonCreateError:       {fault.Internal, "DOCKER::SANDBOX_START_FAILED"},
	} {
		w := newWorld(t, nil)
		w.agent = func(id sandbox.ID) { w.place(id); w.report(id, sandbox.StateFailed, reason) }
		_, err := w.uses.Create(t.Context(), create())
		w.want(reason, err, want.kind, want.code)
		if later := fault.RetryAfterOf(err); (later > 0) != (want.kind == fault.Unavailable) {
			t.Errorf("%s: to be repeated after %v", reason, later)
		}
		id := sandbox.ID(fault.SubjectOf(err))
		r, getErr := w.store.Get(t.Context(), id)
		if getErr != nil || !r.Gone() || !r.NeedsWork() {
			t.Errorf("%s: record %+v, %v; want Gone and still to be cleaned by the agent", reason, r.Intent, getErr)
		}
		_, err = w.uses.Get(t.Context(), usecase.Ref{ID: id})
		w.want("get after "+reason, err, fault.NotFound, sandbox.CodeNotFound)
		w.cleaned(id)
		if r, _ = w.store.Get(t.Context(), id); !r.Ended() {
			t.Errorf("%s: not ended after the clean-up", reason)
		}
	}
}

func TestFailureAfterPendingIsVisible(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	v, err := w.uses.Create(t.Context(), create())
	if err != nil {
		t.Fatal(err)
	}
	w.place(v.Record.ID)
	w.report(v.Record.ID, sandbox.StateFailed, sandbox.ReasonImageUnavailable)
	got, err := w.uses.Get(t.Context(), usecase.Ref{ID: v.Record.ID})
	if err != nil || got.Status.State != sandbox.StateFailed || got.Status.Reason != sandbox.ReasonImageUnavailable {
		t.Errorf("Get = %+v, %v", got.Status, err)
	}
}

func TestCreateLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	req := create()
	req.Spec.Timeout = time.Hour + time.Second
	_, err := w.uses.Create(t.Context(), req)
	w.want("timeout over the maximum", err, fault.Invalid, sandbox.CodeInvalidParameter)
	req = create()
	req.Metadata = map[string]string{"bad key": "v"}
	_, err = w.uses.Create(t.Context(), req)
	w.want("bad metadata", err, fault.Invalid, sandbox.CodeInvalidLabel)
	if p, err := w.uses.List(t.Context(), usecase.ListRequest{Page: 1, PageSize: 10}); err != nil || p.Total != 0 {
		t.Errorf("refused creates left %d records (%v)", p.Total, err)
	}
}

func TestCreateOvertakenByDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.agent = func(id sandbox.ID) {
		w.place(id)
		if _, err := w.store.SetGone(t.Context(), id, sandbox.ReasonDeleted); err != nil {
			t.Error(err)
		}
	}
	_, err := w.uses.Create(t.Context(), create())
	w.want("create", err, fault.Conflict, sandbox.CodeStopping)
	if fault.SubjectOf(err) == "" {
		t.Error("the error does not carry the id")
	}
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ref := w.running()
	w.want("resume of a running one", w.uses.Resume(t.Context(), ref), fault.Conflict, sandbox.CodeNotPaused)
	w.agent = func(id sandbox.ID) { w.report(id, sandbox.StatePaused, sandbox.ReasonPaused) }
	if err := w.uses.Pause(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	w.want("pause of a paused one", w.uses.Pause(t.Context(), ref), fault.Conflict, sandbox.CodeNotRunning)
	w.agent = func(id sandbox.ID) { w.report(id, sandbox.StateRunning, sandbox.ReasonRunning) }
	if err := w.uses.Resume(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	w.want("pause of an unknown one", w.uses.Pause(t.Context(), usecase.Ref{ID: "x"}), fault.NotFound, sandbox.CodeNotFound)
	w.want("pause of another tenant's", w.uses.Pause(t.Context(), usecase.Ref{Tenant: "t", ID: ref.ID}), fault.NotFound, sandbox.CodeNotFound)
}

func TestFailedPauseIsWithdrawn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		agent func(w *world, id sandbox.ID)
		kind  fault.Kind
		code  string
	}{
		"refused":     {func(w *world, id sandbox.ID) { w.report(id, sandbox.StateRunning, sandbox.ReasonPauseFailed) }, fault.Internal, "DOCKER::SANDBOX_PAUSE_FAILED"},
		"engine away": {func(w *world, id sandbox.ID) { w.report(id, sandbox.StateRunning, sandbox.ReasonEngineUnavailable) }, fault.Unavailable, "DOCKER::ENGINE_UNAVAILABLE"},
		"no answer":   {func(*world, sandbox.ID) {}, fault.Unavailable, "DOCKER::SANDBOX_PAUSE_FAILED"},
	} {
		w := newWorld(t, nil)
		ref := w.running()
		w.agent = func(id sandbox.ID) { c.agent(w, id) }
		w.want(name, w.uses.Pause(t.Context(), ref), c.kind, c.code)
		r, err := w.store.Get(t.Context(), ref.ID)
		if err != nil || r.Intent.Desired != sandbox.DesiredRunning || sandbox.StateOf(&r) != sandbox.StateRunning {
			t.Errorf("%s: desired %s, state %s, %v; want the intent withdrawn", name, r.Intent.Desired, sandbox.StateOf(&r), err)
		}
	}
}

func TestPauseOvertaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ref := w.running()
	w.agent = func(id sandbox.ID) { w.report(id, sandbox.StateTerminated, sandbox.ReasonExited) }
	w.want("entry point ended", w.uses.Pause(t.Context(), ref), fault.Conflict, sandbox.CodeNotRunning)
	ref = w.running()
	w.agent = func(id sandbox.ID) {
		if _, err := w.store.SetGone(t.Context(), id, sandbox.ReasonExpired); err != nil {
			t.Error(err)
		}
	}
	w.want("expired", w.uses.Pause(t.Context(), ref), fault.Conflict, sandbox.CodeStopping)
}

func TestDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ref := w.running()
	w.agent = func(sandbox.ID) {}
	w.want("slow delete", w.uses.Delete(t.Context(), ref), fault.Unavailable, "DOCKER::SANDBOX_DELETE_FAILED")
	if v, err := w.uses.Get(t.Context(), ref); err != nil || v.Status.State != sandbox.StateStopping {
		t.Errorf("Get = %+v, %v; want Stopping", v.Status, err)
	}
	_, err := w.uses.Renew(t.Context(), usecase.RenewRequest{Ref: ref, ExpiresAt: time.Now().Add(time.Hour)})
	w.want("renew while stopping", err, fault.Conflict, sandbox.CodeStopping)
	w.agent = w.cleaned
	if err := w.uses.Delete(t.Context(), ref); err != nil {
		t.Errorf("a second delete joins: %v", err)
	}
	w.want("delete of what is gone", w.uses.Delete(t.Context(), ref), fault.NotFound, sandbox.CodeNotFound)

	ref = w.running()
	w.agent = func(id sandbox.ID) { w.report(id, sandbox.StateRunning, sandbox.ReasonEngineUnavailable) }
	w.want("engine away", w.uses.Delete(t.Context(), ref), fault.Unavailable, "DOCKER::ENGINE_UNAVAILABLE")
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ref := w.running()
	r, err := w.store.Get(t.Context(), ref.ID)
	if err != nil {
		t.Fatal(err)
	}
	for port, want := range map[int]string{
		usecase.ExecdPort: "host:" + itoa(r.Placement.Ports[usecase.ExecdPort]) + "/proxy/44772",
		usecase.AppPort:   "host:" + itoa(r.Placement.Ports[usecase.AppPort]),
		18080:             "host:" + itoa(r.Placement.Ports[usecase.ExecdPort]) + "/proxy/18080",
	} {
		e, err := w.uses.Endpoint(t.Context(), usecase.EndpointRequest{Ref: ref, Port: port})
		if err != nil || e.Address != want {
			t.Errorf("port %d: %q, %v; want %q", port, e.Address, err, want)
		}
		if token := e.Headers[usecase.TokenHeader]; (port == usecase.ExecdPort) != (token == tokens+string(ref.ID)) {
			t.Errorf("port %d: headers %v; the token belongs to the daemon's port alone", port, e.Headers)
		}
	}
	for _, port := range []int{0, -1, 65536} {
		_, err := w.uses.Endpoint(t.Context(), usecase.EndpointRequest{Ref: ref, Port: port})
		w.want("bad port", err, fault.Invalid, "DOCKER::INVALID_PORT")
	}
	w.agent = func(sandbox.ID) {}
	v, err := w.uses.Create(t.Context(), create())
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.uses.Endpoint(t.Context(), usecase.EndpointRequest{Ref: usecase.Ref{ID: v.Record.ID}, Port: 8080})
	w.want("no address yet", err, fault.NotFound, "KUBERNETES::POD_IP_NOT_AVAILABLE")
}

func itoa(n int) string { return strconv.Itoa(n) }
