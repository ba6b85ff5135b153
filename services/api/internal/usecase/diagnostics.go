package usecase

import (
	"context"
	"errors"
	"strings"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Place is one placement of a sandbox on its node.
type Place struct {
	ID    sandbox.ID
	Node  string
	Epoch uint64
}

// Live looks at what the engine of a sandbox has at this moment. fault.NotFound when it has nothing for the placement;
// fault.Unavailable when the agent of the node or its engine cannot be asked. Safe for concurrent use.
type Live interface {
	// Logs returns up to n last lines that the entry point wrote; n is at least 1.
	Logs(ctx context.Context, p Place, n int) ([]string, error)
	// Inspect returns what the engine says of the container.
	Inspect(ctx context.Context, p Place) (Inspection, error)
	// Events returns up to n last things that happened to the container, oldest first; n is at least 1.
	Events(ctx context.Context, p Place, n int) ([]Event, error)
}

// Inspection is what an engine says of a container. Environment and access token are not in it, on purpose.
type Inspection struct {
	// Phase is the engine's word: created, running, paused, exited or removing.
	Phase string
	// ExitCode is set once the entry point has ended.
	ExitCode              *int
	OOMKilled             bool
	StartedAt, FinishedAt time.Time
	Addresses             sandbox.Addresses
	Image                 string
	Limits                sandbox.Resources
}

// Event is something that happened to a container.
type Event struct {
	At       time.Time
	Action   string
	ExitCode *int
}

// codeQuery is the wire code of OpenSandbox 1.1.1 for an engine that could not be asked.
const codeQuery = "DOCKER::SANDBOX_QUERY_FAILED"

// recorded returns a record for diagnostics: also one that has ended, or has failed before anyone had its id, for as long as the store
// keeps it. That is when people ask.
func (u *UseCases) recorded(ctx context.Context, ref Ref) (sandbox.Record, error) {
	if u.deps.Live == nil {
		return sandbox.Record{}, fault.New(fault.Unsupported, "diagnostics: not supported by this server")
	}
	r, err := u.deps.Store.Get(ctx, ref.ID)
	if err == nil && r.Tenant != ref.Tenant {
		return sandbox.Record{}, sandbox.ErrNotFound(ref.ID)
	}
	return r, err
}

func placeOf(r *sandbox.Record) Place {
	return Place{ID: r.ID, Node: r.Placement.Node, Epoch: r.Placement.Epoch}
}

// LogsRequest asks for the last Tail lines, at least 1.
type LogsRequest struct {
	Ref
	Tail int
}

// Logs are the last lines of a sandbox.
type Logs struct {
	ID    sandbox.ID
	Lines []string
	// Truncated says that there were more.
	Truncated bool
}

// Logs returns what the entry point wrote. Of a sandbox whose container is gone it is what its last report says. fault.Unavailable when
// the node does not answer.
func (u *UseCases) Logs(ctx context.Context, req LogsRequest) (Logs, error) {
	r, err := u.recorded(ctx, req.Ref)
	if err != nil {
		return Logs{}, err
	}
	lines, err := u.lines(ctx, &r, req.Tail+1)
	if err != nil {
		return Logs{}, err
	}
	more := len(lines) > req.Tail
	return Logs{ID: r.ID, Lines: lines[max(0, len(lines)-req.Tail):], Truncated: more}, nil
}

func (u *UseCases) lines(ctx context.Context, r *sandbox.Record, n int) ([]string, error) {
	if r.Placed() && !r.Ended() {
		lines, err := u.deps.Live.Logs(ctx, placeOf(r), n)
		switch {
		case err == nil:
			return lines, nil
		case fault.Is(err, fault.NotFound): // not made yet, or removed
		case fault.Is(err, fault.Internal) && fault.CodeOf(err) == "" && ctx.Err() == nil:
			return nil, fault.New(fault.Internal, "the logs could not be read").WithCode(codeQuery).Because(err)
		default:
			return nil, err
		}
	}
	if r.Observed.Message == "" {
		return nil, nil
	}
	return strings.Split(strings.TrimRight(r.Observed.Message, "\n"), "\n"), nil
}

// ExamineRequest asks what is known of a sandbox. Events is how many of its events are wanted; 0 means none.
type ExamineRequest struct {
	Ref
	Events int
}

// Examination is what is known of a sandbox.
type Examination struct {
	View
	// Live is what the engine says; nil when it has nothing or could not be asked.
	Live *Inspection
	// Events are those of the engine, oldest first.
	Events []Event
	// Missing says in words for people what could not be found out; empty if nothing is missing.
	Missing string
}

// Examine returns what the record says, and what the engine says if it can be asked: a node that is away costs its half only.
func (u *UseCases) Examine(ctx context.Context, req ExamineRequest) (Examination, error) {
	r, err := u.recorded(ctx, req.Ref)
	if err != nil {
		return Examination{}, err
	}
	x := Examination{View: u.view(ctx, r)}
	if !r.Placed() || r.Ended() {
		return x, nil
	}
	in, inspectErr := u.deps.Live.Inspect(ctx, placeOf(&r))
	if inspectErr == nil {
		x.Live = &in
	}
	var eventsErr error
	if req.Events > 0 && !fault.Is(inspectErr, fault.Unavailable) {
		x.Events, eventsErr = u.deps.Live.Events(ctx, placeOf(&r), req.Events)
	}
	for _, err := range []error{inspectErr, eventsErr} {
		if err == nil || fault.Is(err, fault.NotFound) {
			continue
		}
		if errors.Is(err, context.Canceled) {
			return Examination{}, err
		}
		u.deps.Log.WarnContext(ctx, "the engine of a sandbox could not be asked", "sandbox", r.ID, "node", r.Placement.Node, "error", err)
		x.Missing = fault.TextOf(err)
	}
	return x, nil
}
