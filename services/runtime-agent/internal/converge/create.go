package converge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// make creates and starts the container of a placement that has none.
func (c *Converger) make(ctx context.Context, now time.Time, r *sandbox.Record) (out Outcome, err error) {
	ctx, end := c.deps.Work(ctx, r.Intent.Trace, "agent make")
	defer func() { end(err) }()
	if out, handled, err := c.waitsFromBefore(ctx, r); handled {
		return out, err
	}
	if r.Placement.Epoch == 1 && !c.known(r) {
		c.deps.Observe.Stage(stageQueue, now.Sub(r.CreatedAt))
	}
	c.note(r, func(s *start) {}) // from here on the engine is asked first
	if out, err := c.ensureImage(ctx, r); out != nil || err != nil {
		return orAgain(out), err
	}
	leave, err := c.deps.Gate.Make(ctx)
	if err != nil {
		return again, err
	}
	defer leave()
	if c.isCutOff(now) {
		return after(cutOffRetry), nil
	}
	over := c.deps.Observe.Begin(stageCreate)
	err = c.deps.Executor.Create(ctx, c.plan(r))
	over()
	switch {
	case fault.Is(err, fault.Conflict):
		return c.foundExisting(ctx, r)
	case fault.Is(err, fault.NotFound):
		return after(engineRetry), nil // the image went away in between
	case err != nil:
		return c.createFailed(ctx, r, err)
	}
	// Between create and start the record is read again: a container that has been started cannot be unstarted, and this process may have
	// been stopped for long, while another agent brought the create to its end.
	cur, err := c.deps.Recovery.Get(ctx, r.ID)
	if err != nil {
		return again, err
	}
	if cur.Gone() || cur.FailedCreate() || !cur.Placed() || cur.Placement.Epoch != r.Placement.Epoch || cur.Placement.Node != c.cfg.Node ||
		!maps.Equal(cur.Placement.Ports, r.Placement.Ports) {
		return again, nil // what was created is removed by the next step, or by the next comparison
	}
	return c.startNew(ctx, now, &cur)
}

// startNew is start for a container that has never been started. Recovery must know what the store has said after the record was read: if the
// store has gone back by then, the record may be of a sandbox that has come to its end already.
func (c *Converger) startNew(ctx context.Context, now time.Time, r *sandbox.Record) (Outcome, error) {
	if out, handled, err := c.waitsFromBefore(ctx, r); handled {
		return out, err
	}
	return c.start(ctx, now, r)
}

// foundExisting looks at what stands in the way of a create. A container of ours is dealt with by the next step; one that this
// agent cannot see as its own will not go away.
func (c *Converger) foundExisting(ctx context.Context, r *sandbox.Record) (Outcome, error) {
	_, err := c.deps.Executor.Inspect(ctx, r.ID)
	if fault.Is(err, fault.NotFound) {
		return c.failCreate(ctx, r, sandbox.ReasonCreateError, "a container with the name of this sandbox exists and belongs to somebody else", nil)
	}
	return again, nil
}

func (c *Converger) ensureImage(ctx context.Context, r *sandbox.Record) (*Outcome, error) {
	img, out, err := c.image(ctx, r)
	if out != nil || err != nil {
		return out, err
	}
	wanted, free := c.deps.GiveUp(ctx, r.ID)
	defer free()
	pulling, lost := false, error(nil)
	over := c.deps.Observe.Begin(stagePull)
	err = c.deps.Executor.EnsureImage(wanted, img, func(text string) {
		pulling = true
		if lost == nil {
			lost = c.progress(wanted, r, sandbox.Report{State: sandbox.StatePending, Reason: sandbox.ReasonPulling, Message: text})
		}
	})
	over()
	switch {
	case err == nil:
		if pulling {
			c.deps.Pulled()
		}
		return nil, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case wanted.Err() != nil:
		return &again, nil // no longer wanted: the next step removes
	case fault.CodeOf(err) == executor.CodeImage && fault.Is(err, fault.Invalid):
		out, err := c.failCreate(ctx, r, sandbox.ReasonImageUnavailable, fault.TextOf(err), err)
		return &out, err
	case fault.CodeOf(err) == executor.CodeImage:
		out, err := c.failCreate(ctx, r, sandbox.ReasonImagePullFailed, fault.TextOf(err), err)
		return &out, err
	}
	failed, err := c.createFailed(ctx, r, err)
	return &failed, err
}

// start starts a created container.
func (c *Converger) start(ctx context.Context, now time.Time, r *sandbox.Record) (Outcome, error) {
	if c.isCutOff(now) {
		return after(cutOffRetry), nil
	}
	over := c.deps.Observe.Begin(stageStart)
	err := c.deps.Executor.Start(ctx, c.plan(r))
	over()
	if fault.CodeOf(err) == executor.CodePortTaken {
		return c.swapPort(ctx, r, err)
	}
	if err != nil {
		return c.createFailed(ctx, r, err)
	}
	c.delivering(ctx, r)
	in, err := c.deps.Executor.Inspect(ctx, r.ID)
	if err != nil || in.Epoch != r.Placement.Epoch {
		return again, nil
	}
	if in.Phase != executor.Running {
		return c.begin(ctx, now, r, in)
	}
	c.note(r, func(s *start) { s.instance, s.fresh = in, true })
	return c.awaitReady(ctx, now, r, in)
}

// begin takes a container that exists further on its way to Running.
func (c *Converger) begin(ctx context.Context, now time.Time, r *sandbox.Record, in executor.Instance) (Outcome, error) {
	if in.Phase != executor.Removing && !maps.Equal(in.Published, r.Placement.Ports) {
		return c.makeAnew(ctx, r, in)
	}
	phase := in.Phase
	if phase == executor.Running && !c.delivered(r) {
		// Started by an agent that died, perhaps before it could deliver the token. Starting again does just that.
		phase = executor.Created
	}
	switch phase {
	case executor.Created:
		return c.startCreated(ctx, now, r, in)
	case executor.Paused: // by hand; nobody can have asked for it yet
		if p, ok := executor.As[executor.Pauser](c.deps.Executor); ok {
			if err := p.Unpause(ctx, ref(r)); err != nil && !fault.Is(err, fault.Conflict) {
				return c.createFailed(ctx, r, err)
			}
		}
		return again, nil
	case executor.Exited:
		return c.endedEarly(ctx, r, in)
	case executor.Removing:
		return after(engineRetry / 10), nil
	}
	return c.awaitStarted(ctx, now, r, in)
}

// startCreated starts a container that this process has not started, in its turn.
func (c *Converger) startCreated(ctx context.Context, now time.Time, r *sandbox.Record, in executor.Instance) (out Outcome, err error) {
	ctx, end := c.deps.Work(ctx, r.Intent.Trace, "agent start")
	defer func() { end(err) }()
	leave, err := c.deps.Gate.Make(ctx)
	if err != nil {
		return again, err
	}
	defer leave()
	if in.Phase != executor.Created {
		return c.start(ctx, now, r)
	}
	if err := c.deps.Recovery.Fresh(ctx); err != nil {
		return again, err
	}
	return c.startNew(ctx, now, r)
}

// awaitStarted is awaitReady for what was just seen running.
func (c *Converger) awaitStarted(ctx context.Context, now time.Time, r *sandbox.Record, in executor.Instance) (Outcome, error) {
	c.note(r, func(s *start) {
		s.instance, s.looked, s.fresh = in, now, false
		if s.since.IsZero() {
			s.since = now
		}
	})
	return c.awaitReady(ctx, now, r, in)
}

// awaitReady asks the daemon inside whether it answers, and reports Running once it does.
func (c *Converger) awaitReady(ctx context.Context, now time.Time, r *sandbox.Record, in executor.Instance) (Outcome, error) {
	if err := c.deps.Executor.Ready(ctx, in); err == nil {
		c.answered(r)
		defer c.deps.Observe.Begin(stageReport)()
		return c.report(ctx, r, sandbox.Report{State: sandbox.StateRunning, Reason: sandbox.ReasonRunning, Addresses: in.Addresses})
	}
	if ctx.Err() != nil {
		return again, ctx.Err()
	}
	s, _ := c.started(r)
	if s.fresh {
		return after(readyPoll), nil
	}
	if now.Sub(s.since) > c.cfg.ReadyTimeout {
		return c.failCreate(ctx, r, sandbox.ReasonExecdNotAnswering,
			fmt.Sprintf("the sandbox was started, but its daemon did not answer within %s%s", c.cfg.ReadyTimeout, c.lastLines(ctx, r)), nil)
	}
	if now.Sub(s.since) > readySoon {
		return after(readyPollLate), nil
	}
	return after(readyPoll), nil
}

// endedEarly deals with an entry point that ended before anyone saw the sandbox Running: with 0 it has done its work, else the
// create has failed.
func (c *Converger) endedEarly(ctx context.Context, r *sandbox.Record, in executor.Instance) (Outcome, error) {
	if in.StartedAt.IsZero() {
		return c.failCreate(ctx, r, sandbox.ReasonCreateError, "the container could not be started"+c.lastLines(ctx, r), nil)
	}
	if in.ExitCode == 0 && !in.OOMKilled {
		return c.reportExit(ctx, r, in)
	}
	if c.endedByEngine(in) {
		return c.failCreate(ctx, r, sandbox.ReasonEngineRestarted, "the container engine stopped while the sandbox was being created", nil)
	}
	reason, text := sandbox.ReasonEntrypointFailed, fmt.Sprintf("the entry point ended with exit code %d before the sandbox was running", in.ExitCode)
	if in.OOMKilled {
		text = "the entry point was killed because it needed more memory than resourceLimits.memory allows"
	}
	code := in.ExitCode
	rep := sandbox.Report{State: sandbox.StateFailed, Reason: reason, Message: text + c.lastLines(ctx, r), ExitCode: &code, OfCreate: true}
	return c.report(ctx, r, rep)
}

// makeAnew removes a container that was made for a port that is no longer leased, because somebody else had bound it. What has run cannot be
// made again.
func (c *Converger) makeAnew(ctx context.Context, r *sandbox.Record, in executor.Instance) (Outcome, error) {
	if in.Phase != executor.Created {
		return c.failCreate(ctx, r, sandbox.ReasonCreateError, "the container was started with a port of the node that is not leased to it", nil)
	}
	if err := c.destroy(ctx, in); err != nil {
		return c.engineFailed(ctx, r, err)
	}
	return again, nil
}

// swapPort leases another port after somebody else has taken the leased one. Ports are fixed when a container is created, so it is made anew.
// The next step does that, whichever agent takes it: an agent that was stopped here, and has a successor, is refused by the store and must not
// have removed anything.
func (c *Converger) swapPort(ctx context.Context, r *sandbox.Record, cause error) (Outcome, error) {
	var taken executor.PortTaken
	if !errors.As(cause, &taken) {
		return c.createFailed(ctx, r, cause)
	}
	var swaps int
	c.note(r, func(s *start) { swaps = s.swaps })
	if swaps >= maxSwaps {
		return c.failCreate(ctx, r, sandbox.ReasonPortsInUse, fmt.Sprintf(
			"the ports %d-%d of the node (docker.port_range_min to docker.port_range_max) seem to be used up by other processes: %d leased ones in a row were in use",
			c.cfg.PortMin, c.cfg.PortMax, swaps+1), cause)
	}
	_, err := c.deps.Store.SwapPort(ctx, sandbox.PortSwap{
		ID: r.ID, Node: c.cfg.Node, Epoch: r.Placement.Epoch, Session: c.cfg.Session,
		ContainerPort: taken.ContainerPort, Taken: taken.HostPort, PortMin: c.cfg.PortMin, PortMax: c.cfg.PortMax,
	})
	if fault.CodeOf(err) == sandbox.ReasonNoCapacity {
		return c.failCreate(ctx, r, sandbox.ReasonNoCapacity, fault.TextOf(err), err)
	}
	if err != nil {
		return again, err
	}
	c.note(r, func(s *start) { s.swaps++ }) // counted now: a store that is away for a while is not a series of taken ports
	c.cfg.Log.InfoContext(ctx, "leased port was taken by another process; trying another", "sandbox", r.ID, "port", taken.HostPort)
	return again, nil
}

// createFailed turns an error of the engine into a failed create. It is final: what the engine refused once is not tried again,
// and a client is waiting.
func (c *Converger) createFailed(ctx context.Context, r *sandbox.Record, err error) (Outcome, error) {
	if ctx.Err() != nil {
		return again, ctx.Err()
	}
	if reason, ok := sandbox.VolumeReason(fault.CodeOf(err)); ok {
		return c.failCreate(ctx, r, reason, fault.TextOf(err), err)
	}
	switch {
	case fault.CodeOf(err) == executor.CodeHostNetwork:
		return c.failCreate(ctx, r, sandbox.ReasonHostNetworkInUse, fault.TextOf(err), err)
	case fault.Is(err, fault.Unavailable):
		return c.failCreate(ctx, r, sandbox.ReasonEngineUnavailable, "the container engine does not answer", err)
	case fault.Is(err, fault.Invalid):
		return c.failCreate(ctx, r, sandbox.ReasonInvalidForRuntime, fault.TextOf(err), err)
	}
	text := "the container engine refused to make the sandbox"
	if fault.KindOf(err) != fault.Internal || fault.CodeOf(err) != "" {
		text = fault.TextOf(err)
	}
	return c.failCreate(ctx, r, sandbox.ReasonCreateError, text, err)
}

func (c *Converger) failCreate(ctx context.Context, r *sandbox.Record, reason, text string, cause error) (Outcome, error) {
	c.cfg.Log.WarnContext(ctx, "create failed", "sandbox", r.ID, "reason", reason, "message", text, "cause", cause)
	return c.report(ctx, r, sandbox.Report{State: sandbox.StateFailed, Reason: reason, Message: text, OfCreate: true})
}

// lastLines returns the last lines that the entry point wrote, as the end of a message.
func (c *Converger) lastLines(ctx context.Context, r *sandbox.Record) string {
	lr, ok := executor.As[executor.LogReader](c.deps.Executor)
	if !ok {
		return ""
	}
	lines, err := lr.Tail(ctx, ref(r), 5)
	if err != nil || len(lines) == 0 {
		return ""
	}
	text := strings.Join(lines, "\n")
	if len(text) > 1000 {
		text = "…" + strings.ToValidUTF8(text[len(text)-1000:], "")
	}
	return "; it wrote: " + text
}

func orAgain(o *Outcome) Outcome {
	if o == nil {
		return again
	}
	return *o
}
