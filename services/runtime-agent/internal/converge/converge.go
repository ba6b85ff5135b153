// Package converge moves one sandbox at a time one step closer from what the engine has to what its record says.
//
// It is level-triggered: it never executes a message, it reads the record, looks at the engine, and does what is missing. Every
// step can be run twice, by this process or by the one that takes its place. It starts no goroutines and does not ask for the
// time, so that a simulator can drive it.
package converge

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Store is what converging needs of the store.
type Store interface {
	sandbox.Observations
	sandbox.Secrets
	sandbox.Queries
}

// Config is fixed for the life of a Converger.
type Config struct {
	// Node is the name of this node.
	Node string
	// Session is the one that the store gave to this start of the agent.
	Session uint64
	// RetainFailed is how long a failed create is shown to a client that has its id.
	RetainFailed time.Duration
	// ReadyTimeout bounds the wait for the daemon inside a started sandbox.
	ReadyTimeout time.Duration
	// PortMin and PortMax bound the ports that may replace a taken one.
	PortMin, PortMax int
	// Token returns the access token of an incarnation.
	Token func(id sandbox.ID, epoch uint64) string
	// Unseal opens what travels sealed beside a record; nil: this agent cannot.
	Unseal func(id sandbox.ID, sealed []byte) ([]byte, error)
	// Lease tells when the node is cut off; nil: never.
	Lease *Lease
	// Clock is the clock of the lease, which is asked before anything is made or started. nil takes the time that a step was given.
	Clock func() time.Time
	Log   *slog.Logger
}

// Deps are the ports.
type Deps struct {
	Store    Store
	Executor executor.Executor
	// Gate bounds how many heavy engine calls run at once.
	Gate Gate
	// GiveUp returns a context that ends when the sandbox is no longer wanted, for the long steps, and a function that frees it.
	GiveUp func(ctx context.Context, id sandbox.ID) (context.Context, func())
	// Cleaned is told when nothing is left of a sandbox on this node; nil ignores it.
	Cleaned func(id sandbox.ID)
	// Pulled is told when an image has come; nil ignores it.
	Pulled func()
	// Stopped writes down what was stopped because the node was cut off, and WasStopped is what an earlier start of the agent wrote; nil keeps it
	// in this process only.
	Stopped    func(refs []executor.Ref) error
	WasStopped []executor.Ref
	// Each calls do for 0 to n-1, perhaps side by side, and returns when all have ended; nil does one after the other.
	Each func(n int, do func(i int))
	// Observe is told how the work goes, and Work traces it; nil: nobody does.
	Observe Observer
	Work    StartWork
	// Recovery tells how far the store is to be believed; nil: always.
	Recovery Recovery
}

// Converger drives the sandboxes of one node. Step may be called concurrently for different ids, never for the same.
type Converger struct {
	cfg  Config
	deps Deps

	mu      sync.Mutex
	starts  map[sandbox.ID]start
	outages []outage
	cut     cutOff
}

// start is what this process remembers of a sandbox between the start of its container and Running. Losing it costs one look
// at the engine.
type start struct {
	epoch    uint64
	instance executor.Instance
	since    time.Time
	// looked is when the engine was last asked about it.
	looked time.Time
	// fresh says that it was started and looked at within the step that went before: that step took long, and its time is not the time of
	// the start.
	fresh bool
	// delivered says that this process has started it, so that the daemon has its token.
	delivered bool
	swaps     int
	// ready is being measured since the start; nil if this process did not start it.
	ready *wait
}

// Outcome tells when to call Step again.
type Outcome struct {
	// Again is the pause before the next step; it is meaningless when Done.
	Again time.Duration
	// Done means that nothing is left to do until the record or the engine changes.
	Done bool
	// For is the request that the step worked for, as the record names it; empty if the record could not be read.
	For sandbox.Origin
}

// Pauses between steps.
const (
	// readyPoll is short because every millisecond of it is felt in each create. A daemon that is not ready after readySoon is on a busy
	// machine, which polling would only keep busier.
	readyPoll     = 2 * time.Millisecond
	readySoon     = 30 * time.Millisecond
	readyPollLate = 15 * time.Millisecond
	// lookEvery is the time between two looks at the engine while a sandbox gets ready: its entry point may end.
	lookEvery   = 50 * time.Millisecond
	engineRetry = 500 * time.Millisecond
	// maxSwaps is how often another port is tried when the leased one is taken.
	maxSwaps = 3
)

var (
	done  = Outcome{Done: true}
	again = Outcome{}
)

func after(d time.Duration) Outcome { return Outcome{Again: d} }

// New returns a Converger.
func New(cfg Config, deps Deps) *Converger {
	if deps.Gate == nil {
		deps.Gate = open{}
	}
	if deps.GiveUp == nil {
		deps.GiveUp = func(ctx context.Context, _ sandbox.ID) (context.Context, func()) { return ctx, func() {} }
	}
	if deps.Cleaned == nil {
		deps.Cleaned = func(sandbox.ID) {}
	}
	if deps.Pulled == nil {
		deps.Pulled = func() {}
	}
	if deps.Stopped == nil {
		deps.Stopped = func([]executor.Ref) error { return nil }
	}
	if deps.Each == nil {
		deps.Each = func(n int, do func(int)) {
			for i := range n {
				do(i)
			}
		}
	}
	if deps.Observe == nil {
		deps.Observe = nobody{}
	}
	if deps.Work == nil {
		deps.Work = untraced
	}
	if deps.Recovery == nil {
		deps.Recovery = believed{deps.Store}
	}
	return &Converger{cfg: cfg, deps: deps, starts: map[sandbox.ID]start{}, cut: newCutOff(deps.WasStopped)}
}

// Step moves the sandbox one step closer to its record. An error means that the store could not be read or written. While the node is cut
// off it does nothing but see to it that everything is stopped.
func (c *Converger) Step(ctx context.Context, now time.Time, id sandbox.ID) (Outcome, error) {
	if c.cutOffFirst(ctx, now) {
		return after(cutOffRetry), nil
	}
	r, err := c.deps.Store.Get(ctx, id)
	if fault.Is(err, fault.NotFound) {
		c.forget(id)
		_, err := c.deps.Recovery.Missed(ctx, id)
		return done, err // what the engine may have of it is garbage, which Compare deals with
	}
	if err != nil {
		return again, err
	}
	if back, err := c.deps.Recovery.Saw(ctx, &r); back || err != nil {
		return after(time.Second), err
	}
	if r.Placement.Node != c.cfg.Node || !r.Placed() || r.Ended() {
		c.forget(id)
		return done, nil
	}
	ctx = sandbox.WithOrigin(ctx, r.Intent.Origin)
	out, err := c.step(ctx, now, &r)
	if sandbox.IsStale(err) || sandbox.IsStopping(err) {
		out, err = c.overtaken(ctx, id, r.Version)
	}
	out.For = r.Intent.Origin
	return out, err
}

// overtaken decides what to do when a write was refused: with a changed record, look again; with the same one, this process is not
// the node's agent any more.
func (c *Converger) overtaken(ctx context.Context, id sandbox.ID, version uint64) (Outcome, error) {
	r, err := c.deps.Store.Get(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return done, nil
	}
	if err != nil {
		return again, err
	}
	if r.Version != version {
		return again, nil
	}
	return after(engineRetry), nil
}

func (c *Converger) step(ctx context.Context, now time.Time, r *sandbox.Record) (Outcome, error) {
	if r.Gone() || r.FailedCreate() {
		return c.remove(ctx, r)
	}
	fresh := r.Observed.Epoch != r.Placement.Epoch || r.Observed.State == ""
	before, _ := c.deps.Recovery.Waits(r)
	if fresh && !before && !c.known(r) && !c.isMarked(ref(r)) {
		// Nothing was ever reported of this placement: try to make it without asking first, which saves a call to the engine.
		return c.make(ctx, now, r)
	}
	if s, ok := c.started(r); ok && (s.fresh || now.Before(s.looked.Add(lookEvery))) {
		if s.fresh {
			return c.awaitStarted(ctx, now, r, s.instance)
		}
		return c.awaitReady(ctx, now, r, s.instance)
	}
	in, err := c.deps.Executor.Inspect(ctx, r.ID)
	switch {
	case fault.Is(err, fault.NotFound):
		return c.missing(ctx, now, r)
	case err != nil:
		return c.engineFailed(ctx, r, err)
	case in.Epoch != r.Placement.Epoch:
		return c.removeOlder(ctx, r, in)
	}
	if out, handled, err := c.stopped(ctx, r, in); handled {
		return out, err
	}
	if !r.Observed.Started {
		return c.begin(ctx, now, r, in)
	}
	return c.keep(ctx, now, r, in)
}

// missing deals with a record that the engine has nothing for.
func (c *Converger) missing(ctx context.Context, now time.Time, r *sandbox.Record) (Outcome, error) {
	switch {
	case r.Over():
		return c.finish(ctx, r)
	case r.Observed.Started:
		c.cfg.Log.WarnContext(ctx, "container lost", "sandbox", r.ID)
		return c.report(ctx, r, sandbox.Report{State: sandbox.StateFailed, Reason: sandbox.ReasonContainerLost,
			Message: "the container was removed by something else than this server"})
	}
	return c.make(ctx, now, r)
}

// finish closes the generation of a sandbox whose entry point has ended, so that nobody waits for it.
func (c *Converger) finish(ctx context.Context, r *sandbox.Record) (Outcome, error) {
	if r.Finished() {
		return done, nil
	}
	return c.report(ctx, r, sandbox.Report{State: r.Observed.State, Reason: r.Observed.Reason, Message: r.Observed.Message,
		ExitCode: r.Observed.ExitCode, Started: r.Observed.Started})
}

// report writes what was seen for the present generation and ends the step.
func (c *Converger) report(ctx context.Context, r *sandbox.Record, rep sandbox.Report) (Outcome, error) {
	rep.Generation = r.Intent.Generation
	work, end := c.deps.Work(ctx, r.Intent.Trace, "agent report")
	next, err := c.send(work, r, rep)
	end(err)
	if err != nil {
		return again, err
	}
	c.cfg.Log.DebugContext(work, "sandbox reported", "sandbox", r.ID, "state", rep.State, "reason", rep.Reason, "epoch", r.Placement.Epoch)
	c.forget(r.ID)
	if next.NeedsWork() {
		return again, nil
	}
	return done, nil
}

// progress writes a message without finishing the generation.
func (c *Converger) progress(ctx context.Context, r *sandbox.Record, rep sandbox.Report) error {
	rep.Generation = 0
	if r.Observed.Epoch == r.Placement.Epoch {
		rep.Generation = r.Observed.Generation
	}
	next, err := c.send(ctx, r, rep)
	if err == nil {
		*r = next
	}
	return err
}

func (c *Converger) send(ctx context.Context, r *sandbox.Record, rep sandbox.Report) (sandbox.Record, error) {
	rep.ID, rep.Node, rep.Epoch, rep.Session = r.ID, c.cfg.Node, r.Placement.Epoch, c.cfg.Session
	rep.RetainFor, rep.Seen = c.cfg.RetainFailed, r
	next, err := c.deps.Store.Report(ctx, rep)
	if err != nil {
		return sandbox.Record{}, fmt.Errorf("report %s of %s: %w", rep.State, r.ID, err)
	}
	return next, nil
}

func ref(r *sandbox.Record) executor.Ref {
	return executor.Ref{ID: r.ID, Epoch: r.Placement.Epoch}
}

func (c *Converger) plan(r *sandbox.Record) executor.Plan {
	p := executor.Plan{
		Ref: ref(r), Tenant: r.Tenant, CreatedAt: r.CreatedAt,
		Image: r.Spec.Image, Entrypoint: r.Spec.Entrypoint, Env: r.Spec.Env, Unset: r.Spec.Unset, Limits: r.Spec.Limits, GPUs: r.Spec.GPUs,
		Volumes: r.Spec.Volumes,
		Runtime: r.Spec.Needs.Runtime, Platform: r.Spec.Needs.Platform,
		Ports: r.Placement.Ports, Token: c.cfg.Token(r.ID, r.Placement.Epoch),
	}
	if r.Spec.Timeout > 0 {
		p.Deadline = r.CreatedAt.Add(r.Spec.Timeout)
	}
	return p
}
