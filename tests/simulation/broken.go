package simulation

import (
	"context"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// BrokenVariants are control planes with one rule taken out. The checks must notice each by the promise that the rule is there for.
func BrokenVariants() []Variant {
	return []Variant{
		{Name: "renewals that do not move the deadline index", Breaks: `expired \S+ early`,
			Store: func(_ *world, s *memstore.Store) fullStore { return staleIndex{s, map[sandbox.ID]time.Time{}} }},
		{Name: "work that is forgotten when it is read", Breaks: `never ended|leaked on`,
			Store: func(_ *world, s *memstore.Store) fullStore { return edgeTriggered{s, map[sandbox.ID]uint64{}} }},
		{Name: "cleaned before it is removed", Breaks: `ended and is still on`,
			Engine: func(e *fakeexec.Engine) simulatedEngine { return lazyRemove{e} }},
		{Name: "containers are removed, and nothing else", Breaks: `leaked on \S+: volumes`,
			Engine: func(e *fakeexec.Engine) simulatedEngine { return containersOnly{e} }},
		{Name: "garbage at first sight", Breaks: `was (killed|removed) although it is wanted`, OneLook: true},
		{Name: "a start without the engine's memory of the name", Breaks: `was started twice`,
			Engine: func(e *fakeexec.Engine) simulatedEngine { return forgetful{e} }},
		{Name: "observations of older epochs", Breaks: `has ports .* are given out|where epoch \d+ was never started|is said to be .*, and runs`,
			Store: func(_ *world, s *memstore.Store) fullStore { return unfenced{s} }},
		{Name: "observations of older sessions", Breaks: `leaked on|ended and is still on|is said to be .*, and runs`,
			Store: func(_ *world, s *memstore.Store) fullStore { return sessionless{s} }},
		{Name: "reservation outside the script", Breaks: `has \d+ of \d+ sandboxes and|is leased to`,
			Store: func(w *world, s *memstore.Store) fullStore { return lookThenTake{s, w} }},
		{Name: "loss without having reached the store for a while", Breaks: `which has reached the store for \S+ only`, HastyLoss: true},
		{Name: "an agent that does not mind being cut off", Breaks: cutOffRuns, NoCutOff: true},
		{Name: "an agent that counts from its own start for how long it has been cut off", Breaks: cutOffRuns, ForgetLease: true},
		{Name: "keys that are looked up first and kept later", Breaks: `key \S+ gave \S+ and`,
			Store: func(w *world, s *memstore.Store) fullStore { return looseKeys{s, w, map[string]sandbox.ID{}} }},
		{Name: "a store that went back and is believed", Breaks: `leaked on \S+: \S+ (running|paused)`, Rollback: true,
			Store: func(_ *world, s *memstore.Store) fullStore { return believed{s} }},
	}
}

// cutOffRuns is what is said of a node that runs what may have been given up meanwhile.
const cutOffRuns = `still runs on \S+, which is cut off|was given up while it runs on`

// believed never takes in that it has gone back.
type believed struct{ *memstore.Store }

func (s believed) Recover(ctx context.Context, _ sandbox.Claim) (sandbox.Recovery, error) {
	return s.Recovery(ctx)
}

func (s believed) Place(ctx context.Context, p sandbox.PlaceRequest) (sandbox.Record, error) {
	return s.Store.Place(unmarked(ctx), p)
}

func (s believed) FailUnplaced(ctx context.Context, id sandbox.ID, f sandbox.Failure) (sandbox.Record, error) {
	return s.Store.FailUnplaced(unmarked(ctx), id, f)
}

func (s believed) Lose(ctx context.Context, l sandbox.Loss) (sandbox.Record, error) {
	return s.Store.Lose(unmarked(ctx), l)
}

func (s believed) ExpireDue(ctx context.Context, notAfter time.Time, max int) ([]sandbox.ID, error) {
	return s.Store.ExpireDue(unmarked(ctx), notAfter, max)
}

func (s believed) Register(ctx context.Context, r node.Registration) (node.Node, error) {
	return s.Store.Register(unmarked(ctx), r)
}

func (s believed) RenewLease(ctx context.Context, name string, session uint64) error {
	return s.Store.RenewLease(unmarked(ctx), name, session)
}

// unmarked is ctx of a caller that has never seen the store before.
func unmarked(ctx context.Context) context.Context { return sandbox.WithMark(ctx, sandbox.Mark{}) }

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

func (s edgeTriggered) Work(ctx context.Context, n string, max int) ([]sandbox.Task, error) {
	tasks, err := s.Store.Work(ctx, n, max)
	var out []sandbox.Task
	for _, t := range tasks {
		r, getErr := s.Get(ctx, t.ID)
		if getErr != nil || s.seen[t.ID] >= r.Intent.Generation {
			continue
		}
		s.seen[t.ID] = r.Intent.Generation
		out = append(out, t)
	}
	return out, err
}

func (s edgeTriggered) OnNode(context.Context, string) ([]sandbox.Record, error) { return nil, nil }

// lazyRemove says that it has removed what it has only killed.
type lazyRemove struct{ *fakeexec.Engine }

func (e lazyRemove) Remove(ctx context.Context, r executor.Ref) error { return e.Kill(ctx, r) }

// containersOnly forgets what was made for a container that is not there.
type containersOnly struct{ *fakeexec.Engine }

func (e containersOnly) Remove(ctx context.Context, r executor.Ref) error {
	if in, err := e.Inspect(ctx, r.ID); err != nil || in.Epoch != r.Epoch {
		return nil //nolint:nilerr // it is what is wrong with this one
	}
	return e.Engine.Remove(ctx, r)
}

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

// unfenced takes what an agent says of an earlier placement for the present one.
type unfenced struct{ *memstore.Store }

func (s unfenced) Report(ctx context.Context, rep sandbox.Report) (sandbox.Record, error) {
	r, err := s.Get(ctx, rep.ID)
	if err == nil && rep.Epoch < r.Placement.Epoch {
		rep.Node, rep.Epoch = r.Placement.Node, r.Placement.Epoch
		rep.Session = present(ctx, s.Store, rep.Node)
	}
	return s.Store.Report(ctx, rep)
}

// sessionless takes what any start of a node's agent says, its renewals of the lease included: nothing ends an agent that has a successor.
type sessionless struct{ *memstore.Store }

func (s sessionless) Report(ctx context.Context, rep sandbox.Report) (sandbox.Record, error) {
	rep.Session = present(ctx, s.Store, rep.Node)
	return s.Store.Report(ctx, rep)
}

func (s sessionless) RenewLease(ctx context.Context, name string, _ uint64) error {
	return s.Store.RenewLease(ctx, name, present(ctx, s.Store, name))
}

func (s sessionless) SwapPort(ctx context.Context, p sandbox.PortSwap) (sandbox.Record, error) {
	p.Session = present(ctx, s.Store, p.Node)
	return s.Store.SwapPort(ctx, p)
}

func (s sessionless) Cleaned(ctx context.Context, c sandbox.Cleaned) error {
	c.Session = present(ctx, s.Store, c.Node)
	return s.Store.Cleaned(ctx, c)
}

// present returns the session of a node.
func present(ctx context.Context, s *memstore.Store, name string) uint64 {
	all, _ := s.Nodes(ctx) // a store in memory does not fail
	for _, n := range all {
		if n.Name == name {
			return n.Session
		}
	}
	return 0
}

// lookThenTake looks for room, and takes it a moment later without looking again.
type lookThenTake struct {
	*memstore.Store
	w *world
}

// Unplaced has another order each time, since a scheduler that places several at once keeps none.
func (s lookThenTake) Unplaced(ctx context.Context, max int) ([]sandbox.Record, error) {
	records, err := s.Store.Unplaced(ctx, max)
	s.w.rng.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	return records, err
}

func (s lookThenTake) Place(ctx context.Context, p sandbox.PlaceRequest) (sandbox.Record, error) {
	used, err := s.Usage(ctx)
	if err != nil {
		return sandbox.Record{}, err
	}
	s.w.current.sleep(s.w.between(0, 200*time.Millisecond), nil)
	for i, c := range p.Candidates {
		u := used[c.Node]
		if u.Count < c.MaxSandboxes && sandbox.Lack(u.Reserved.CPU, p.Reserve.CPU, c.Capacity.CPU) < 0 {
			p.Candidates[i].MaxSandboxes, p.Candidates[i].Capacity = 0, sandbox.Resources{}
		}
	}
	return s.Store.Place(ctx, p)
}

// looseKeys looks a key up, makes the record, and notes the key afterwards.
type looseKeys struct {
	*memstore.Store
	w    *world
	held map[string]sandbox.ID
}

func (s looseKeys) Insert(ctx context.Context, n sandbox.New) (sandbox.Record, error) {
	name := n.Key.Name
	if id, ok := s.held[name]; ok && n.Key.Set() {
		r, err := s.Get(ctx, id)
		if err != nil {
			return r, err
		}
		if repeats, err := r.Repeats(n.Key, n.Key.Hash); repeats || err != nil {
			return r, err
		}
	}
	s.w.current.yield()
	n.Key = sandbox.Key{}
	r, err := s.Store.Insert(ctx, n)
	if err == nil && name != "" {
		s.held[name] = r.ID
	}
	return r, err
}
