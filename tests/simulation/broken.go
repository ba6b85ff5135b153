package simulation

import (
	"context"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/memstore"
	"opensandbox/libs/sandbox"
)

// BrokenVariants are control planes with one rule taken out. The checks must notice each.
func BrokenVariants() []Variant {
	return []Variant{
		{Name: "renewals that do not move the deadline index", Store: func(s *memstore.Store) fullStore { return staleIndex{s, map[sandbox.ID]time.Time{}} }},
		{Name: "work that is forgotten when it is read", Store: func(s *memstore.Store) fullStore { return edgeTriggered{s, map[sandbox.ID]uint64{}} }},
		{Name: "cleaned before it is removed", Engine: func(e *fakeexec.Engine) simulatedEngine { return lazyRemove{e} }},
		{Name: "garbage at first sight", OneLook: true},
		{Name: "a start without the engine's memory of the name", Engine: func(e *fakeexec.Engine) simulatedEngine { return forgetful{e} }},
	}
}

// staleIndex expires by the deadline that a sandbox was made with.
type staleIndex struct {
	*memstore.Store
	first map[sandbox.ID]time.Time
}

func (s staleIndex) Insert(ctx context.Context, n sandbox.New) (sandbox.Record, error) {
	r, err := s.Store.Insert(ctx, n)
	if err == nil && !r.Intent.ExpiresAt.IsZero() {
		s.first[r.ID] = r.Intent.ExpiresAt
	}
	return r, err
}

func (s staleIndex) ExpireDue(ctx context.Context, notAfter time.Time, max int) ([]sandbox.ID, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	var out []sandbox.ID
	for id, at := range s.first {
		if at.After(now) || at.After(notAfter) || len(out) == max {
			continue
		}
		delete(s.first, id)
		if _, err := s.SetGone(ctx, id, sandbox.ReasonExpired); err == nil {
			out = append(out, id)
		}
	}
	return out, nil
}

// edgeTriggered hands each piece of work out once, as a message queue without acknowledgement does.
type edgeTriggered struct {
	*memstore.Store
	seen map[sandbox.ID]uint64
}

func (s edgeTriggered) Work(ctx context.Context, n string, max int) ([]sandbox.ID, error) {
	ids, err := s.Store.Work(ctx, n, max)
	var out []sandbox.ID
	for _, id := range ids {
		r, getErr := s.Get(ctx, id)
		if getErr != nil || s.seen[id] >= r.Intent.Generation {
			continue
		}
		s.seen[id] = r.Intent.Generation
		out = append(out, id)
	}
	return out, err
}

func (s edgeTriggered) OnNode(context.Context, string) ([]sandbox.Record, error) { return nil, nil }

// lazyRemove says that it has removed what it has only killed.
type lazyRemove struct{ *fakeexec.Engine }

func (e lazyRemove) Remove(ctx context.Context, r executor.Ref) error { return e.Kill(ctx, r) }

// forgetful makes a second container of a name in place of refusing it.
type forgetful struct{ *fakeexec.Engine }

func (e forgetful) Create(ctx context.Context, p executor.Plan) error {
	if in, err := e.Inspect(ctx, p.ID); err == nil {
		if err := e.Remove(ctx, in.Ref); err != nil {
			return err
		}
	}
	return e.Engine.Create(ctx, p)
}
