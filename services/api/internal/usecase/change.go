package usecase

import (
	"context"
	"fmt"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Wire codes of OpenSandbox 1.1.1 for changes that the engine refused.
const (
	codeDelete = "DOCKER::SANDBOX_DELETE_FAILED"
	codePause  = "DOCKER::SANDBOX_PAUSE_FAILED"
	codeResume = "DOCKER::SANDBOX_RESUME_FAILED"
)

// maxGuardRetries bounds the attempts of a change that others keep overtaking.
const maxGuardRetries = 5

// Delete removes a sandbox and waits until nothing is left of it. A delete in progress is joined. fault.Unavailable when the engine
// does not answer or ChangeWait is over: the wish stays and is carried out as soon as it can be.
func (u *UseCases) Delete(ctx context.Context, ref Ref) error {
	if _, err := u.find(ctx, ref); err != nil {
		return err
	}
	r, err := u.deps.Store.SetGone(u.traced(ctx), ref.ID, sandbox.ReasonDeleted)
	if fault.Is(err, fault.Unavailable) {
		return unknown(err, "the store did not answer; the sandbox may be removed or not, ask again").About(string(ref.ID))
	}
	if err != nil {
		return err
	}
	if r.Ended() {
		return nil
	}
	r, _, err = u.deps.Waiter.Await(ctx, ref.ID, u.cfg.ChangeWait, func(r *sandbox.Record) bool {
		return r.Ended() || r.Observed.Reason == sandbox.ReasonEngineUnavailable
	})
	switch {
	case fault.Is(err, fault.NotFound):
		return nil // ended, and already forgotten
	case fault.Is(err, fault.Unavailable):
		return unknown(err, "the store does not answer; the removal of the sandbox goes on").About(string(ref.ID))
	case err != nil:
		return err // the client is gone; the removal goes on
	case r.Ended():
		return nil
	case r.Observed.Reason == sandbox.ReasonEngineUnavailable:
		return unavailable("the container engine does not answer; the sandbox is removed as soon as it does").WithCode(codeEngine)
	}
	return unavailable("the sandbox is still being removed; the removal goes on").WithCode(codeDelete)
}

// move is a change between Running and Paused.
type move struct {
	verb, done string
	from, to   sandbox.State
	want, back sandbox.Desired
	// notThere is the code for a sandbox that is not in from, failed for one that the engine could not move.
	notThere, failed string
}

var (
	pause = move{"pause", "paused", sandbox.StateRunning, sandbox.StatePaused, sandbox.DesiredPaused, sandbox.DesiredRunning,
		sandbox.CodeNotRunning, codePause}
	resume = move{"resume", "resumed", sandbox.StatePaused, sandbox.StateRunning, sandbox.DesiredRunning, sandbox.DesiredPaused,
		sandbox.CodeNotPaused, codeResume}
)

// Pause freezes a Running sandbox and waits until it is. fault.Conflict in any other state.
func (u *UseCases) Pause(ctx context.Context, ref Ref) error { return u.move(ctx, ref, pause) }

// Resume lets a Paused sandbox go on and waits until it does. fault.Conflict in any other state.
func (u *UseCases) Resume(ctx context.Context, ref Ref) error { return u.move(ctx, ref, resume) }

func (u *UseCases) move(ctx context.Context, ref Ref, m move) error {
	r, err := u.decide(ctx, ref, m)
	if err != nil {
		return err
	}
	generation := r.Intent.Generation
	seen, reached, err := u.deps.Waiter.Await(ctx, ref.ID, u.cfg.ChangeWait, func(r *sandbox.Record) bool {
		return r.Gone() || r.Ended() || r.Observed.Generation >= generation
	})
	switch {
	case fault.Is(err, fault.NotFound):
		return sandbox.ErrStopping(ref.ID)
	case fault.Is(err, fault.Unavailable):
		// The store may be back by now. If it is not, the change is carried out when it is.
		u.withdraw(ctx, ref.ID, m, generation)
		return unknown(err, "the store does not answer; whether the sandbox will be "+m.done+" cannot be said").About(string(ref.ID))
	case err != nil:
		return err // the client is gone; the change goes on
	case seen.Gone() || seen.Ended():
		return sandbox.ErrStopping(ref.ID)
	case !reached:
		u.withdraw(ctx, ref.ID, m, generation)
		return unavailable("the node did not " + m.verb + " the sandbox in time; the request was withdrawn").WithCode(m.failed)
	case seen.Over():
		return m.conflict(sandbox.StateOf(&seen))
	case seen.Observed.State == m.to || seen.Observed.Generation > generation:
		return nil // reached, or reached and already changed again by somebody else
	}
	u.withdraw(ctx, ref.ID, m, generation)
	if seen.Observed.Reason == sandbox.ReasonEngineUnavailable {
		return unavailable(seen.Observed.Message).WithCode(codeEngine)
	}
	return fault.New(fault.Internal, seen.Observed.Message).WithCode(m.failed)
}

// decide writes the intent under the guard that the sandbox still is in the state that allows it.
func (u *UseCases) decide(ctx context.Context, ref Ref, m move) (sandbox.Record, error) {
	for range maxGuardRetries {
		r, err := u.find(ctx, ref)
		if err != nil {
			return sandbox.Record{}, err
		}
		if state := sandbox.StateOf(&r); state != m.from {
			return sandbox.Record{}, m.conflict(state)
		}
		if r.Withdrawable() { // an earlier change failed and was not taken back yet
			u.withdrawRecord(ctx, &r)
			continue
		}
		next, err := u.deps.Store.SetDesired(u.traced(ctx), ref.ID, m.want, r.Intent.Generation)
		if fault.Is(err, fault.Unavailable) {
			return next, unknown(err, "the store did not answer; whether the sandbox will be "+m.done+" cannot be said").About(string(ref.ID))
		}
		if !sandbox.IsStale(err) {
			return next, err
		}
	}
	return sandbox.Record{}, unavailable("the sandbox is being changed by others; try again").WithCode(m.failed)
}

// withdraw takes back a change that failed, so that the record does not ask for it for ever. If it cannot be written, the scheduler
// does it later.
func (u *UseCases) withdraw(ctx context.Context, id sandbox.ID, m move, generation uint64) {
	_, err := u.deps.Store.SetDesired(u.traced(context.WithoutCancel(ctx)), id, m.back, generation)
	if err != nil && !sandbox.IsStale(err) && !sandbox.IsStopping(err) {
		u.deps.Log.WarnContext(ctx, "a change that failed could not be withdrawn", "sandbox", id, "change", m.verb, "error", err)
	}
}

func (u *UseCases) withdrawRecord(ctx context.Context, r *sandbox.Record) {
	m := pause
	if r.Intent.Desired == sandbox.DesiredRunning {
		m = resume
	}
	u.withdraw(ctx, r.ID, m, r.Intent.Generation)
}

func (m move) conflict(state sandbox.State) error {
	return fault.New(fault.Conflict, fmt.Sprintf("cannot %s a sandbox that is %s: it must be %s", m.verb, state, m.from)).WithCode(m.notThere)
}
