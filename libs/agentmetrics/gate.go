package agentmetrics

import "context"

// Gate is what engine calls wait at for their turn. Each method returns the function that gives the turn back.
type Gate interface {
	Make(ctx context.Context) (leave func(), err error)
	Kill(ctx context.Context) (leave func(), err error)
	Remove(ctx context.Context) (leave func(), err error)
}

// Gate returns next with its waits measured.
func (m *Metrics) Gate(next Gate) Gate {
	if m == nil {
		return next
	}
	return measuredGate{next, m}
}

type measuredGate struct {
	next Gate
	m    *Metrics
}

func (g measuredGate) Make(ctx context.Context) (func(), error) {
	defer g.m.Waiting(TurnMake)()
	return g.next.Make(ctx)
}

func (g measuredGate) Kill(ctx context.Context) (func(), error) {
	defer g.m.Waiting(TurnKill)()
	return g.next.Kill(ctx)
}

func (g measuredGate) Remove(ctx context.Context) (func(), error) {
	defer g.m.Waiting(TurnRemove)()
	return g.next.Remove(ctx)
}
