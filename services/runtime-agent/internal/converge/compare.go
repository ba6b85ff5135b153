package converge

import (
	"context"
	"fmt"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// SecondLook is the time between the two looks that make a container without a record garbage.
const SecondLook = 10 * time.Second

// Comparer compares all that the engine has with all that the store says. It remembers what it saw once. Not safe for concurrent
// use.
type Comparer struct {
	c *Converger
	// seen holds the containers without a record since their first sighting; told those whose sighting was logged.
	seen map[executor.Ref]time.Time
	told map[executor.Ref]bool
	// unread are the sandboxes whose record could not be read in this comparison, and unreadBefore those of the one before, which are known.
	unread, unreadBefore map[sandbox.ID]bool
}

// NewComparer returns a Comparer for what c drives.
func NewComparer(c *Converger) *Comparer {
	return &Comparer{c: c, seen: map[executor.Ref]time.Time{}, told: map[executor.Ref]bool{}}
}

// Compare returns the ids that need a step, and when to compare again at the latest (zero: as usual). Garbage is removed on the way.
//
// The engine is listed first and the store is read afterwards, so that a container without a record cannot be one whose record
// came a moment later; and before anything is removed the store is asked once more.
func (k *Comparer) Compare(ctx context.Context, now time.Time) (ids []sandbox.ID, again time.Time, err error) {
	if k.c.cutOffFirst(ctx, now) {
		return nil, now.Add(cutOffRetry), nil
	}
	// Asked first, so that an engine with many containers is not listed again and again while the store is away.
	if _, err := k.c.deps.Store.Now(ctx); err != nil {
		return nil, time.Time{}, err
	}
	instances, err := k.c.deps.Executor.List(ctx)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("list the engine: %w", err)
	}
	k.unread, k.unreadBefore = map[sandbox.ID]bool{}, k.unread
	records, err := k.c.deps.Store.OnNode(ctx, k.c.cfg.Node)
	if unread, others := sandbox.UnreadOf(err); others {
		for _, id := range unread {
			k.leaveAlone(ctx, id)
		}
	} else if err != nil {
		return nil, time.Time{}, err
	}
	incarnation, err := k.c.deps.Store.Incarnation(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	have := k.have(ctx, instances)
	placed := make(map[executor.Ref]bool, len(records))
	for i := range records {
		r := &records[i]
		if back, err := k.c.deps.Recovery.Saw(ctx, r); err != nil || back {
			return nil, now.Add(SecondLook), err
		}
		placed[ref(r)] = true
		differs := !asObserved(r, have[ref(r)])
		if differs && !r.NeedsWork() {
			k.c.deps.Observe.Difference(differenceBehind)
		}
		if r.NeedsWork() || differs {
			ids = append(ids, r.ID)
		}
	}
	strangers := map[executor.Ref]bool{}
	for _, in := range instances {
		if !placed[in.Ref] && !k.unread[in.ID] {
			strangers[in.Ref] = true
		}
	}
	for _, in := range instances {
		if !strangers[in.Ref] {
			continue
		}
		at, err := k.stranger(ctx, now, in, incarnation)
		if err != nil {
			return ids, again, err
		}
		if !at.IsZero() && (again.IsZero() || at.Before(again)) {
			again = at
		}
	}
	for r := range k.seen {
		if !strangers[r] {
			delete(k.seen, r)
			delete(k.told, r)
		}
	}
	return ids, again, nil
}

// have returns the phase of each container.
func (k *Comparer) have(ctx context.Context, instances []executor.Instance) map[executor.Ref]executor.Phase {
	have, count := make(map[executor.Ref]executor.Phase, len(instances)), map[executor.Phase]int{}
	for _, in := range instances {
		have[in.Ref] = in.Phase
		if in.Phase != executor.Leftover {
			count[in.Phase]++
		}
	}
	k.c.deps.Observe.Containers(count)
	k.c.keepMarks(ctx, have)
	return have
}

// asObserved reports whether the engine has what was last reported.
func asObserved(r *sandbox.Record, p executor.Phase) bool {
	switch r.Observed.State {
	case sandbox.StateRunning:
		return p == executor.Running
	case sandbox.StatePaused:
		return p == executor.Paused
	case sandbox.StateFailed, sandbox.StateTerminated:
		return true // whatever became of the container, it is over
	}
	return false
}

// stranger deals with a container that no record on this node accounts for. It returns when to look again.
func (k *Comparer) stranger(ctx context.Context, now time.Time, in executor.Instance, incarnation time.Time) (time.Time, error) {
	r, err := k.c.deps.Store.Get(ctx, in.ID)
	switch {
	case err == nil:
		return time.Time{}, k.superseded(ctx, &r, in)
	case sandbox.IsUnread(err):
		k.leaveAlone(ctx, in.ID)
		return time.Time{}, nil
	case !fault.Is(err, fault.NotFound):
		return time.Time{}, err
	}
	// What is left of a sandbox without a container is not needed to make its record again.
	if !in.CreatedAt.After(incarnation) && in.Phase != executor.Leftover {
		if !k.told[in.Ref] {
			k.told[in.Ref] = true
			k.c.deps.Observe.Difference(differenceOlder)
			k.c.cfg.Log.WarnContext(ctx, "container is older than the store and has no record; the store is told of it", "sandbox", in.ID, "created", in.CreatedAt, "phase", in.Phase)
		}
		return time.Time{}, k.c.deps.Recovery.Unknown(ctx)
	}
	first, ok := k.seen[in.Ref]
	if !ok {
		k.seen[in.Ref] = now
		k.c.deps.Observe.Difference(differenceStranger)
		return now.Add(SecondLook), nil
	}
	if now.Before(first.Add(SecondLook)) {
		return first.Add(SecondLook), nil
	}
	if !k.c.isMarked(in.Ref) { // a node that was away for long may have had sandboxes that are forgotten since
		if back, err := k.c.deps.Recovery.Missed(ctx, in.ID); err != nil || back {
			return now.Add(SecondLook), err
		}
	}
	if ok, err := k.c.deps.Recovery.Settled(ctx); err != nil || !ok {
		return now.Add(SecondLook), err
	}
	k.c.cfg.Log.WarnContext(ctx, "removing container without a record", "sandbox", in.ID, "epoch", in.Epoch, "phase", in.Phase)
	if err := k.c.destroy(ctx, in); err != nil {
		return now.Add(SecondLook), nil // the engine is away or busy; the next comparison tries again
	}
	k.c.deps.Observe.GarbageRemoved()
	return time.Time{}, nil
}

// leaveAlone notes a sandbox whose record cannot be read: what the engine has of it, of whatever epoch, is not ours to judge. It is logged once.
func (k *Comparer) leaveAlone(ctx context.Context, id sandbox.ID) {
	if k.unread[id] {
		return
	}
	k.unread[id] = true
	k.c.deps.Observe.Difference(differenceUnread)
	if !k.unreadBefore[id] {
		k.c.cfg.Log.ErrorContext(ctx, "the record was written by a newer version of this program; what belongs to it is left as it is", "sandbox", id)
	}
}

// superseded removes a container whose record says that it must not be: ended, released, placed anew or placed elsewhere. All of
// these are for ever, so one look is enough. (Two nodes with one epoch, and an end of an older epoch, come from a store that went back.)
func (k *Comparer) superseded(ctx context.Context, r *sandbox.Record, in executor.Instance) error {
	elsewhere := r.Placed() && r.Placement.Node != k.c.cfg.Node
	past := r.Ended() || in.Epoch < r.Placement.Epoch || (in.Epoch == r.Placement.Epoch && (elsewhere || r.Placement.Released))
	if !past {
		return nil // placed after the store was read, or ahead of its record
	}
	ctx = sandbox.WithOrigin(ctx, r.Intent.Origin)
	if ok, err := k.c.deps.Recovery.Settled(ctx); err != nil || !ok {
		return err
	}
	k.c.deps.Observe.Difference(differenceSuperseded)
	k.c.cfg.Log.WarnContext(ctx, "removing container that its record has given up", "sandbox", in.ID, "epoch", in.Epoch, "phase", in.Phase)
	if err := k.c.destroy(ctx, in); err != nil {
		return nil //nolint:nilerr // the engine is away or busy; the next comparison tries again
	}
	err := k.c.deps.Store.Cleaned(ctx, sandbox.Cleaned{ID: in.ID, Node: k.c.cfg.Node, Epoch: in.Epoch, Session: k.c.cfg.Session})
	if sandbox.IsStale(err) {
		return nil
	}
	return err
}
