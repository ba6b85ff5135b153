package converge

import (
	"context"
	"fmt"
	"slices"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// keep holds a sandbox that has been Running at what its record wants.
func (c *Converger) keep(ctx context.Context, now time.Time, r *sandbox.Record, in executor.Instance) (Outcome, error) {
	if r.Over() {
		return c.finish(ctx, r)
	}
	switch in.Phase {
	case executor.Exited:
		return c.reportExit(ctx, r, in)
	case executor.Running, executor.Paused:
	default: // on its way somewhere
		return after(engineRetry / 10), nil
	}
	paused := in.Phase == executor.Paused
	if c.wantsPaused(r) == paused {
		return c.reached(ctx, r, in)
	}
	p, ok := executor.As[executor.Pauser](c.deps.Executor)
	if !ok {
		return c.moveFailed(ctx, r, in, fault.New(fault.Unsupported, "this runtime cannot pause"))
	}
	if c.isCutOff(now) {
		return after(cutOffRetry), nil
	}
	move, name, then := p.Pause, "agent pause", executor.Paused
	if paused {
		move, name, then = p.Unpause, "agent resume", executor.Running
	}
	work, end := c.deps.Work(ctx, r.Intent.Trace, name)
	err := move(work, ref(r))
	end(err)
	if err != nil {
		return c.moveFailed(work, r, in, err)
	}
	in.Phase = then
	return c.reached(ctx, r, in)
}

// wantsPaused says whether the processes shall be frozen. While a failed pause or resume waits to be withdrawn, the state that was
// reported stands.
func (c *Converger) wantsPaused(r *sandbox.Record) bool {
	if r.Withdrawable() {
		return r.Observed.State == sandbox.StatePaused
	}
	return r.Intent.Desired == sandbox.DesiredPaused
}

// reached reports that the sandbox is as it shall be, unless that is known.
func (c *Converger) reached(ctx context.Context, r *sandbox.Record, in executor.Instance) (Outcome, error) {
	state, reason := sandbox.StateRunning, sandbox.ReasonRunning
	if in.Phase == executor.Paused {
		state, reason = sandbox.StatePaused, sandbox.ReasonPaused
	}
	if r.Finished() && r.Observed.State == state {
		return done, nil
	}
	return c.report(ctx, r, sandbox.Report{State: state, Reason: reason, Addresses: in.Addresses})
}

// moveFailed reports a pause or resume that the engine refused: final for this generation, and the sandbox stays what it is.
func (c *Converger) moveFailed(ctx context.Context, r *sandbox.Record, in executor.Instance, err error) (Outcome, error) {
	if ctx.Err() != nil {
		return again, ctx.Err()
	}
	if fault.Is(err, fault.Conflict) {
		return after(engineRetry / 10), nil // it has ended, or changed by hand: look again
	}
	if r.Finished() { // it was the undoing of something done by hand; nobody waits for it
		return after(engineRetry), nil
	}
	state, reason, verb := sandbox.StateRunning, sandbox.ReasonPauseFailed, "pause"
	if in.Phase == executor.Paused {
		state, reason, verb = sandbox.StatePaused, sandbox.ReasonResumeFailed, "resume"
	}
	if fault.Is(err, fault.Unavailable) {
		reason = sandbox.ReasonEngineUnavailable
	}
	c.cfg.Log.WarnContext(ctx, verb+" failed", "sandbox", r.ID, "error", err)
	return c.report(ctx, r, sandbox.Report{State: state, Reason: reason, Message: "the container engine could not " + verb + " the sandbox"})
}

// engineFailed deals with an engine that could not be asked. A change that a client waits for is given up; a removal is not,
// but says why it takes so long.
func (c *Converger) engineFailed(ctx context.Context, r *sandbox.Record, err error) (Outcome, error) {
	if ctx.Err() != nil {
		return again, ctx.Err()
	}
	c.cfg.Log.DebugContext(ctx, "engine failed", "sandbox", r.ID, "error", err)
	switch {
	case r.Gone() || r.FailedCreate():
		if r.Gone() && r.Observed.State != "" && r.Observed.Reason != sandbox.ReasonEngineUnavailable && !r.FailedCreate() {
			rep := sandbox.Report{State: r.Observed.State, Reason: sandbox.ReasonEngineUnavailable, Message: "the container engine does not answer",
				ExitCode: r.Observed.ExitCode, Started: r.Observed.Started}
			if err := c.progress(ctx, r, rep); err != nil {
				return again, err
			}
		}
	case r.Finished():
	case !r.Observed.Started:
		return c.createFailed(ctx, r, err)
	case r.Observed.State == sandbox.StateRunning || r.Observed.State == sandbox.StatePaused:
		return c.report(ctx, r, sandbox.Report{State: r.Observed.State, Reason: sandbox.ReasonEngineUnavailable, Message: "the container engine does not answer"})
	}
	return after(engineRetry), nil
}

// reportExit reports an entry point that has ended. The container stays until it is deleted or its deadline comes.
func (c *Converger) reportExit(ctx context.Context, r *sandbox.Record, in executor.Instance) (Outcome, error) {
	code := in.ExitCode
	rep := sandbox.Report{State: sandbox.StateTerminated, Reason: sandbox.ReasonExited, Message: "the entry point has ended with exit code 0",
		ExitCode: &code, Started: true}
	if in.Addresses.ContainerIP != "" || len(in.Addresses.Ports) > 0 {
		rep.Addresses = in.Addresses
	}
	switch {
	case c.endedByEngine(in):
		rep.State, rep.Reason, rep.Message = sandbox.StateFailed, sandbox.ReasonEngineRestarted, "the container engine stopped and took the sandbox with it"
	case in.OOMKilled:
		rep.State, rep.Reason = sandbox.StateFailed, sandbox.ReasonOOMKilled
		rep.Message = fmt.Sprintf("the sandbox needed more memory than resourceLimits.memory allows (exit code %d)", code)
	case code != 0:
		rep.State, rep.Reason = sandbox.StateFailed, sandbox.ReasonExitedError
		rep.Message = fmt.Sprintf("the entry point has ended with exit code %d", code)
	}
	return c.report(ctx, r, rep)
}

// remove kills and removes what was made for a record that is Gone or whose create has failed, and says so.
func (c *Converger) remove(ctx context.Context, r *sandbox.Record) (out Outcome, err error) {
	ctx, end := c.deps.Work(ctx, r.Intent.Trace, "agent remove")
	defer func() { end(err) }()
	c.forget(r.ID)
	in, err := c.deps.Executor.Inspect(ctx, r.ID)
	switch {
	case fault.Is(err, fault.NotFound):
		if err := c.removeLeftover(ctx, r); err != nil {
			return c.engineFailed(ctx, r, err)
		}
	case err != nil:
		return c.engineFailed(ctx, r, err)
	case in.Epoch > r.Placement.Epoch:
		// Made by a placement that this record does not know of: not ours to judge.
		c.cfg.Log.ErrorContext(ctx, "container is ahead of its record", "sandbox", r.ID, "epoch", in.Epoch, "record", r.Placement.Epoch)
		return done, nil
	default:
		if err := c.destroy(ctx, in); err != nil {
			return c.engineFailed(ctx, r, err)
		}
	}
	err = c.deps.Store.Cleaned(ctx, sandbox.Cleaned{ID: r.ID, Node: c.cfg.Node, Epoch: r.Placement.Epoch, Session: c.cfg.Session})
	if err != nil {
		return again, fmt.Errorf("cleaned %s: %w", r.ID, err)
	}
	c.cfg.Log.DebugContext(ctx, "sandbox removed", "sandbox", r.ID, "epoch", r.Placement.Epoch)
	c.deps.Cleaned(r.ID)
	return done, nil
}

// removeLeftover removes what was made for a container that is not there: it may not have come to it, or it may have gone already.
func (c *Converger) removeLeftover(ctx context.Context, r *sandbox.Record) error {
	if !slices.ContainsFunc(r.Spec.Volumes, func(v sandbox.Volume) bool { return v.Claim != nil && v.Claim.Delete }) {
		return nil
	}
	return c.destroy(ctx, executor.Instance{Ref: ref(r), Phase: executor.Leftover})
}

// removeOlder removes what an earlier placement left on this node.
func (c *Converger) removeOlder(ctx context.Context, r *sandbox.Record, in executor.Instance) (out Outcome, err error) {
	ctx, end := c.deps.Work(ctx, r.Intent.Trace, "agent remove")
	defer func() { end(err) }()
	if in.Epoch > r.Placement.Epoch {
		c.cfg.Log.ErrorContext(ctx, "container is ahead of its record", "sandbox", r.ID, "epoch", in.Epoch, "record", r.Placement.Epoch)
		return after(time.Second), nil
	}
	if err := c.destroy(ctx, in); err != nil {
		return c.engineFailed(ctx, r, err)
	}
	err = c.deps.Store.Cleaned(ctx, sandbox.Cleaned{ID: r.ID, Node: c.cfg.Node, Epoch: in.Epoch, Session: c.cfg.Session})
	return again, err
}

// destroy ends all processes at once, then waits for its turn to remove: with many deadlines at the same time, everything is dead
// before the slow removals begin.
func (c *Converger) destroy(ctx context.Context, in executor.Instance) error {
	if in.Phase == executor.Running || in.Phase == executor.Paused {
		if err := c.kill(ctx, in.Ref); err != nil {
			return err
		}
	}
	leave, err := c.deps.Gate.Remove(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return c.deps.Executor.Remove(ctx, in.Ref)
}

func (c *Converger) kill(ctx context.Context, r executor.Ref) error {
	leave, err := c.deps.Gate.Kill(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return c.deps.Executor.Kill(ctx, r)
}
