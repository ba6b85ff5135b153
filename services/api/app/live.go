package app

import (
	"context"

	"opensandbox/libs/agentrpc"
	"opensandbox/services/api/internal/usecase"
)

// live is the port to the agents in the words of the use cases, which know no wire.
type live struct{ reader agentrpc.LiveReader }

// liveOf returns nil for a server that has no reader.
func liveOf(reader agentrpc.LiveReader) usecase.Live {
	if reader == nil {
		return nil
	}
	return live{reader}
}

func ref(p usecase.Place) agentrpc.Ref { return agentrpc.Ref{Node: p.Node, ID: p.ID, Epoch: p.Epoch} }

func (l live) Logs(ctx context.Context, p usecase.Place, n int) ([]string, error) {
	return l.reader.Logs(ctx, ref(p), n)
}

func (l live) Inspect(ctx context.Context, p usecase.Place) (usecase.Inspection, error) {
	in, err := l.reader.Inspect(ctx, ref(p))
	return usecase.Inspection{
		Phase: string(in.Phase), ExitCode: in.ExitCode, OOMKilled: in.OOMKilled, StartedAt: in.StartedAt, FinishedAt: in.FinishedAt,
		Addresses: in.Addresses, Image: in.Image, Limits: in.Limits,
	}, err
}

func (l live) Events(ctx context.Context, p usecase.Place, n int) ([]usecase.Event, error) {
	all, err := l.reader.Events(ctx, ref(p), n)
	if err != nil {
		return nil, err
	}
	events := make([]usecase.Event, len(all))
	for i, e := range all {
		events[i] = usecase.Event{At: e.At, Action: e.Action, ExitCode: e.ExitCode}
	}
	return events, nil
}
