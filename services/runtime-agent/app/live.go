package app

import (
	"context"
	"net"
	"strconv"
	"time"

	"opensandbox/libs/agentrpc"
	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/history"
)

// Live returns what looks at this node's sandboxes directly: for the internal HTTP API, and for an api in the same process.
func (a *Agent) Live() agentrpc.LiveReader { return live{a.cfg.Node, a.engine, &a.history} }

// portTimeout bounds the connection to a container on the same machine.
const portTimeout = 3 * time.Second

var _ agentrpc.Dialer = live{}

type live struct {
	node    string
	engine  executor.Executor
	history *history.History
}

// find returns what the engine has for an incarnation, and nothing that it has for another one of the same sandbox.
func (l live) find(ctx context.Context, r agentrpc.Ref) (executor.Instance, error) {
	missing := fault.New(fault.NotFound, "the container of the sandbox does not exist").WithCode(sandbox.CodeNotFound).About(string(r.ID))
	if r.Node != l.node {
		return executor.Instance{}, missing
	}
	in, err := l.engine.Inspect(ctx, r.ID)
	if fault.Is(err, fault.NotFound) || (err == nil && in.Epoch != r.Epoch) {
		return executor.Instance{}, missing.Because(err)
	}
	return in, err
}

func (l live) Logs(ctx context.Context, r agentrpc.Ref, n int) ([]string, error) {
	in, err := l.find(ctx, r)
	if err != nil {
		return nil, err
	}
	reader, ok := executor.As[executor.LogReader](l.engine)
	if !ok {
		return nil, fault.New(fault.Unsupported, "the runtime of this sandbox keeps no logs")
	}
	return reader.Tail(ctx, in.Ref, min(n, agentrpc.MaxLines))
}

func (l live) Inspect(ctx context.Context, r agentrpc.Ref) (agentrpc.Inspection, error) {
	in, err := l.find(ctx, r)
	if err != nil {
		return agentrpc.Inspection{}, err
	}
	out := agentrpc.Inspection{
		Phase: in.Phase, Epoch: in.Epoch, OOMKilled: in.OOMKilled, StartedAt: in.StartedAt, FinishedAt: in.FinishedAt,
		Addresses: in.Addresses, Image: in.Image, Limits: in.Limits,
	}
	if in.Phase == executor.Exited {
		code := in.ExitCode
		out.ExitCode = &code
	}
	return out, nil
}

// Events are kept after the container is gone, so the engine is not asked.
func (l live) Events(_ context.Context, r agentrpc.Ref, n int) ([]agentrpc.Event, error) {
	if r.Node != l.node {
		return nil, fault.New(fault.NotFound, "the sandbox is not on this node").WithCode(sandbox.CodeNotFound).About(string(r.ID))
	}
	var out []agentrpc.Event
	for _, e := range l.history.Last(executor.Ref{ID: r.ID, Epoch: r.Epoch}, min(n, agentrpc.MaxEvents)) {
		out = append(out, agentrpc.Event{At: e.At, Action: e.Action, ExitCode: e.ExitCode})
	}
	return out, nil
}

// DialPort implements agentrpc.Dialer: it connects to the container's own address. A sandbox that uses the network of the node has none:
// its ports would be all that listens on the node.
func (l live) DialPort(ctx context.Context, r agentrpc.Ref, port int) (net.Conn, error) {
	in, err := l.find(ctx, r)
	if err != nil {
		return nil, err
	}
	if in.Phase != executor.Running || in.Addresses.OnHost || in.Addresses.ContainerIP == "" {
		return nil, fault.New(fault.Unavailable, "the container of the sandbox has no address").About(string(r.ID)).RetryAfter(time.Second)
	}
	return (&net.Dialer{Timeout: portTimeout}).DialContext(ctx, "tcp", net.JoinHostPort(in.Addresses.ContainerIP, strconv.Itoa(port)))
}
