// Package resolve finds the address of a port of a sandbox, from records and nodes that it keeps for a short time.
//
// It writes no record: losing every router loses no state. It starts no goroutine; Run is its only loop.
//
// Hosts come from the registry of nodes and ports from what agents observed. No byte of a request becomes a part of an address, so that
// no request can lead to the loopback or a link-local address of the router's own machine, unless a node says that it is there: with such
// an address as its host, or with none, which means the machine of the router.
package resolve

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandboxproxy/target"
)

// Config of a Resolver. All ages, times and sizes must be positive.
type Config struct {
	// MaxAge is how old the knowledge about a sandbox or a node may be when no hint comes.
	MaxAge time.Duration
	// StoreAway is for how much longer a known address is used while the store does not answer.
	StoreAway time.Duration
	// ReadTimeout bounds one read of the store.
	ReadTimeout time.Duration
	// Size is the largest number of sandboxes that are known at a time.
	Size int
	// NotReady is the wire code of a sandbox that cannot be reached now; empty means CodeNotReady.
	NotReady string
	// Host is where the published ports of a node answer that names no host; empty means the loopback of this machine.
	Host string
}

// Deps of a Resolver.
type Deps struct {
	Queries sandbox.Queries
	Hints   sandbox.Hints
	Nodes   Nodes
	// Way chooses among the addresses of a sandbox; nil means Published.
	Way Way
	// Observer may be nil.
	Observer Observer
	Log      *slog.Logger
}

// Observer is told where the knowledge about a sandbox came from, with one of the words below. It must not block.
type Observer interface {
	Resolved(source string)
}

// Sources of the knowledge about a sandbox, a closed set.
const (
	// FromCache: it was known, or somebody else was reading it.
	FromCache = "cache"
	FromStore = "store"
	// FromStale: it was known, and older than it should be, because the store is away.
	FromStale = "stale"
	// FromNowhere: the store is away.
	FromNowhere = "none"
)

const (
	// probeEvery is how often Run asks a store that is away whether it is back.
	probeEvery = 250 * time.Millisecond
	// silence is after how long without a read Run asks the store anyway, so that a router without requests knows whether it is ready.
	silence = time.Second
	// idleFor is after how long without a request a sandbox is forgotten.
	idleFor = time.Minute
)

var errReadPanicked = errors.New("the read of the store panicked")

// Resolver turns targets into addresses. It may be used concurrently.
type Resolver struct {
	cfg     Config
	deps    Deps
	cache   *cache
	nodes   shared[map[string]place]
	store   availability
	forgive forgiveness
}

// New returns a Resolver. It fails if the configuration is out of range.
func New(cfg Config, deps Deps) (*Resolver, error) {
	if cfg.MaxAge <= 0 || cfg.StoreAway <= 0 || cfg.ReadTimeout <= 0 {
		return nil, errors.New("resolve: ages and times must be positive")
	}
	c, err := newCache(cfg.Size, deps.Hints)
	if err != nil {
		return nil, err
	}
	if deps.Observer == nil {
		deps.Observer = nobody{}
	}
	if deps.Way == nil {
		deps.Way = Published{}
	}
	if cfg.NotReady == "" {
		cfg.NotReady = CodeNotReady
	}
	if cfg.Host == "" {
		cfg.Host = "127.0.0.1"
	}
	return &Resolver{cfg: cfg, deps: deps, cache: c, store: availability{began: time.Now()}}, nil
}

type nobody struct{}

func (nobody) Resolved(string) {}

// Ready returns nil while requests can be forwarded: the store answers, or it has been away for less than Config.StoreAway and there are
// sandboxes whose address is known.
func (r *Resolver) Ready() error {
	if away, since := r.store.awayFor(); away && (since > r.cfg.StoreAway || r.cache.len() == 0) {
		return errors.New("the store does not answer")
	}
	return nil
}

// Resolve returns the address for a target. fault.NotFound for a sandbox that is unknown or gone; fault.Unavailable for one that is
// not running or whose node does not answer, and when the store is away and the sandbox is not known.
func (r *Resolver) Resolve(ctx context.Context, t target.Target) (Upstream, error) {
	v, err := r.record(ctx, t.ID)
	if err != nil {
		return Upstream{}, err
	}
	if err := r.err(&v, t.ID); err != nil {
		return Upstream{}, err
	}
	p, known, err := r.place(ctx, v.node)
	switch {
	case err != nil && ctx.Err() != nil:
		return Upstream{}, err
	case err != nil:
		return Upstream{}, r.storeAway(t.ID, err)
	case !known || !p.live:
		return Upstream{}, r.notReady(t.ID, "its node does not answer")
	}
	if p.host == "" {
		p.host = r.cfg.Host
	}
	return r.deps.Way.Upstream(ctx, Place{ID: t.ID, Epoch: v.epoch, Node: v.node, Host: p.host, Addresses: v.addresses}, t.Port), nil
}

// Forget makes the next Resolve of a sandbox read its record: what was known of it did not lead there.
func (r *Resolver) Forget(id sandbox.ID) { r.cache.outdate(id) }

// record returns what is known of a sandbox, reading it if that is too old.
func (r *Resolver) record(ctx context.Context, id sandbox.ID) (view, error) {
	e := r.cache.of(id)
	e.poll()
	if v, ok := r.stale(e); ok && r.store.isAway() {
		r.deps.Observer.Resolved(FromStale)
		return v, nil
	}
	source := FromCache
	v, err := e.get(ctx, r.cfg.MaxAge, func(ctx context.Context) (view, error) {
		source = FromStore
		return r.read(ctx, id)
	})
	switch {
	case err == nil:
		r.deps.Observer.Resolved(source)
		if !v.exists {
			r.cache.drop(id, e) // ids that strangers make up must not push out known ones
		}
		return v, nil
	case ctx.Err() != nil:
		return view{}, ctx.Err()
	}
	r.failed(ctx, err)
	if v, ok := r.stale(e); ok {
		r.deps.Observer.Resolved(FromStale)
		return v, nil
	}
	if _, _, known := e.last(); !known {
		r.cache.drop(id, e)
	}
	r.deps.Observer.Resolved(FromNowhere)
	return view{}, r.storeAway(id, err)
}

// stale returns the last known view of e if it has an address that may be used while the store is away.
func (r *Resolver) stale(e *entry) (view, bool) {
	v, at, known := e.last()
	return v, known && v.addressable() && time.Since(at) <= r.cfg.MaxAge+r.cfg.StoreAway
}

func (r *Resolver) read(ctx context.Context, id sandbox.ID) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.ReadTimeout)
	defer cancel()
	rec, err := r.deps.Queries.Get(ctx, id)
	refused, classified := errors.AsType[*fault.Error](err)
	if err != nil && (!classified || fault.Is(refused, fault.Unavailable)) {
		return view{}, err
	}
	r.answered(ctx)
	switch {
	case err == nil:
		return viewOf(&rec), nil
	case fault.Is(err, fault.NotFound):
		return view{}, nil
	}
	// The store is there, and the record is not for this version of the router.
	r.deps.Log.ErrorContext(ctx, "a record cannot be read", "sandbox", id, "error", err)
	return view{exists: true, notReady: "its record cannot be read"}, nil
}

// failed notes that the store did not answer, and says so once.
func (r *Resolver) failed(ctx context.Context, err error) {
	if r.store.left() {
		r.deps.Log.WarnContext(ctx, "the store does not answer; traffic goes on to known addresses",
			"for", r.cfg.StoreAway, "error", err)
	}
}

// answered notes that the store has answered.
func (r *Resolver) answered(ctx context.Context) {
	if r.store.heard() {
		r.forgive.begin()
		r.deps.Log.InfoContext(ctx, "the store answers again")
	}
}

// Run forgets what is not used any more, and finds out when a store that was away is back. It returns nil after ctx has ended, and
// has given all subscriptions back then; requests must have ended before.
func (r *Resolver) Run(ctx context.Context) error {
	defer r.cache.clear()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	swept := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if r.store.isAway() || r.store.silentFor() >= silence {
			r.probe(ctx)
		}
		// While the store is away nothing is forgotten: it could not be learned again.
		if time.Since(swept) >= idleFor/2 && !r.store.isAway() {
			swept = time.Now()
			r.cache.sweep(swept.Add(-idleFor))
		}
	}
}

func (r *Resolver) probe(ctx context.Context) {
	probe, cancel := context.WithTimeout(ctx, r.cfg.ReadTimeout)
	defer cancel()
	switch _, err := r.deps.Queries.Now(probe); {
	case err == nil:
		r.answered(ctx)
	case ctx.Err() == nil:
		r.failed(ctx, err)
	}
}

func (r *Resolver) storeAway(id sandbox.ID, err error) error {
	return r.notReady(id, "the store does not answer").Because(err)
}
