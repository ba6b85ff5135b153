package usecase

import (
	"context"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// CreateRequest asks for a sandbox. Its spec has been checked field by field; Create checks what needs the configuration.
type CreateRequest struct {
	Tenant   string
	Spec     sandbox.Spec
	Metadata map[string]string
	// Async answers at once, without waiting for Running.
	Async bool
}

// Wire codes of failed creates, those of OpenSandbox 1.1.1. Unknown images and entry points are the caller's mistake here, so they
// are 400 and not 500.
const (
	codeImagePull  = "DOCKER::SANDBOX_IMAGE_PULL_FAILED"
	codeStart      = "DOCKER::SANDBOX_START_FAILED"
	codeEntrypoint = "DOCKER::INVALID_ENTRYPOINT"
	codeExecd      = "DOCKER::SANDBOX_EXECD_START_FAILED"
	codeEngine     = "DOCKER::ENGINE_UNAVAILABLE"
	codeNoCapacity = "SANDBOX::NO_CAPACITY"
)

// Create makes a sandbox and waits until it is Running, has failed, or CreateWait is over; a sandbox that is not Running by then is
// returned Pending and goes on by itself, as it does when the client goes away. The error of a failed create carries the id.
func (u *UseCases) Create(ctx context.Context, req CreateRequest) (View, error) {
	if u.cfg.MaxTimeout > 0 && req.Spec.Timeout > u.cfg.MaxTimeout {
		return View{}, fault.Newf(fault.Invalid, "timeout is %d seconds; this server allows at most %d", int64(req.Spec.Timeout.Seconds()), int64(u.cfg.MaxTimeout.Seconds())).
			WithCode(sandbox.CodeInvalidParameter).WithDetails(fault.Detail{Field: "timeout", Problem: "exceeds server.max_sandbox_timeout_seconds"})
	}
	if err := sandbox.CheckMetadata(req.Metadata); err != nil {
		return View{}, err
	}
	async := req.Async || u.cfg.CreateWait <= 0
	r, err := u.deps.Store.Insert(ctx, sandbox.New{ID: u.deps.NewID(), Tenant: req.Tenant, Spec: req.Spec, Metadata: req.Metadata, Accepted: async})
	if err != nil {
		return View{}, err
	}
	if async {
		return u.view(ctx, r), nil
	}
	seen, _, err := u.deps.Waiter.Await(ctx, r.ID, u.cfg.CreateWait, settled)
	if err != nil {
		return View{}, err
	}
	if seen.Gone() || seen.FailedCreate() {
		return View{}, u.createFailed(ctx, &seen)
	}
	accepted, err := u.deps.Store.Accept(ctx, r.ID)
	if sandbox.IsStopping(err) { // it failed or went in between: answer that instead
		if seen, err = u.deps.Store.Get(ctx, r.ID); err != nil {
			return View{}, err
		}
		return View{}, u.createFailed(ctx, &seen)
	}
	if err != nil {
		return View{}, err
	}
	return u.view(ctx, accepted), nil
}

// settled reports whether a create has come to its end.
func settled(r *sandbox.Record) bool {
	return r.Gone() || r.FailedCreate() || (r.Observed.Started && r.Observed.Epoch == r.Placement.Epoch)
}

// createFailed withdraws a failed create that no client knows of, and returns what to answer.
func (u *UseCases) createFailed(ctx context.Context, r *sandbox.Record) error {
	if r.Gone() {
		return fault.New(fault.Conflict, "the sandbox was removed while it was being created: "+r.Intent.Reason).
			WithCode(sandbox.CodeStopping).About(string(r.ID))
	}
	// Without a client that knows of it nobody would ever delete it. If this write fails, the scheduler does it after a minute.
	if _, err := u.deps.Store.SetGone(context.WithoutCancel(ctx), r.ID, sandbox.ReasonCreateFailed); err != nil {
		u.deps.Log.WarnContext(ctx, "failed create is left to the scheduler", "sandbox", r.ID, "error", err)
	}
	return createFault(r.Observed).About(string(r.ID))
}

// createFault turns the reason of a failed create into an error.
func createFault(o sandbox.Observed) *fault.Error {
	switch o.Reason {
	case sandbox.ReasonImageUnavailable:
		return fault.New(fault.Invalid, o.Message).WithCode(codeImagePull)
	case sandbox.ReasonImagePullFailed:
		return fault.New(fault.Internal, o.Message).WithCode(codeImagePull)
	case sandbox.ReasonEntrypointFailed:
		return fault.New(fault.Invalid, o.Message).WithCode(codeEntrypoint)
	case sandbox.ReasonInvalidForRuntime:
		return fault.New(fault.Invalid, o.Message).WithCode(sandbox.CodeInvalidParameter)
	case sandbox.ReasonNoCapacity:
		return fault.New(fault.Unavailable, o.Message).WithCode(codeNoCapacity).RetryAfter(5 * time.Second)
	case sandbox.ReasonEngineUnavailable, sandbox.ReasonEngineRestarted:
		return fault.New(fault.Unavailable, o.Message).WithCode(codeEngine).RetryAfter(2 * time.Second)
	case sandbox.ReasonExecdNotAnswering:
		return fault.New(fault.Internal, o.Message).WithCode(codeExecd)
	}
	return fault.New(fault.Internal, o.Message).WithCode(codeStart)
}
