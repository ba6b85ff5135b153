package simulation

import (
	"context"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// fullStore is all that the control plane needs of a store.
type fullStore interface {
	sandbox.Store
	node.Registry
}

// storePort is the store as the running thread sees it. It looks at what must always hold behind each write.
type storePort struct {
	w     *world
	s     fullStore
	check *checker
}

var _ fullStore = storePort{}

var errAway = fault.New(fault.Unavailable, "the store does not answer").WithCode("STORE::UNAVAILABLE")

// read is one question to the store, which others may be ahead of.
func read[T any](p storePort, do func() (T, error)) (T, error) {
	t := p.w.current
	t.yield()
	if !p.w.reaches(t.proc) {
		return unanswered[T](t)
	}
	return do()
}

// peek is a question that is never in anybody's way, so that nobody needs to run before it.
func peek[T any](p storePort, do func() (T, error)) (T, error) {
	if t := p.w.current; !p.w.reaches(t.proc) {
		return unanswered[T](t)
	}
	return do()
}

// write is one change of the store: others may run before it and after it, and the process may crash or be cut off at either point, so that
// both "not done" and "done, but the caller does not know" are tried.
func write[T any](p storePort, name string, do func() (T, error)) (T, error) {
	t := p.w.current
	t.yield()
	if !p.w.reaches(t.proc) {
		return unanswered[T](t)
	}
	v, err := do()
	if err != nil {
		p.w.say(t.proc.name, "%s: %v", name, err)
	}
	t.yield()
	if !p.w.reaches(t.proc) {
		return unanswered[T](t)
	}
	return v, err
}

// unanswered is what a caller sees of a store that it does not reach: nothing for a while, then an error.
func unanswered[T any](t *thread) (T, error) {
	t.sleep(t.w.between(time.Millisecond, time.Second), nil)
	var none T
	return none, errAway
}

// changed is a write that returns the record that it has changed.
func changed(p storePort, name string, do func() (sandbox.Record, error)) (sandbox.Record, error) {
	return write(p, name, func() (sandbox.Record, error) {
		r, err := do()
		if err == nil {
			p.check.records(r.ID)
		}
		return r, err
	})
}

func do(p storePort, name string, fn func() error) error {
	_, err := write(p, name, func() (struct{}, error) { return struct{}{}, fn() })
	return err
}

func (p storePort) Insert(ctx context.Context, n sandbox.New) (sandbox.Record, error) {
	return changed(p, "Insert", func() (sandbox.Record, error) {
		r, err := p.s.Insert(ctx, n)
		if err == nil {
			p.check.inserted(r.ID)
			p.check.keyed(n.Key.Name, r.ID)
		}
		return r, err
	})
}

func (p storePort) Accept(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return changed(p, "Accept", func() (sandbox.Record, error) { return p.s.Accept(ctx, id) })
}

func (p storePort) SetDesired(ctx context.Context, id sandbox.ID, d sandbox.Desired, g uint64) (sandbox.Record, error) {
	return changed(p, "SetDesired", func() (sandbox.Record, error) { return p.s.SetDesired(ctx, id, d, g) })
}

func (p storePort) SetGone(ctx context.Context, id sandbox.ID, reason string) (sandbox.Record, error) {
	return changed(p, "SetGone", func() (sandbox.Record, error) { return p.s.SetGone(ctx, id, reason) })
}

func (p storePort) Extend(ctx context.Context, id sandbox.ID, at time.Time) (sandbox.Record, error) {
	return changed(p, "Extend", func() (sandbox.Record, error) { return p.s.Extend(ctx, id, at) })
}

func (p storePort) Renew(ctx context.Context, id sandbox.ID, tenant string, at time.Time) (sandbox.Record, error) {
	return changed(p, "Renew", func() (sandbox.Record, error) { return p.s.Renew(ctx, id, tenant, at) })
}

func (p storePort) PatchMetadata(ctx context.Context, id sandbox.ID, tenant string, m map[string]*string) (sandbox.Record, error) {
	return changed(p, "PatchMetadata", func() (sandbox.Record, error) { return p.s.PatchMetadata(ctx, id, tenant, m) })
}

func (p storePort) Unplaced(ctx context.Context, max int) ([]sandbox.Record, error) {
	return read(p, func() ([]sandbox.Record, error) { return p.s.Unplaced(ctx, max) })
}

func (p storePort) CountUnplaced(ctx context.Context) (int, error) {
	return peek(p, func() (int, error) { return p.s.CountUnplaced(ctx) })
}

func (p storePort) Usage(ctx context.Context) (map[string]sandbox.Usage, error) {
	return peek(p, func() (map[string]sandbox.Usage, error) { return p.s.Usage(ctx) })
}

func (p storePort) Place(ctx context.Context, r sandbox.PlaceRequest) (sandbox.Record, error) {
	return changed(p, "Place", func() (sandbox.Record, error) { return p.s.Place(ctx, r) })
}

func (p storePort) FailUnplaced(ctx context.Context, id sandbox.ID, f sandbox.Failure) (sandbox.Record, error) {
	return changed(p, "FailUnplaced", func() (sandbox.Record, error) { return p.s.FailUnplaced(ctx, id, f) })
}

func (p storePort) Lose(ctx context.Context, l sandbox.Loss) (sandbox.Record, error) {
	by := p.w.current.proc
	return changed(p, "Lose", func() (sandbox.Record, error) {
		r, err := p.s.Lose(ctx, l)
		if err == nil {
			p.check.lost(l, by)
		}
		return r, err
	})
}

func (p storePort) ExpireDue(ctx context.Context, notAfter time.Time, max int) ([]sandbox.ID, error) {
	return write(p, "ExpireDue", func() ([]sandbox.ID, error) {
		ids, err := p.s.ExpireDue(ctx, notAfter, max)
		p.check.records(ids...)
		return ids, err
	})
}

// deadline is the answer of NextDeadline.
type deadline struct {
	at time.Time
	ok bool
}

func (p storePort) NextDeadline(ctx context.Context) (time.Time, bool, error) {
	d, err := read(p, func() (deadline, error) {
		at, ok, err := p.s.NextDeadline(ctx)
		return deadline{at, ok}, err
	})
	return d.at, d.ok, err
}

func (p storePort) Attention(ctx context.Context, max int) (due []sandbox.Record, next time.Time, err error) {
	_, err = read(p, func() (struct{}, error) {
		due, next, err = p.s.Attention(ctx, max)
		return struct{}{}, err
	})
	return due, next, err
}

func (p storePort) Purge(ctx context.Context, age time.Duration, max int) (int, error) {
	return peek(p, func() (int, error) { return p.s.Purge(ctx, age, max) })
}

func (p storePort) Work(ctx context.Context, n string, max int) ([]sandbox.Task, error) {
	return read(p, func() ([]sandbox.Task, error) { return p.s.Work(ctx, n, max) })
}

func (p storePort) OnNode(ctx context.Context, n string) ([]sandbox.Record, error) {
	return write(p, "OnNode", func() ([]sandbox.Record, error) { return p.s.OnNode(ctx, n) }) // what is read may be old when it is used
}

func (p storePort) Report(ctx context.Context, r sandbox.Report) (sandbox.Record, error) {
	return changed(p, "Report", func() (sandbox.Record, error) { return p.s.Report(ctx, r) })
}

func (p storePort) SwapPort(ctx context.Context, s sandbox.PortSwap) (sandbox.Record, error) {
	return changed(p, "SwapPort", func() (sandbox.Record, error) { return p.s.SwapPort(ctx, s) })
}

func (p storePort) Cleaned(ctx context.Context, c sandbox.Cleaned) error {
	return do(p, "Cleaned", func() error {
		err := p.s.Cleaned(ctx, c)
		p.check.records(c.ID)
		return err
	})
}

func (p storePort) Unmirrored(ctx context.Context, n string, max int) ([]sandbox.Record, error) {
	return peek(p, func() ([]sandbox.Record, error) { return p.s.Unmirrored(ctx, n, max) })
}

func (p storePort) Mirrored(ctx context.Context, n string, v map[sandbox.ID]uint64) error {
	return do(p, "Mirrored", func() error { return p.s.Mirrored(ctx, n, v) })
}

func (p storePort) Secret(ctx context.Context, id sandbox.ID) ([]byte, error) {
	return read(p, func() ([]byte, error) { return p.s.Secret(ctx, id) })
}

func (p storePort) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return read(p, func() (sandbox.Record, error) { return p.s.Get(ctx, id) })
}

func (p storePort) List(ctx context.Context, q sandbox.Query) (sandbox.Page, error) {
	return read(p, func() (sandbox.Page, error) { return p.s.List(ctx, q) })
}

func (p storePort) Recovery(ctx context.Context) (sandbox.Recovery, error) {
	return read(p, func() (sandbox.Recovery, error) { return p.s.Recovery(ctx) })
}

func (p storePort) GetWithRecovery(ctx context.Context, id sandbox.ID) (r sandbox.Record, now sandbox.Recovery, err error) {
	r, err = read(p, func() (r sandbox.Record, err error) {
		r, now, err = p.s.GetWithRecovery(ctx, id)
		return r, err
	})
	return r, now, err
}

func (p storePort) Recover(ctx context.Context, c sandbox.Claim) (sandbox.Recovery, error) {
	return write(p, "Recover", func() (sandbox.Recovery, error) {
		before := p.check.leases()
		r, err := p.s.Recover(ctx, c)
		p.check.cutShort(before)
		return r, err
	})
}

func (p storePort) Sight(ctx context.Context, s sandbox.Sighting) (sandbox.Record, error) {
	return write(p, "Sight", func() (sandbox.Record, error) {
		r, err := p.s.Sight(ctx, s)
		if err == nil {
			p.check.sighted(s.ID)
		}
		return r, err
	})
}

func (p storePort) Reported(ctx context.Context, name string, session uint64) (sandbox.Recovery, error) {
	return write(p, "Reported", func() (sandbox.Recovery, error) {
		r, err := p.s.Reported(ctx, name, session)
		if err == nil {
			p.check.reported(name)
		}
		return r, err
	})
}

func (p storePort) Settle(ctx context.Context) (sandbox.Recovery, error) {
	return write(p, "Settle", func() (sandbox.Recovery, error) {
		p.check.settling()
		return p.s.Settle(ctx)
	})
}

func (p storePort) CallRoll(ctx context.Context) error {
	return do(p, "CallRoll", func() error { return p.s.CallRoll(ctx) })
}

func (p storePort) Incarnation(ctx context.Context) (time.Time, error) {
	return peek(p, func() (time.Time, error) { return p.s.Incarnation(ctx) })
}

func (p storePort) Now(ctx context.Context) (time.Time, error) {
	return peek(p, func() (time.Time, error) { return p.s.Now(ctx) })
}

func (p storePort) Subscribe(topic sandbox.Topic) (<-chan struct{}, func()) {
	return p.s.Subscribe(topic)
}

func (p storePort) Register(ctx context.Context, r node.Registration) (node.Node, error) {
	return write(p, "Register", func() (node.Node, error) {
		n, err := p.s.Register(ctx, r)
		if err == nil {
			p.check.renewed(r.Name)
		}
		return n, err
	})
}

func (p storePort) RenewLease(ctx context.Context, name string, session uint64) error {
	return do(p, "RenewLease", func() error {
		err := p.s.RenewLease(ctx, name, session)
		if err == nil {
			p.check.renewed(name)
		}
		return err
	})
}

func (p storePort) Release(ctx context.Context, name string, session uint64) error {
	return do(p, "Release", func() error { return p.s.Release(ctx, name, session) })
}

func (p storePort) SetDraining(ctx context.Context, name string, on bool) error {
	return do(p, "SetDraining", func() error { return p.s.SetDraining(ctx, name, on) })
}

func (p storePort) SetImages(ctx context.Context, name string, session uint64, images []string) error {
	return do(p, "SetImages", func() error { return p.s.SetImages(ctx, name, session, images) })
}

func (p storePort) Remove(ctx context.Context, name string) error {
	return do(p, "Remove", func() error { return p.s.Remove(ctx, name) })
}

func (p storePort) Forget(ctx context.Context, name string) error {
	return do(p, "Forget", func() error { return p.s.Forget(ctx, name) })
}

func (p storePort) Nodes(ctx context.Context) ([]node.Node, error) {
	return read(p, func() ([]node.Node, error) { return p.s.Nodes(ctx) })
}

// away reports whether the store did not answer, so that the outcome of a write is unknown.
func away(err error) bool { return fault.Is(err, fault.Unavailable) }
