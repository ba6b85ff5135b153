package usecase_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/memstore"
	"opensandbox/libs/sandbox"
	"opensandbox/services/api/internal/usecase"
)

func keyed(name, hash string) usecase.CreateRequest {
	req := create()
	req.Key = sandbox.Key{Name: name, Hash: hash}
	return req
}

// repeated checks that an outcome is that of the first create.
func (w *world) repeated(what string, req usecase.CreateRequest, id sandbox.ID, state sandbox.State) {
	w.t.Helper()
	v, err := w.uses.Create(w.t.Context(), req)
	if err != nil || !v.Replayed || v.Record.ID != id || v.Status.State != state || !v.Record.Intent.Accepted {
		w.t.Errorf("%s: %s %s, replayed %v, accepted %v, %v; want %s %s", what, v.Record.ID, v.Status.State, v.Replayed, v.Record.Intent.Accepted, err, id, state)
	}
}

// repeatedError checks that an error is told again.
func (w *world) repeatedError(what string, req usecase.CreateRequest, id sandbox.ID, kind fault.Kind, code string) {
	w.t.Helper()
	_, err := w.uses.Create(w.t.Context(), req)
	w.want(what, err, kind, code)
	if _, again := errors.AsType[usecase.Replayed](err); !again || fault.SubjectOf(err) != string(id) {
		w.t.Errorf("%s: %T about %q, want a repetition about %s", what, err, fault.SubjectOf(err), id)
	}
}

func TestRepetitionJoins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	v, err := w.uses.Create(t.Context(), keyed("k", "h"))
	if err != nil || v.Replayed || v.Status.State != sandbox.StatePending {
		t.Fatalf("first: %+v, replayed %v, %v", v.Status, v.Replayed, err)
	}
	id := v.Record.ID
	w.repeated("still creating", keyed("k", "h"), id, sandbox.StatePending)
	w.agent = func(id sandbox.ID) { w.place(id); w.report(id, sandbox.StateRunning, sandbox.ReasonRunning) }
	w.repeated("becomes Running while the repetition waits", keyed("k", "h"), id, sandbox.StateRunning)
	w.agent = func(sandbox.ID) { t.Error("a sandbox that is there was waited for") }
	w.repeated("done", keyed("k", "h"), id, sandbox.StateRunning)
	w.report(id, sandbox.StateTerminated, sandbox.ReasonExited)
	w.repeated("the present state", keyed("k", "h"), id, sandbox.StateTerminated)
	async := keyed("k", "h")
	async.Async = true
	w.repeated("without waiting", async, id, sandbox.StateTerminated)
	other := keyed("k", "h")
	other.Tenant = "t"
	w.agent = func(sandbox.ID) {}
	if v, err := w.uses.Create(t.Context(), other); err != nil || v.Replayed || v.Record.ID == id {
		t.Errorf("another tenant: %s, replayed %v, %v", v.Record.ID, v.Replayed, err)
	}
}

// An asynchronous repetition gives out the id of a create that the first caller still waits for.
func TestAsyncRepetitionAccepts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var id sandbox.ID
	w.agent = func(first sandbox.ID) {
		id = first
		w.agent = func(sandbox.ID) { t.Error("the repetition waited") }
		async := keyed("k", "h")
		async.Async = true
		w.repeated("async", async, first, sandbox.StatePending)
		w.place(first)
		w.report(first, sandbox.StateFailed, sandbox.ReasonImageUnavailable)
	}
	_, err := w.uses.Create(t.Context(), keyed("k", "h"))
	w.want("first", err, fault.Invalid, "DOCKER::SANDBOX_IMAGE_PULL_FAILED")
	if v, err := w.uses.Get(t.Context(), usecase.Ref{ID: id}); err != nil || v.Status.State != sandbox.StateFailed {
		t.Errorf("whoever was given the id sees %+v, %v; want Failed", v.Status, err)
	}
}

func TestRepetitionOfAFailure(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.agent = func(id sandbox.ID) { w.place(id); w.report(id, sandbox.StateFailed, sandbox.ReasonEntrypointFailed) }
	_, err := w.uses.Create(t.Context(), keyed("k", "h"))
	w.want("first", err, fault.Invalid, "DOCKER::INVALID_ENTRYPOINT")
	if _, again := errors.AsType[usecase.Replayed](err); again {
		t.Error("the first answer says that it is a repetition")
	}
	id := sandbox.ID(fault.SubjectOf(err))
	w.repeatedError("while it is being removed", keyed("k", "h"), id, fault.Invalid, "DOCKER::INVALID_ENTRYPOINT")
	w.cleaned(id)
	w.repeatedError("after it was removed", keyed("k", "h"), id, fault.Invalid, "DOCKER::INVALID_ENTRYPOINT")

	async := keyed("a", "h")
	async.Async = true
	v, err := w.uses.Create(t.Context(), async)
	if err != nil {
		t.Fatal(err)
	}
	w.place(v.Record.ID)
	w.report(v.Record.ID, sandbox.StateFailed, sandbox.ReasonImageUnavailable)
	w.repeatedError("of one whose id was given out", async, v.Record.ID, fault.Invalid, "DOCKER::SANDBOX_IMAGE_PULL_FAILED")
	if v, err := w.uses.Get(t.Context(), usecase.Ref{ID: v.Record.ID}); err != nil || v.Status.State != sandbox.StateFailed {
		t.Errorf("the repetition took a sandbox away that a client knows: %+v, %v", v.Status, err)
	}
}

func TestKeysThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	v, err := w.uses.Create(t.Context(), keyed("k", "h"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.uses.Create(t.Context(), keyed("k", "other"))
	w.want("another body", err, fault.Conflict, "IDEMPOTENCY_KEY_REUSED")
	if err := w.uses.Delete(t.Context(), usecase.Ref{ID: v.Record.ID}); err != nil {
		t.Fatal(err)
	}
	_, err = w.uses.Create(t.Context(), keyed("k", "h"))
	w.want("deleted", err, fault.Conflict, "IDEMPOTENCY_KEY_SPENT")
	v, err = w.uses.Create(t.Context(), keyed("e", "h"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.SetGone(t.Context(), v.Record.ID, sandbox.ReasonExpired); err != nil {
		t.Fatal(err)
	}
	_, err = w.uses.Create(t.Context(), keyed("e", "h"))
	w.want("expired", err, fault.Conflict, "IDEMPOTENCY_KEY_SPENT")
}

func TestFailuresThatPassHoldNoKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.agent = func(id sandbox.ID) {
		if _, err := w.store.FailUnplaced(t.Context(), id, sandbox.Failure{Reason: sandbox.ReasonNoCapacity, Message: "full", RetainFor: time.Hour}); err != nil {
			t.Error(err)
		}
	}
	_, err := w.uses.Create(t.Context(), keyed("k", "h"))
	w.want("no capacity", err, fault.Unavailable, "SANDBOX::NO_CAPACITY")
	full := sandbox.ID(fault.SubjectOf(err))
	w.agent = func(id sandbox.ID) { w.place(id); w.report(id, sandbox.StateFailed, sandbox.ReasonEngineUnavailable) }
	_, err = w.uses.Create(t.Context(), keyed("k", "h"))
	w.want("engine away", err, fault.Unavailable, "DOCKER::ENGINE_UNAVAILABLE")
	away := sandbox.ID(fault.SubjectOf(err))
	if away == full || fault.RetryAfterOf(err) == 0 {
		t.Errorf("the second create is %s again, or cannot be repeated: %v", away, err)
	}
	w.repeatedError("until it is removed", keyed("k", "h"), away, fault.Unavailable, "DOCKER::ENGINE_UNAVAILABLE")
	w.cleaned(away)
	w.agent = func(id sandbox.ID) { w.place(id); w.report(id, sandbox.StateRunning, sandbox.ReasonRunning) }
	if v, err := w.uses.Create(t.Context(), keyed("k", "h")); err != nil || v.Replayed || v.Record.ID == away {
		t.Errorf("after both: %+v, replayed %v, %v", v.Status, v.Replayed, err)
	}
}

func TestKeyOfACreateThatTheStoreDidNotConfirm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.port.goAway("Insert")
	_, err := w.uses.Create(t.Context(), keyed("k", "h"))
	w.want("store away", err, fault.Unavailable, "")
	w.port.comeBack()
	w.port.loseAnswers("Insert")
	_, err = w.uses.Create(t.Context(), keyed("k", "h"))
	w.want("unconfirmed", err, fault.Unavailable, "STORE::UNCONFIRMED")
	if fault.RetryAfterOf(err) == 0 || fault.SubjectOf(err) != "" {
		t.Errorf("unconfirmed: retry after %v, about %q; the key may lead to another id", fault.RetryAfterOf(err), fault.SubjectOf(err))
	}
	w.port.comeBack()
	page, err := w.uses.List(t.Context(), usecase.ListRequest{Page: 1, PageSize: 10})
	if err != nil || page.Total != 1 {
		t.Fatalf("%d sandboxes, %v; want the unconfirmed one", page.Total, err)
	}
	w.repeated("a retry joins", keyed("k", "h"), page.Items[0].Record.ID, sandbox.StatePending)
}

func TestConcurrentRepetitionsMakeOneSandbox(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	st := memstore.New()
	w.store = st
	uses := usecase.New(usecase.Config{CreateWait: 20 * time.Second}, usecase.Deps{
		Store: st, Waiter: usecase.HintedWaiter{Store: st, Hints: st}, Log: slog.New(slog.DiscardHandler),
	})
	placement, cancel := st.Subscribe(sandbox.TopicPlacement)
	defer cancel()
	const callers = 20
	ids, firsts := make([]sandbox.ID, callers), make([]bool, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			v, err := uses.Create(context.Background(), keyed("k", "h"))
			if err != nil || !v.Record.Intent.Accepted {
				t.Errorf("caller %d: %+v, %v", i, v.Status, err)
			}
			ids[i], firsts[i] = v.Record.ID, !v.Replayed
		})
	}
	<-placement
	unplaced, err := st.Unplaced(t.Context(), callers)
	if err != nil || len(unplaced) != 1 {
		t.Fatalf("%d records, %v", len(unplaced), err)
	}
	w.serve(unplaced[0].ID)
	wg.Wait()
	first := 0
	for i := range callers {
		if ids[i] != ids[0] {
			t.Errorf("caller %d got %s, another %s", i, ids[i], ids[0])
		}
		if firsts[i] {
			first++
		}
	}
	if p, err := st.List(t.Context(), sandbox.Query{Limit: callers}); err != nil || p.Total != 1 || first != 1 {
		t.Errorf("%d sandboxes, %d first creates, %v; want one of each", p.Total, first, err)
	}
}

// serve makes a sandbox Running on a node of its own.
func (w *world) serve(id sandbox.ID) {
	w.t.Helper()
	n, err := w.store.Register(w.t.Context(), registration("n"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.session = n.Session
	w.place(id)
	w.report(id, sandbox.StateRunning, sandbox.ReasonRunning)
}

func TestRuntimesMustBeAllowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *usecase.Config) { c.AllowedRuntimes = []string{"runsc", "kata"} })
	for i, runtime := range []string{"runsc", "kata", "", "runc"} {
		req := create()
		req.Metadata = map[string]string{"n": strconv.Itoa(i)}
		req.Spec.Needs.Runtime = runtime
		_, err := w.uses.Create(t.Context(), req)
		if runtime != "runc" {
			if err != nil {
				t.Errorf("%q: %v", runtime, err)
			}
			continue
		}
		if !fault.Is(err, fault.Forbidden) || len(fault.DetailsOf(err)) != 1 {
			t.Errorf("%q: %v, want forbidden with the key's name", runtime, err)
		}
	}
}
