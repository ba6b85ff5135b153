// Package nodeloss gives up the sandboxes of nodes that do not come back. It is slow to believe that, because a node that cannot be seen is
// most often one whose observer is cut off.
package nodeloss

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Store is what giving up needs of the store.
type Store interface {
	sandbox.Losses
	Nodes(ctx context.Context) ([]node.Node, error)
	Forget(ctx context.Context, name string) error
	OnNode(ctx context.Context, node string) ([]sandbox.Record, error)
	Usage(ctx context.Context) (map[string]sandbox.Usage, error)
	Now(ctx context.Context) (time.Time, error)
}

// Metrics is what giving up tells of itself.
type Metrics interface {
	// Repaired counts a sandbox that was taken from its node, with KindNodeLost.
	Repaired(kind string)
	// Held notes how many nodes are lost and are not given up because too many would go at once.
	Held(nodes int)
}

// KindNodeLost is the kind of repair that is counted.
const KindNodeLost = "node_lost"

// Config of giving up.
type Config struct {
	// LostAfter is how long a lease must have been over; 0 means that only removed nodes are given up.
	LostAfter time.Duration
	// RetainFailed is how long a failed create is shown.
	RetainFailed time.Duration
}

const (
	// Grace is how much longer than a lease a scheduler must have been in touch with the store before it believes that the agents could
	// have been, too: an agent renews a few seconds after the store has come back.
	Grace = 15 * time.Second
	// MaxGap is the longest time between two successful steps that still counts as being in touch without a gap.
	MaxGap = 5 * time.Second
	// batch bounds the sandboxes that one step gives up.
	batch = 200
)

// GiverUp is a step function. Step must not be called concurrently.
type GiverUp struct {
	cfg     Config
	store   Store
	metrics Metrics
	log     *slog.Logger
	touch   touch
	seen    sights
	// holding says that the rule about too many nodes was in force in the last step.
	holding bool
}

// New returns a GiverUp.
func New(cfg Config, store Store, metrics Metrics, log *slog.Logger) *GiverUp {
	return &GiverUp{cfg: cfg, store: store, metrics: metrics, log: log}
}

// touch is a scheduler's own record of how long it has reached the store without a gap.
type touch struct {
	// since is when it began and last the last success, by the caller's clock; zero since: not in touch.
	since, last time.Time
	// stored is the store's time at the last success.
	stored time.Time
}

// note takes in a success at now, at which the store's clock showed stored. A store whose clock has jumped counts as one that was away:
// leases that were renewed before the jump look as if they had ended long ago.
func (t *touch) note(now, stored time.Time) {
	gap, theirs := now.Sub(t.last), stored.Sub(t.stored)
	if t.since.IsZero() || gap < 0 || gap > MaxGap || theirs < 0 || theirs > MaxGap {
		t.since = now
	}
	t.last, t.stored = now, stored
}

// trusted returns when the record is long enough.
func (t *touch) trusted() time.Time { return t.since.Add(node.LeaseTime + Grace) }

// Step gives up what is lost and returns when to step again, by the clock of now, which must never jump and must count the time that the
// process was stopped or the machine asleep; zero when nothing is about to be lost. An answer that does not come, or a step that comes
// late, begins the time anew for which the store must be reached before anything is declared lost.
func (g *GiverUp) Step(ctx context.Context, now time.Time) (time.Time, error) {
	wake, err := g.step(ctx, now)
	if away(ctx, err) {
		g.touch = touch{}
	}
	return wake, err
}

// away reports whether an error says that the store is not reached, rather than that something is wrong with what was asked of it.
func away(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || fault.Is(err, fault.Unavailable))
}

func (g *GiverUp) step(ctx context.Context, now time.Time) (time.Time, error) {
	nodes, stored, err := g.look(ctx)
	if err != nil {
		g.touch = touch{}
		return time.Time{}, err
	}
	g.touch.note(now, stored)
	g.seen.look(nodes, now, stored)
	left := batch
	var errs []error
	for i := range nodes {
		if !nodes[i].Removed {
			continue
		}
		err := g.removed(ctx, nodes[i].Name, &left)
		if away(ctx, err) {
			return time.Time{}, err
		}
		errs = append(errs, err)
	}
	wake, err := g.unreachable(ctx, nodes, now, stored, &left)
	if left <= 0 {
		wake = now
	}
	return wake, errors.Join(append(errs, err)...)
}

func (g *GiverUp) look(ctx context.Context) ([]node.Node, time.Time, error) {
	stored, err := g.store.Now(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	nodes, err := g.store.Nodes(ctx)
	return nodes, stored, err
}

// removed gives up a node that the operator has taken away, and forgets it when nothing is left on it.
func (g *GiverUp) removed(ctx context.Context, name string, left *int) error {
	empty, err := g.giveUp(ctx, name, time.Time{}, left)
	if err != nil || !empty {
		return err
	}
	err = g.store.Forget(ctx, name)
	switch {
	case sandbox.IsStale(err), fault.Is(err, fault.NotFound):
		return nil // it has come back, or another scheduler was faster
	case err != nil:
		return err
	}
	g.log.InfoContext(ctx, "a removed node has been forgotten", "node", name)
	return nil
}

// unreachable gives up the nodes whose lease has been over for too long, if that can be believed.
func (g *GiverUp) unreachable(ctx context.Context, nodes []node.Node, now, stored time.Time, left *int) (time.Time, error) {
	if g.cfg.LostAfter <= 0 {
		return time.Time{}, nil
	}
	c := count(nodes, g.cfg.LostAfter, &g.seen)
	if len(c.lost) == 0 {
		g.hold(ctx, c, false)
		return c.next, nil
	}
	if at := g.touch.trusted(); now.Before(at) {
		return at, nil
	}
	if len(c.lost)+len(c.soon) > 1 {
		used, err := g.store.Usage(ctx)
		if err != nil {
			return time.Time{}, err
		}
		c.without(used)
	}
	if g.hold(ctx, c, c.tooMany()) {
		return time.Time{}, nil
	}
	var errs []error
	for _, name := range c.lost {
		// What was read may be old by now: this process can have been stopped in the meantime.
		at, err := g.store.Now(ctx)
		if err != nil {
			return time.Time{}, err
		}
		if at.Sub(stored) > MaxGap {
			g.touch = touch{}
			return now, nil
		}
		_, err = g.giveUp(ctx, name, g.seen.leases[name].until, left)
		if away(ctx, err) {
			return time.Time{}, err
		}
		errs = append(errs, err)
	}
	return time.Time{}, errors.Join(errs...)
}

// hold notes whether lost nodes are held, says so when that begins and ends, and returns it.
func (g *GiverUp) hold(ctx context.Context, c census, yes bool) bool {
	held := 0
	if yes {
		held = len(c.lost)
	}
	g.metrics.Held(held)
	switch {
	case yes && !g.holding:
		g.log.ErrorContext(ctx, "more than half of the nodes would be given up at once: none is. Look at the network between agents and store; a node that will not come back can be removed",
			"nodes", c.all, "lost", c.lost, "soon", c.soon)
	case !yes && g.holding:
		g.log.InfoContext(ctx, "lost nodes are no longer held")
	}
	g.holding = yes
	return yes
}

// giveUp takes sandboxes from a node whose lease ended at until, unless it has renewed, until left is used up, and reports whether none is left
// on it. An error about one of them does not hold up the others, unless it says that the store is away.
func (g *GiverUp) giveUp(ctx context.Context, name string, until time.Time, left *int) (empty bool, err error) {
	if *left <= 0 {
		return false, nil
	}
	records, err := g.store.OnNode(ctx, name)
	_, others := sandbox.UnreadOf(err)
	if err != nil && !others {
		return false, err
	}
	given, errs := 0, []error{err} // what cannot be read stays where it is, and so does the node
	defer func() {
		if given > 0 {
			g.log.WarnContext(ctx, "a node is lost; its sandboxes are given up", "node", name, "count", given)
		}
	}()
	for i := range records {
		if *left <= 0 {
			return false, nil
		}
		*left--
		r := &records[i]
		_, err := g.store.Lose(ctx, sandbox.Loss{ID: r.ID, Node: name, Epoch: r.Placement.Epoch, LeaseUntil: until, RetainFor: g.cfg.RetainFailed})
		switch {
		case err == nil:
			given++
			g.log.DebugContext(sandbox.WithOrigin(ctx, r.Intent.Origin), "sandbox given up with its node", "sandbox", r.ID, "node", name, "epoch", r.Placement.Epoch)
			g.metrics.Repaired(KindNodeLost)
		case sandbox.IsStale(err), fault.Is(err, fault.NotFound):
			// The agent is back, or another scheduler was faster.
		case away(ctx, err):
			return false, err
		default:
			errs = append(errs, err)
		}
	}
	return given == len(records) && !others, errors.Join(errs...)
}
