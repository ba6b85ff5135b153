// Package placement gives sandboxes that need a node to one. It chooses by what it has read; the store reserves, and checks everything
// again in the step that does, so that any number of schedulers may place at once.
package placement

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Store is what placement needs of the store.
type Store interface {
	sandbox.Placements
	Nodes(ctx context.Context) ([]node.Node, error)
	Now(ctx context.Context) (time.Time, error)
}

// Metrics is what placement tells of its work.
type Metrics interface {
	// Placement counts an attempt with its outcome, one of those below.
	Placement(outcome string)
	// Queue notes how many sandboxes had no node, and since when the first of them has waited; the zero time when there is none.
	Queue(depth int, oldest time.Time)
	// Repaired counts a repair, with KindStoreRecovered.
	Repaired(kind string)
}

// Outcomes of an attempt.
const (
	OutcomePlaced = "placed"
	// OutcomeWaits: nothing fits now.
	OutcomeWaits = "waits"
	// OutcomeFailed: nothing has fitted for too long.
	OutcomeFailed = "failed"
	// OutcomeStale: another scheduler was faster, or the sandbox is not wanted any more.
	OutcomeStale = "stale"
	OutcomeError = "error"
)

// Config of placement.
type Config struct {
	// Wait is how long a sandbox may wait for room before its create fails.
	Wait time.Duration
	// RetainFailed is how long a failed create is shown.
	RetainFailed time.Duration
	// Ports are the container ports that each sandbox gets a port of the node for.
	Ports []int
	// DefaultRequest is reserved for a sandbox that asks for no reservation.
	DefaultRequest sandbox.Resources
	// Parallel is how many sandboxes are placed at once; 0 or 1 means one after the other, in the goroutine of the caller.
	Parallel int
}

// Deps of placement.
type Deps struct {
	Store Store
	// Random decides between nodes that are about equally good.
	Random *rand.Rand
	// Trace begins a span for a record whose trace is parent, and returns what ends it.
	Trace   func(ctx context.Context, parent, name string) (context.Context, func(error))
	Metrics Metrics
	// Recovery tells how far the store is to be believed.
	Recovery Recovery
	Log      *slog.Logger
}

// Recovery tells how far the store is to be believed after it was lost or went back. Safe for concurrent use.
type Recovery interface {
	// Guard returns a context under which the store refuses what it could do wrong if it is behind.
	Guard(ctx context.Context) context.Context
	// Waits reports whether a record waits for a node since before the store was recovered, and whether the recovery goes on.
	Waits(r *sandbox.Record) (before, going bool)
}

// KindStoreRecovered is the kind of repair that is counted for a create whose wait began before the store was recovered.
const KindStoreRecovered = "store_recovered"

const (
	// batch is how many sandboxes are looked at in one step; maxBatch is the limit to which it grows while those at the head of the queue
	// only wait, so that they do not stand in the way of others that would fit.
	batch    = 200
	maxBatch = 1000
	// retry is the pause before a sandbox that found no room is tried again.
	retry = 250 * time.Millisecond
	// ReplaceWait is the least time that a sandbox waits for room after its node was lost: the sandboxes of that node come all at once, and
	// nodes that were away with it may be on their way back.
	ReplaceWait = time.Minute
	// span is the name of the span of an attempt.
	span = "scheduler place"
)

// Placer is a step function. Step must not be called concurrently.
type Placer struct {
	Deps
	cfg    Config
	batch  int
	rivals rivals
	// waiting are the sandboxes that found no room in the last step. They are not traced again until something happens to them.
	waiting map[sandbox.ID]bool
}

// New returns a Placer.
func New(cfg Config, d Deps) *Placer {
	return &Placer{Deps: d, cfg: cfg, batch: batch, waiting: map[sandbox.ID]bool{}}
}

// Step places what is unplaced and returns when to try again what found no room, by the store's clock; zero when everything found some.
func (p *Placer) Step(ctx context.Context) (time.Time, error) {
	records, err := p.Store.Unplaced(ctx, p.batch)
	if err != nil {
		return time.Time{}, err
	}
	if err := p.tell(ctx, records); err != nil {
		return time.Time{}, err
	}
	if len(records) == 0 {
		p.batch, p.waiting = batch, map[sandbox.ID]bool{}
		return time.Time{}, nil
	}
	f, now, err := p.look(ctx)
	if err != nil {
		return time.Time{}, err
	}
	more := len(records) == p.batch
	records, left := p.rivals.share(records, !more, now)
	if more {
		// There are more than one scheduler does in a step: others look at the same ones, and shall not begin with the same.
		p.Random.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	}
	r := &round{Placer: p, fleet: f, now: now, full: map[string]string{}, waits: map[sandbox.ID]bool{}, stale: map[sandbox.ID]bool{}}
	err = r.placeAll(ctx, records)
	p.waiting = r.waits
	p.rivals.met(records, r.stale, now, p.Random)
	if err != nil {
		return time.Time{}, err
	}
	switch {
	case more && left == 0 && len(r.waits) == len(records):
		p.batch = min(2*p.batch, maxBatch)
	case !more:
		p.batch = batch
	}
	switch {
	case more && len(r.waits) < len(records):
		return now, nil
	case left > 0:
		return now.Add(leaveFor), nil
	case len(r.waits) > 0:
		return now.Add(retry), nil
	}
	return time.Time{}, nil
}

// tell notes how many sandboxes need a node. Only where a batch does not have them all do they have to be counted.
func (p *Placer) tell(ctx context.Context, records []sandbox.Record) error {
	depth := len(records)
	if depth == p.batch {
		all, err := p.Store.CountUnplaced(ctx)
		if err != nil {
			return err
		}
		depth = max(depth, all) // others may have been faster meanwhile
	}
	p.Metrics.Queue(depth, oldest(records))
	return nil
}

// look reads what there is to choose from. What is held is of interest only where there is a choice.
func (p *Placer) look(ctx context.Context) (*fleet, time.Time, error) {
	nodes, err := p.Store.Nodes(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	now, err := p.Store.Now(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	f := newFleet(nodes, now, p.Random)
	if f.open < 2 {
		return f, now, nil
	}
	used, err := p.Store.Usage(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	f.holds(used)
	return f, now, nil
}

// since returns from when on a sandbox has waited for its present placement.
func since(r *sandbox.Record) time.Time {
	if r.Placement.Epoch > 0 {
		return r.Observed.At // its node was lost
	}
	return r.CreatedAt
}

func oldest(records []sandbox.Record) time.Time {
	var first time.Time
	for i := range records {
		if at := since(&records[i]); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// giveUpAt returns when the search for a node ends without success.
func (p *Placer) giveUpAt(r *sandbox.Record) time.Time {
	wait := p.cfg.Wait
	if r.Placement.Epoch > 0 {
		wait = max(wait, ReplaceWait)
	}
	return since(r).Add(wait)
}

// round is one step, with what it has learned so far.
type round struct {
	*Placer
	fleet *fleet
	now   time.Time

	mu sync.Mutex
	// full says for each kind of sandbox that found no room what was short; the next of its kind would find none either.
	full  map[string]string
	waits map[sandbox.ID]bool
	// stale are the sandboxes that somebody else was faster with.
	stale map[sandbox.ID]bool
	err   error
}

// placeAll places records in their order, Parallel of them at once. An error about one of them does not hold up the others, unless it says
// that the store is away. It returns one of them.
func (r *round) placeAll(ctx context.Context, records []sandbox.Record) error {
	if r.cfg.Parallel < 2 || len(records) < 2 {
		for i := range records {
			if r.stopped(ctx) {
				break
			}
			r.place(ctx, &records[i])
		}
		return r.err
	}
	next := make(chan *sandbox.Record)
	var workers sync.WaitGroup
	for range min(r.cfg.Parallel, len(records)) {
		workers.Go(func() {
			for rec := range next {
				r.place(ctx, rec)
			}
		})
	}
	for i := range records {
		if r.stopped(ctx) {
			break
		}
		next <- &records[i]
	}
	close(next)
	workers.Wait()
	return r.err
}

// stopped reports whether there is no point in going on.
func (r *round) stopped(ctx context.Context) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ctx.Err() != nil || fault.Is(r.err, fault.Unavailable)
}

// place makes one attempt for one sandbox and notes its outcome. The first attempt is traced, and the one that ends the search.
func (r *round) place(ctx context.Context, rec *sandbox.Record) {
	ctx = sandbox.WithOrigin(ctx, rec.Intent.Origin)
	again := r.waiting[rec.ID]
	end := func(error) {}
	traced := ctx
	if !again {
		traced, end = r.Trace(ctx, rec.Intent.Trace, span)
	}
	outcome, err := r.attempt(traced, rec)
	if again && (outcome == OutcomePlaced || outcome == OutcomeFailed) {
		_, end = r.Trace(ctx, rec.Intent.Trace, span)
	}
	end(err)
	r.Metrics.Placement(outcome)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case outcome == OutcomeWaits:
		r.waits[rec.ID] = true
	case outcome == OutcomeStale:
		r.stale[rec.ID] = true
	case outcome == OutcomeError && (r.err == nil || fault.Is(err, fault.Unavailable)):
		r.err = err
	}
}

// attempt returns what became of one attempt. The error says why it was not placed.
func (r *round) attempt(ctx context.Context, rec *sandbox.Record) (outcome string, err error) {
	if before, going := r.Recovery.Waits(rec); before {
		return r.fromBefore(ctx, rec, going)
	}
	err = r.reserve(ctx, rec)
	switch {
	case err == nil:
		return OutcomePlaced, nil
	case gone(err):
		return OutcomeStale, nil
	case fault.CodeOf(err) != sandbox.ReasonNoCapacity:
		return OutcomeError, err
	case r.now.Before(r.giveUpAt(rec)):
		return OutcomeWaits, err
	}
	r.Log.InfoContext(ctx, "no node has room", "sandbox", rec.ID, "why", fault.TextOf(err))
	return r.fail(ctx, rec, sandbox.ReasonNoCapacity, fault.TextOf(err), err)
}

// fail ends the search for a node.
func (r *round) fail(ctx context.Context, rec *sandbox.Record, reason, text string, why error) (outcome string, err error) {
	_, err = r.Store.FailUnplaced(r.Recovery.Guard(ctx), rec.ID, sandbox.Failure{Reason: reason, Message: text, RetainFor: r.cfg.RetainFailed})
	switch {
	case err == nil:
		return OutcomeFailed, why
	case gone(err):
		return OutcomeStale, nil
	}
	return OutcomeError, err
}

// fromBefore deals with a record that waits since before the store was recovered. A node may have its container: that is known when the
// recovery is over, and then it has failed, because what became of its wait is not known.
func (r *round) fromBefore(ctx context.Context, rec *sandbox.Record, going bool) (outcome string, err error) {
	if going {
		return OutcomeWaits, nil
	}
	r.Log.WarnContext(ctx, "the store was recovered while the sandbox waited for a node", "sandbox", rec.ID)
	outcome, err = r.fail(ctx, rec, sandbox.ReasonStoreRecovered, sandbox.RecoveredMessage, nil)
	if outcome == OutcomeFailed {
		r.Metrics.Repaired(KindStoreRecovered)
	}
	return outcome, err
}

// gone reports whether a record is no longer one that needs a node.
func gone(err error) bool { return sandbox.IsStale(err) || fault.Is(err, fault.NotFound) }

// reserve tries the nodes that come into question, a few at a time. fault.Unavailable with ReasonNoCapacity as code when none has room.
func (r *round) reserve(ctx context.Context, rec *sandbox.Record) error {
	want := rec.Spec.Requests
	if want == (sandbox.Resources{}) {
		want = r.cfg.DefaultRequest
	}
	kind := kindOf(&rec.Spec, want)
	r.mu.Lock()
	text, full := r.full[kind]
	r.mu.Unlock()
	if full {
		return noRoom(rec.ID, text)
	}
	ranking := r.fleet.rank(&rec.Spec, want)
	var short string
	for i, candidates := range ranking.chunks() {
		placed, err := r.Store.Place(r.Recovery.Guard(ctx), sandbox.PlaceRequest{ID: rec.ID, Candidates: candidates, Ports: r.cfg.Ports, Reserve: want, Seen: rec})
		if err == nil {
			r.fleet.took(placed.Placement.Node, want)
			r.Log.DebugContext(ctx, "sandbox placed", "sandbox", rec.ID, "node", placed.Placement.Node, "epoch", placed.Placement.Epoch)
			return nil
		}
		if fault.CodeOf(err) != sandbox.ReasonNoCapacity {
			return err
		}
		if i == 0 {
			short = fault.TextOf(err)
		}
	}
	text = ranking.explain(short)
	r.mu.Lock()
	r.full[kind] = text
	r.mu.Unlock()
	return noRoom(rec.ID, text)
}

func noRoom(id sandbox.ID, text string) error {
	return fault.New(fault.Unavailable, text).WithCode(sandbox.ReasonNoCapacity).About(string(id))
}
