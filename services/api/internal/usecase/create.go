package usecase

import (
	"context"
	"slices"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// CreateRequest asks for a sandbox. Its spec has been checked field by field; Create checks what needs the configuration.
type CreateRequest struct {
	Tenant   string
	Spec     sandbox.Spec
	Metadata map[string]string
	// Credentials are for the registry of the image; the zero value means none.
	Credentials sandbox.Credentials
	// Async answers at once, without waiting for Running.
	Async bool
	// Key, if it is set, makes repetitions of the request give one sandbox.
	Key sandbox.Key
}

// Replayed is the error of a repeated create, which tells what became of the first one.
type Replayed struct{ err error }

// Error returns the text of the error inside.
func (r Replayed) Error() string { return r.err.Error() }

// Unwrap returns the error inside.
func (r Replayed) Unwrap() error { return r.err }

// Wire codes of failed creates, those of OpenSandbox 1.1.1. Unknown images and entry points are the caller's mistake here, so they
// are 400 and not 500.
const (
	codeImagePull      = "DOCKER::SANDBOX_IMAGE_PULL_FAILED"
	codeStart          = "DOCKER::SANDBOX_START_FAILED"
	codeEntrypoint     = "DOCKER::INVALID_ENTRYPOINT"
	codeExecd          = "DOCKER::SANDBOX_EXECD_START_FAILED"
	codeEngine         = "DOCKER::ENGINE_UNAVAILABLE"
	codeNoCapacity     = "SANDBOX::NO_CAPACITY"
	codeStoreRecovered = "SANDBOX::STORE_RECOVERED"
	codeNodeLost       = "SANDBOX::NODE_LOST"
	// codeHostNetwork is ours: sandboxes use the network of the node, and another one has it.
	codeHostNetwork = "SANDBOX::HOST_NETWORK_IN_USE"
)

// Create makes a sandbox and waits until it is Running, has failed, or CreateWait is over; a sandbox that is not Running by then is
// returned Pending and goes on by itself, as it does when the client goes away. The error of a failed create carries the id.
//
// A create whose key was used before joins the first one and gets its outcome, as an error of type Replayed or a View that says so.
// fault.Unavailable when the store goes away: the sandbox may have been made, and a repetition with the same key finds it.
func (u *UseCases) Create(ctx context.Context, req CreateRequest) (View, error) {
	if err := u.checkCreate(&req); err != nil {
		return View{}, err
	}
	id, async := u.deps.NewID(), req.Async || u.cfg.CreateWait <= 0
	n := sandbox.New{ID: id, Tenant: req.Tenant, Spec: req.Spec, Metadata: req.Metadata, Accepted: async, Key: req.Key}
	if err := u.seal(&n, req.Credentials); err != nil {
		return View{}, err
	}
	r, err := u.deps.Store.Insert(u.traced(ctx), n)
	if err != nil {
		return View{}, notInserted(err, id, req.Key)
	}
	first := r.ID == id
	v, err := u.outcome(ctx, r, async)
	if err != nil && !first {
		return View{}, Replayed{err}
	}
	v.Replayed = !first
	return v, err
}

// checkCreate checks what depends on the configuration, and the metadata. It tidies the paths of volumes.
func (u *UseCases) checkCreate(req *CreateRequest) error {
	if u.cfg.MaxTimeout > 0 && req.Spec.Timeout > u.cfg.MaxTimeout {
		return fault.Newf(fault.Invalid, "timeout is %d seconds; this server allows at most %d", int64(req.Spec.Timeout.Seconds()), int64(u.cfg.MaxTimeout.Seconds())).
			WithCode(sandbox.CodeInvalidParameter).WithDetails(fault.Detail{Field: "timeout", Problem: "exceeds server.max_sandbox_timeout_seconds"})
	}
	if runtime := req.Spec.Needs.Runtime; runtime != "" && !slices.Contains(u.cfg.AllowedRuntimes, runtime) {
		return fault.New(fault.Forbidden, "extensions[node.runtime] asks for an isolation runtime that the operator of this server has not allowed: docker.allowed_runtimes does not name it").
			WithDetails(fault.Detail{Field: "extensions[node.runtime]", Problem: "not in docker.allowed_runtimes"})
	}
	if err := sandbox.CheckMetadata(req.Metadata); err != nil || len(req.Spec.Volumes) == 0 {
		return err
	}
	volumes, err := sandbox.CheckVolumes(req.Spec.Volumes, u.cfg.AllowedHostPaths)
	req.Spec.Volumes = volumes
	return err
}

// notInserted is the answer when a create could not be written, or when that cannot be said. With a key the id stays unsaid: the key may
// lead to another one.
func notInserted(err error, id sandbox.ID, key sandbox.Key) error {
	switch {
	case !fault.Is(err, fault.Unavailable):
		return err
	case fault.CodeOf(err) == sandbox.CodeStoreFull:
		return fault.New(fault.Unavailable, "the disk of the store is full; the sandbox was not made").
			WithCode(sandbox.CodeStoreFull).RetryAfter(fault.RetryAfterOf(err)).Because(err)
	case key.Set():
		return unknown(err, "the store did not answer; the sandbox may have been made: repeat the request with the same Idempotency-Key")
	}
	return unknown(err, "the store did not answer; the sandbox may have been made: ask for it by its sandboxId").About(string(id))
}

// outcome waits for a create to settle and gives the client its id. Of a create that is repeated it is what became of the first one.
func (u *UseCases) outcome(ctx context.Context, r sandbox.Record, async bool) (View, error) {
	id := r.ID
	if !async && !settled(&r) {
		var err error
		r, _, err = u.deps.Waiter.Await(ctx, id, u.cfg.CreateWait, settled)
		if fault.Is(err, fault.Unavailable) {
			return View{}, unknown(err, "the store does not answer; the sandbox may exist: ask for it by its sandboxId").About(string(id))
		}
		if err != nil {
			return View{}, err
		}
	}
	if r.Gone() || r.FailedCreate() {
		return View{}, u.createFailed(ctx, &r)
	}
	if r.Intent.Accepted {
		return u.view(ctx, r), nil
	}
	accepted, err := u.deps.Store.Accept(ctx, id)
	if sandbox.IsStopping(err) { // it failed or went in between: answer that instead
		if r, err = u.deps.Store.Get(ctx, id); err == nil {
			return View{}, u.createFailed(ctx, &r)
		}
	}
	if fault.Is(err, fault.Unavailable) { // also when its disk is full: the sandbox was made before
		return View{}, unavailable("the store did not answer; the sandbox may exist: ask for it by its sandboxId").
			WithCode(fault.CodeOf(err)).Because(err).About(string(id))
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
	if r.Gone() && r.Intent.Reason != sandbox.ReasonCreateFailed {
		return fault.New(fault.Conflict, "the sandbox was removed while it was being created: "+r.Intent.Reason).
			WithCode(sandbox.CodeStopping).About(string(r.ID))
	}
	if !r.Gone() && !r.Intent.Accepted {
		// Without a client that knows of it nobody would ever delete it. If this write fails, the scheduler does it after a minute.
		if _, err := u.deps.Store.SetGone(u.traced(context.WithoutCancel(ctx)), r.ID, sandbox.ReasonCreateFailed); err != nil {
			u.deps.Log.WarnContext(ctx, "failed create is left to the scheduler", "sandbox", r.ID, "error", err)
		}
	}
	return createFault(r.Observed).About(string(r.ID))
}

// IsNoCapacity reports whether an error says that no node has room for a sandbox. That is an answer of a platform that works.
func IsNoCapacity(err error) bool { return fault.CodeOf(err) == codeNoCapacity }

// createFault turns the reason of a failed create into an error.
func createFault(o sandbox.Observed) *fault.Error {
	if err, ok := sandbox.VolumeFault(o.Reason, o.Message); ok {
		return err
	}
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
	case sandbox.ReasonStoreRecovered:
		return fault.New(fault.Unavailable, o.Message).WithCode(codeStoreRecovered).RetryAfter(2 * time.Second)
	case sandbox.ReasonNodeLost, sandbox.ReasonNodeCutOff:
		return fault.New(fault.Unavailable, o.Message).WithCode(codeNodeLost).RetryAfter(2 * time.Second)
	case sandbox.ReasonPortsInUse: // OpenSandbox 1.1.1 has this code for it, and 500; that one may be repeated is said by the status alone
		return fault.New(fault.Unavailable, o.Message).WithCode(codeStart).RetryAfter(5 * time.Second)
	case sandbox.ReasonHostNetworkInUse:
		return fault.New(fault.Conflict, o.Message).WithCode(codeHostNetwork)
	case sandbox.ReasonExecdNotAnswering:
		return fault.New(fault.Internal, o.Message).WithCode(codeExecd)
	}
	return fault.New(fault.Internal, o.Message).WithCode(codeStart)
}
