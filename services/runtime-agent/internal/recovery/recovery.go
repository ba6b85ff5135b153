// Package recovery notices that the store was lost or went back to an older state, and tells it what the node really has.
package recovery

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

// Store is what recovering needs of the store.
type Store interface {
	Recovery(ctx context.Context) (sandbox.Recovery, error)
	GetWithRecovery(ctx context.Context, id sandbox.ID) (sandbox.Record, sandbox.Recovery, error)
	Recover(ctx context.Context, c sandbox.Claim) (sandbox.Recovery, error)
	Sight(ctx context.Context, s sandbox.Sighting) (sandbox.Record, error)
	Reported(ctx context.Context, node string, session uint64) (sandbox.Recovery, error)
}

// Engine is what recovering needs of the engine.
type Engine interface {
	List(ctx context.Context) ([]executor.Instance, error)
	Inspect(ctx context.Context, id sandbox.ID) (executor.Instance, error)
}

// Note is what the node's disk has of a sandbox.
type Note struct {
	Tenant    string
	CreatedAt time.Time
	Spec      sandbox.Spec
	Intent    sandbox.Intent
	Version   uint64
	// Epoch is that of the placement that had Ports, Reserved and Ran.
	Epoch    uint64
	Ports    map[int]int
	Reserved sandbox.Resources
	// Ran says that it was Running in that placement.
	Ran bool
}

// Disk is what the node remembers by itself.
type Disk interface {
	// Known returns the mark that was last kept; the zero mark if none was.
	Known() (sandbox.Mark, error)
	// Keep keeps a mark.
	Keep(m sandbox.Mark) error
	// Notes returns what is noted of each sandbox. An error is about some of them; the others are returned.
	Notes() (map[sandbox.ID]Note, error)
}

const (
	// Every is how often the store is looked at.
	Every = time.Second
	// keepEvery is how often the mark is kept at most.
	keepEvery = 5 * time.Second
)

// Config is fixed for the life of a Guard.
type Config struct {
	Node string
	// RetainFailed is how long a failed create is shown.
	RetainFailed time.Duration
	// Clock tells when the mark was last kept.
	Clock func() time.Time
	Log   *slog.Logger
}

// Guard remembers how far the store has come. Safe for concurrent use.
type Guard struct {
	cfg    Config
	store  Store
	engine Engine
	disk   Disk

	mu      sync.Mutex
	session uint64
	known   sandbox.Mark
	state   sandbox.Recovery
	// seen is what was last read, in this incarnation, of the records of this node of which something is there or shall be.
	seen   map[sandbox.ID]seen
	kept   sandbox.Mark
	keptAt time.Time
}

// seen is what can only grow of a record, unless the store goes back.
type seen struct {
	version uint64
	// epoch is that of the last placement on this node; 0 if there was none.
	epoch uint64
	// over says that the record was Gone, or its create had failed, which is for ever.
	over bool
}

// New returns a Guard that knows what the disk knows.
func New(cfg Config, store Store, engine Engine, disk Disk) *Guard {
	g := &Guard{cfg: cfg, store: store, engine: engine, disk: disk, seen: map[sandbox.ID]seen{}}
	var err error
	if g.known, err = disk.Known(); err != nil {
		cfg.Log.Warn("the note of how far the store had come cannot be read; the store is taken as it is", "error", err)
	}
	g.kept = g.known
	return g
}

// Registered says which session the store gave to this start of the agent.
func (g *Guard) Registered(session uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.session = session
}

// Look reads how far the store has come, and says so if it has gone back.
func (g *Guard) Look(ctx context.Context) (sandbox.Recovery, error) {
	known := g.mark()
	// Known from before the answer: what another look learns meanwhile may be newer than this answer, and is no reason for a claim.
	r, err := g.store.Recovery(ctx)
	if err != nil {
		return r, fmt.Errorf("look at the store: %w", err)
	}
	return g.looked(ctx, known, r)
}

// looked takes in what the store has answered to somebody who knew a mark.
func (g *Guard) looked(ctx context.Context, known sandbox.Mark, r sandbox.Recovery) (sandbox.Recovery, error) {
	if r.Mark.Behind(known) {
		g.cfg.Log.ErrorContext(ctx, "the store is another one, or has gone back to an older state; it is recovered from what the nodes have",
			"knew", known, "has", r.Mark)
		var err error
		if r, err = g.store.Recover(ctx, sandbox.Claim{Known: known, Node: g.cfg.Node}); err != nil {
			return r, fmt.Errorf("begin the recovery of the store: %w", err)
		}
	}
	g.note(r)
	return r, nil
}

// Guarded calls do under the mark that the store has shown, and once more if the store was behind and a recovery has begun by that. A scheduler
// that has just started relies on a store which renews a lease, or registers a node, not being behind what the agent has seen.
func (g *Guard) Guarded(ctx context.Context, do func(context.Context) error) error {
	err := do(sandbox.WithMark(ctx, g.mark()))
	if fault.CodeOf(err) != sandbox.CodeWentBack {
		return err
	}
	if _, err := g.Look(ctx); err != nil {
		return err
	}
	return do(sandbox.WithMark(ctx, g.mark()))
}

// mark returns the highest mark that the store has shown.
func (g *Guard) mark() sandbox.Mark {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.known
}

// note takes in what the store has answered. Answers may come out of order.
func (g *Guard) note(r sandbox.Recovery) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.Mark.Reaches(g.known) {
		if !r.Mark.Incarnation.Equal(g.known.Incarnation) || r.Awaits(g.cfg.Node) {
			clear(g.seen) // sightings make records whose versions begin anew
		}
		g.known, g.state = r.Mark, r
	}
}

// Saw takes in a record that was read. It reports whether that is one which the store cannot have come to from what was seen of it before:
// then the store has gone back, and others have written so much since that its counter does not show it. A recovery has begun then.
//
// Several read the same records, and one of them may have seen a later state while the answer of another was on its way. So what contradicts is
// read once more before anything is said; that such an answer was late is reported as having gone back, too, since nothing may be done with it.
func (g *Guard) Saw(ctx context.Context, r *sandbox.Record) (wentBack bool, err error) {
	if g.takeIn(r) == "" {
		return false, nil
	}
	now, err := g.Get(ctx, r.ID)
	if fault.Is(err, fault.NotFound) {
		return g.Missed(ctx, r.ID)
	}
	if err != nil {
		return true, err
	}
	why := g.takeIn(&now)
	if why == "" {
		return true, nil
	}
	return true, g.Contradicted(ctx, "the record of "+string(r.ID)+" "+why)
}

// takeIn says what contradicts a record, or takes it in.
func (g *Guard) takeIn(r *sandbox.Record) (why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if why = g.contradicts(r); why == "" {
		g.see(r)
	}
	return why
}

// contradicts says what of a record does not follow from what was seen of it. No two placements share an epoch, so one on another node has
// a higher one.
func (g *Guard) contradicts(r *sandbox.Record) string {
	last, known := g.seen[r.ID]
	switch {
	case !known:
		return ""
	case r.Version < last.version:
		return "is as it was before"
	case last.over && !isOver(r):
		return "had come to its end, and has not"
	case r.Placed() && r.Placement.Node != g.cfg.Node && r.Placement.Epoch <= last.epoch:
		return "was placed anew under an epoch that this node has had"
	}
	return ""
}

// isOver reports whether a record is Gone or a failed create. Its container, which is on its way out, must not be made again by a store that has
// forgotten that.
func isOver(r *sandbox.Record) bool { return r.Gone() || r.FailedCreate() }

func (g *Guard) see(r *sandbox.Record) {
	here := r.Placed() && r.Placement.Node == g.cfg.Node
	if isOver(r) && !here {
		delete(g.seen, r.ID)
		return
	}
	s := seen{r.Version, g.seen[r.ID].epoch, isOver(r)}
	if here {
		s.epoch = r.Placement.Epoch
	}
	g.seen[r.ID] = s
}

// Cleaned takes in that nothing is left here of a sandbox, and that the store knows it.
func (g *Guard) Cleaned(id sandbox.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.seen, id)
}

// Missed takes in that a record was not found, and reports whether it was one that shall be there.
func (g *Guard) Missed(ctx context.Context, id sandbox.ID) (wentBack bool, err error) {
	g.mu.Lock()
	last, known := g.seen[id]
	if last.over {
		delete(g.seen, id)
	}
	g.mu.Unlock()
	if !known || last.over {
		return false, nil
	}
	return true, g.Contradicted(ctx, "the record of "+string(id)+" is gone")
}

// Contradicted begins a recovery although the counter of the store does not ask for one, because of something that the store cannot have
// forgotten otherwise. If one has begun meanwhile, that explains it.
func (g *Guard) Contradicted(ctx context.Context, why string) error {
	r, err := g.Look(ctx)
	if err != nil || r.Going() || r.Awaits(g.cfg.Node) {
		return err
	}
	g.cfg.Log.ErrorContext(ctx, "the store has gone back to an older state; it is recovered from what the nodes have", "why", why)
	ahead := sandbox.Mark{Incarnation: r.Mark.Incarnation, Changes: r.Mark.Changes + 1<<20} // whatever it writes until it takes the claim in
	if r, err = g.store.Recover(ctx, sandbox.Claim{Known: ahead, Node: g.cfg.Node}); err != nil {
		return err
	}
	g.note(r)
	return nil
}

// Step looks once, and tells the store what the node has if it waits for that. It has the shape of a loop's step; Every is when it is called
// again.
func (g *Guard) Step(ctx context.Context) (time.Time, error) {
	r, err := g.Look(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if r.Awaits(g.cfg.Node) {
		if err := g.report(ctx); err != nil {
			return time.Time{}, err
		}
	}
	g.keep(ctx, false)
	return time.Time{}, nil
}

// Close keeps the mark, so that the next start of the agent knows it.
func (g *Guard) Close(ctx context.Context) { g.keep(ctx, true) }

func (g *Guard) keep(ctx context.Context, last bool) {
	now := g.cfg.Clock()
	g.mu.Lock()
	known, due := g.known, last || now.Sub(g.keptAt) >= keepEvery || !g.known.Incarnation.Equal(g.kept.Incarnation)
	if !due || known == g.kept {
		g.mu.Unlock()
		return
	}
	g.kept, g.keptAt = known, now
	g.mu.Unlock()
	if err := g.disk.Keep(known); err != nil {
		g.cfg.Log.WarnContext(ctx, "cannot note how far the store has come; after a crash a loss of the store may not be noticed", "error", err)
	}
}

// Settled asks the store whether what it says may condemn a container: it is neither behind nor being recovered, and it has been told of what
// this node has. What was read from it before the call is then as good as what it says now.
func (g *Guard) Settled(ctx context.Context) (bool, error) {
	r, err := g.Look(ctx)
	if err != nil {
		return false, err
	}
	return !r.Going() && !r.Awaits(g.cfg.Node), nil
}

// Believes is Settled for records that were just read from the store, each of which it takes in: what the disk has noted, a store that goes back
// must not contradict without being noticed.
func (g *Guard) Believes(ctx context.Context, read []sandbox.Record) (bool, error) {
	for i := range read {
		if back, err := g.Saw(ctx, &read[i]); err != nil || back {
			return false, err
		}
	}
	return g.Settled(ctx)
}

// Waits reports whether a record that has no container yet waits since before the store was recovered, and whether the recovery goes on.
func (g *Guard) Waits(r *sandbox.Record) (before, going bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return r.Predates(g.state.Mark.Incarnation), g.state.Going() || g.state.Awaits(g.cfg.Node)
}

// Fresh makes Waits know what the store says now.
func (g *Guard) Fresh(ctx context.Context) error {
	_, err := g.Look(ctx)
	return err
}

// Get is Fresh for a record that is read with it.
func (g *Guard) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	known := g.mark()
	rec, r, err := g.store.GetWithRecovery(ctx, id)
	if err != nil {
		return rec, err
	}
	_, err = g.looked(ctx, known, r)
	return rec, err
}

// Unknown says that there is a container older than the store, of which the store knows nothing: the node has to report again.
func (g *Guard) Unknown(ctx context.Context) error {
	known := g.mark()
	r, err := g.store.Recover(ctx, sandbox.Claim{Known: known, Node: g.cfg.Node, Unknown: true})
	if err == nil {
		g.note(r)
	}
	return err
}

// WentBack reports whether the store has gone back, or is being recovered, as far as it can be asked. It begins nothing.
func (g *Guard) WentBack(ctx context.Context) bool {
	known := g.mark()
	r, err := g.store.Recovery(ctx)
	return err == nil && (r.Going() || r.Mark.Behind(known))
}
