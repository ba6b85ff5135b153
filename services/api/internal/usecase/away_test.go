package usecase_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/services/api/internal/usecase"
)

// away checks the answer to a request that found the store away.
func (w *world) away(what string, err error, code string, id sandbox.ID) {
	w.t.Helper()
	w.want(what, err, fault.Unavailable, code)
	if fault.RetryAfterOf(err) <= 0 || sandbox.ID(fault.SubjectOf(err)) != id {
		w.t.Errorf("%s: retry after %v, about %q; want %q", what, fault.RetryAfterOf(err), fault.SubjectOf(err), id)
	}
}

func TestCreateWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	onlyID := func() sandbox.ID {
		t.Helper()
		p, err := w.store.List(t.Context(), sandbox.Query{Limit: 1})
		if err != nil || p.Total == 0 {
			t.Fatalf("%d sandboxes, %v", p.Total, err)
		}
		return p.Items[0].ID
	}
	w.port.goAway("Insert")
	_, err := w.uses.Create(t.Context(), create())
	w.want("before anything was written", err, fault.Unavailable, "")
	if _, getErr := w.store.Get(t.Context(), sandbox.ID(fault.SubjectOf(err))); !fault.Is(getErr, fault.NotFound) {
		t.Errorf("the record is there: %v", getErr)
	}
	w.port.comeBack()

	w.port.loseAnswers("Insert")
	_, err = w.uses.Create(t.Context(), create())
	w.away("written and not confirmed", err, "STORE::UNCONFIRMED", onlyID())
	w.port.comeBack()

	w.port.goAway("Get")
	_, err = w.uses.Create(t.Context(), create())
	w.away("while it is waited for", err, "", onlyID())
	w.port.comeBack()

	w.port.goAway("Accept")
	w.agent = func(id sandbox.ID) { w.place(id); w.report(id, sandbox.StateRunning, sandbox.ReasonRunning) }
	_, err = w.uses.Create(t.Context(), create())
	w.away("when its id is to be given out", err, "", onlyID())
	w.port.comeBack()

	// A failed create that cannot be withdrawn is answered all the same, and left to the scheduler.
	w.port.goAway("SetGone")
	w.agent = func(id sandbox.ID) { w.place(id); w.report(id, sandbox.StateFailed, sandbox.ReasonEntrypointFailed) }
	_, err = w.uses.Create(t.Context(), create())
	w.want("failed", err, fault.Invalid, "DOCKER::INVALID_ENTRYPOINT")
}

func TestChangesWhileTheStoreIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ref := w.running()
	w.agent = func(sandbox.ID) {}
	renew := usecase.RenewRequest{Ref: ref, ExpiresAt: time.Now().Add(time.Hour)}
	for what, do := range map[string]func(ctx context.Context) error{
		"get": func(ctx context.Context) error { _, err := w.uses.Get(ctx, ref); return err },
		"list": func(ctx context.Context) error {
			_, err := w.uses.List(ctx, usecase.ListRequest{Page: 1, PageSize: 1})
			return err
		},
		"delete": func(ctx context.Context) error { return w.uses.Delete(ctx, ref) },
		"pause":  func(ctx context.Context) error { return w.uses.Pause(ctx, ref) },
		"resume": func(ctx context.Context) error { return w.uses.Resume(ctx, ref) },
		"renew":  func(ctx context.Context) error { _, err := w.uses.Renew(ctx, renew); return err },
		"patch": func(ctx context.Context) error {
			_, err := w.uses.PatchMetadata(ctx, usecase.PatchRequest{Ref: ref})
			return err
		},
		"endpoint": func(ctx context.Context) error {
			_, err := w.uses.Endpoint(ctx, usecase.EndpointRequest{Ref: ref, Port: 8080})
			return err
		},
	} {
		w.port.goAway("Get", "List", "SetDesired", "SetGone", "Renew", "PatchMetadata")
		w.away(what, do(t.Context()), "", "")
		w.port.comeBack()
	}
	r, err := w.store.Get(t.Context(), ref.ID)
	if err != nil || r.Intent.Desired != sandbox.DesiredRunning {
		t.Fatalf("desired %s, %v", r.Intent.Desired, err)
	}

	w.port.goAway("SetDesired")
	w.away("pause that cannot be written", w.uses.Pause(t.Context(), ref), "", ref.ID)
	w.port.goAway("SetGone")
	w.away("delete that cannot be written", w.uses.Delete(t.Context(), ref), "", ref.ID)
	w.port.comeBack()
	w.port.loseAnswers("SetGone")
	w.away("delete that is not confirmed", w.uses.Delete(t.Context(), ref), "STORE::UNCONFIRMED", ref.ID)
}

func TestWaitsThatLoseTheStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ref := w.running()
	w.agent = func(sandbox.ID) { w.port.goAway("Get", "SetDesired") }
	w.away("pause", w.uses.Pause(t.Context(), ref), "", ref.ID)
	w.port.comeBack()
	if r, err := w.store.Get(t.Context(), ref.ID); err != nil || sandbox.StateOf(&r) != sandbox.StatePausing {
		t.Errorf("%s, %v; the pause that could not be withdrawn goes on", sandbox.StateOf(&r), err)
	}
	w.report(ref.ID, sandbox.StatePaused, sandbox.ReasonPaused)
	w.agent = func(sandbox.ID) { w.port.goAway("Get") }
	w.away("resume", w.uses.Resume(t.Context(), ref), "", ref.ID)
	w.port.comeBack()
	if r, err := w.store.Get(t.Context(), ref.ID); err != nil || r.Intent.Desired != sandbox.DesiredPaused {
		t.Errorf("desired %s, %v; a resume that can be withdrawn is", r.Intent.Desired, err)
	}
	w.agent = func(sandbox.ID) { w.port.goAway("Get") }
	w.away("delete", w.uses.Delete(t.Context(), ref), "", ref.ID)
	w.port.comeBack()
	if r, err := w.store.Get(t.Context(), ref.ID); err != nil || !r.Gone() {
		t.Errorf("gone %v, %v; the delete goes on", r.Gone(), err)
	}
	w.agent = w.cleaned
	if err := w.uses.Delete(t.Context(), ref); err != nil {
		t.Errorf("a second delete joins: %v", err)
	}
}

// A create outlasts a store that is away for less than its wait, and ends with its wait if it is longer.
func TestCreateOutlastsAStoreThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		uses := usecase.New(usecase.Config{CreateWait: 20 * time.Second, PublicHost: "h"}, usecase.Deps{
			Store: w.port, Waiter: usecase.HintedWaiter{Store: w.port, Hints: w.store}, Log: slog.New(slog.DiscardHandler),
		})
		time.AfterFunc(time.Second, func() { w.port.goAway("Get") })
		time.AfterFunc(5*time.Second, func() {
			for _, r := range w.unplaced() {
				w.place(r.ID)
				w.report(r.ID, sandbox.StateRunning, sandbox.ReasonRunning)
			}
		})
		time.AfterFunc(10*time.Second, w.port.comeBack)
		began := time.Now()
		v, err := uses.Create(t.Context(), create())
		if took := time.Since(began); err != nil || v.Status.State != sandbox.StateRunning || took < 10*time.Second || took > 11*time.Second {
			t.Errorf("%+v after %v, %v", v.Status, took, err)
		}
		time.AfterFunc(time.Second, func() { w.port.goAway("Get") })
		began = time.Now()
		_, err = uses.Create(t.Context(), create())
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("took %v", took)
		}
		unplaced := w.unplaced()
		if len(unplaced) != 1 {
			t.Fatalf("%d records", len(unplaced))
		}
		w.away("longer than the wait", err, "", unplaced[0].ID)
	})
}

func (w *world) unplaced() []sandbox.Record {
	w.t.Helper()
	all, err := w.store.Unplaced(w.t.Context(), 10)
	if err != nil {
		w.t.Error(err)
	}
	return all
}

func TestEndpointsAreOnTheHostOfTheNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ref := w.running()
	unknown := fault.New(fault.Unavailable, "not known").RetryAfter(time.Second)
	for name, c := range map[string]struct {
		host func(context.Context, string) (string, error)
		want string
		err  error
	}{
		"of its own":      {func(_ context.Context, node string) (string, error) { return node + ".example", nil }, "n.example", nil},
		"IPv6":            {func(context.Context, string) (string, error) { return "fd00::1", nil }, "[fd00::1]", nil},
		"of the server":   {func(context.Context, string) (string, error) { return "", nil }, "public", nil},
		"without a node":  {nil, "public", nil},
		"nobody knows it": {func(context.Context, string) (string, error) { return "", unknown }, "", unknown},
	} {
		uses := usecase.New(usecase.Config{PublicHost: "public"}, usecase.Deps{
			Store: w.store, Host: c.host, Token: func(sandbox.ID, uint64) string { return tokens },
		})
		r, err := w.store.Get(t.Context(), ref.ID)
		if err != nil {
			t.Fatal(err)
		}
		e, err := uses.Endpoint(t.Context(), usecase.EndpointRequest{Ref: ref, Port: usecase.AppPort})
		if want := c.want + ":" + itoa(r.Placement.Ports[usecase.AppPort]); c.err == nil && (err != nil || e.Address != want) {
			t.Errorf("%s: %q, %v; want %q", name, e.Address, err, want)
		}
		if c.err != nil && !fault.Is(err, fault.Unavailable) {
			t.Errorf("%s: %q, %v; want no address", name, e.Address, err)
		}
	}
}

func TestChangesCarryTheirRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	type key struct{}
	uses := usecase.New(usecase.Config{CreateWait: time.Second, ChangeWait: time.Second}, usecase.Deps{
		Store: w.port, Waiter: w, Log: slog.New(slog.DiscardHandler),
		Origin: func(ctx context.Context) sandbox.Origin { o, _ := ctx.Value(key{}).(sandbox.Origin); return o },
	})
	during := func(what string) context.Context {
		return context.WithValue(t.Context(), key{}, sandbox.Origin{Trace: "trace of " + what, Request: what})
	}
	w.agent = func(id sandbox.ID) { w.place(id); w.report(id, sandbox.StateRunning, sandbox.ReasonRunning) }
	v, err := uses.Create(during("create"), create())
	if err != nil {
		t.Fatal(err)
	}
	ref := usecase.Ref{ID: v.Record.ID}
	requests := []string{v.Record.Intent.Request}
	look := func() {
		t.Helper()
		r, err := w.store.Get(t.Context(), ref.ID)
		if err != nil {
			t.Fatal(err)
		}
		if r.Intent.Trace != "trace of "+r.Intent.Request {
			t.Errorf("the record carries %q", r.Intent.Origin)
		}
		requests = append(requests, r.Intent.Request)
	}
	w.agent = func(id sandbox.ID) { look(); w.report(id, sandbox.StatePaused, sandbox.ReasonPaused) }
	if err := uses.Pause(during("pause"), ref); err != nil {
		t.Fatal(err)
	}
	w.agent = func(sandbox.ID) {}
	w.want("resume", uses.Resume(during("resume"), ref), fault.Unavailable, "DOCKER::SANDBOX_RESUME_FAILED")
	look() // of the withdrawal
	w.want("delete", uses.Delete(during("delete"), ref), fault.Unavailable, "DOCKER::SANDBOX_DELETE_FAILED")
	look()
	if diff := cmp.Diff([]string{"create", "pause", "resume", "delete"}, requests); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestRoundTrips pins what a request costs the store, waits aside: creates 2, with respond-async 1, get and renew 1.
func TestRoundTrips(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.agent = func(id sandbox.ID) {
		w.place(id)
		w.report(id, sandbox.StateRunning, sandbox.ReasonRunning)
		w.port.calls = append(w.port.calls, "wait:")
	}
	var ref usecase.Ref
	for _, c := range []struct {
		name string
		do   func(ctx context.Context) error
		want []string
	}{
		{"create", func(ctx context.Context) error {
			v, err := w.uses.Create(ctx, keyed("k", "h"))
			ref.ID = v.Record.ID
			return err
		}, []string{"Insert", "wait:", "Get", "Accept"}},
		{"repeated create", func(ctx context.Context) error { _, err := w.uses.Create(ctx, keyed("k", "h")); return err }, []string{"Insert"}},
		{"asynchronous create", func(ctx context.Context) error {
			req := create()
			req.Async = true
			_, err := w.uses.Create(ctx, req)
			return err
		}, []string{"Insert"}},
		{"get", func(ctx context.Context) error { _, err := w.uses.Get(ctx, ref); return err }, []string{"Get"}},
		{"list", func(ctx context.Context) error {
			_, err := w.uses.List(ctx, usecase.ListRequest{Page: 1, PageSize: 9})
			return err
		}, []string{"List"}},
		{"renew", func(ctx context.Context) error {
			_, err := w.uses.Renew(ctx, usecase.RenewRequest{Ref: ref, ExpiresAt: time.Now().Add(time.Hour)})
			return err
		}, []string{"Renew"}},
		{"patch", func(ctx context.Context) error {
			_, err := w.uses.PatchMetadata(ctx, usecase.PatchRequest{Ref: ref})
			return err
		}, []string{"PatchMetadata"}},
		{"endpoint", func(ctx context.Context) error {
			_, err := w.uses.Endpoint(ctx, usecase.EndpointRequest{Ref: ref, Port: 8080})
			return err
		}, []string{"Get"}},
	} {
		w.port.calls = nil
		if err := c.do(t.Context()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if diff := cmp.Diff(c.want, w.port.calls); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.name, diff)
		}
	}
}

var _ usecase.Store = (*faulty)(nil)

// TestFullStore has a store that takes no write: nothing was made, and the answers do not leave it open.
func TestFullStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.agent = func(id sandbox.ID) { w.place(id); w.report(id, sandbox.StateRunning, sandbox.ReasonRunning) }
	v, err := w.uses.Create(t.Context(), create())
	if err != nil {
		t.Fatal(err)
	}
	w.port.full = true
	w.port.goAway("Insert", "SetGone")
	for what, req := range map[string]usecase.CreateRequest{"create": create(), "create with a key": keyed("k", "h")} {
		_, err := w.uses.Create(t.Context(), req)
		w.want(what, err, fault.Unavailable, sandbox.CodeStoreFull)
		if text := fault.TextOf(err); text != "the disk of the store is full; the sandbox was not made" || fault.SubjectOf(err) != "" || fault.RetryAfterOf(err) == 0 {
			t.Errorf("%s: %q about %q, again after %v", what, text, fault.SubjectOf(err), fault.RetryAfterOf(err))
		}
	}
	err = w.uses.Delete(t.Context(), usecase.Ref{ID: v.Record.ID})
	w.want("delete", err, fault.Unavailable, sandbox.CodeStoreFull)
	if !strings.Contains(fault.TextOf(err), "nothing was changed") {
		t.Errorf("delete: %q", fault.TextOf(err))
	}
}
