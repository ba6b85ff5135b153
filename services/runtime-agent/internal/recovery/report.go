package recovery

import (
	"context"
	"fmt"
	"slices"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// told is what a report has come to.
type told struct {
	// containers were reported; of these made had no record any more.
	containers, made int
	// unnoted are containers of which the disk has nothing, gone those that it has and the engine has not.
	unnoted, gone []sandbox.ID
}

// report tells the store of every container of the node.
func (g *Guard) report(ctx context.Context) error {
	notes, err := g.disk.Notes()
	if err != nil {
		g.cfg.Log.WarnContext(ctx, "a note of a sandbox cannot be read; it is taken up with what its container says", "error", err)
	}
	instances, err := g.engine.List(ctx)
	if err != nil {
		return fmt.Errorf("list the engine: %w", err)
	}
	g.mu.Lock()
	session := g.session
	g.mu.Unlock()
	var t told
	there := make(map[sandbox.ID]bool, len(instances))
	for _, in := range instances {
		there[in.ID] = true
		if err := g.sight(ctx, in, notes, session, &t); err != nil {
			return err
		}
	}
	for id, n := range notes {
		if !there[id] && n.Intent.Desired != sandbox.DesiredGone {
			t.gone = append(t.gone, id)
		}
	}
	r, err := g.store.Reported(ctx, g.cfg.Node, session)
	if err != nil {
		return fmt.Errorf("end the report to the store: %w", err)
	}
	g.note(r)
	g.tell(ctx, t)
	return nil
}

// tell logs what the store has been told, and what it could not be told.
func (g *Guard) tell(ctx context.Context, t told) {
	g.cfg.Log.WarnContext(ctx, "the store has been told what this node has", "node", g.cfg.Node, "containers", t.containers, "made", t.made)
	if len(t.unnoted) > 0 {
		g.cfg.Log.WarnContext(ctx, "containers without a note were taken up with what their labels say: renewals and metadata that the store has lost are not restored",
			"node", g.cfg.Node, "count", len(t.unnoted), "sandboxes", some(t.unnoted))
	}
	if len(t.gone) > 0 {
		g.cfg.Log.WarnContext(ctx, "sandboxes are noted and have no container any more: records of theirs that the store has lost are not made again",
			"node", g.cfg.Node, "count", len(t.gone), "sandboxes", some(t.gone))
	}
}

// named is how many ids a line of the log has at most.
const named = 20

// some returns the first ids in their order.
func some(ids []sandbox.ID) []sandbox.ID {
	slices.Sort(ids)
	return ids[:min(len(ids), named)]
}

// sight tells the store of one container, unless that is gone or on its way out.
func (g *Guard) sight(ctx context.Context, in executor.Instance, notes map[sandbox.ID]Note, session uint64, t *told) error {
	listed := in.Ref
	in, err := g.engine.Inspect(ctx, in.ID)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return fmt.Errorf("inspect %s: %w", listed.ID, err)
	case in.Phase == executor.Removing:
		return nil
	}
	n, noted := notes[in.ID]
	s := Sighting(in, n, noted)
	s.Node, s.Session, s.RetainFor = g.cfg.Node, session, g.cfg.RetainFailed
	r, err := g.store.Sight(ctx, s)
	if err != nil {
		return fmt.Errorf("tell the store of %s: %w", in.ID, err)
	}
	t.containers++
	if r.Version == 1 { // any other record of a container has been placed, which was its second version
		t.made++
	}
	if !noted {
		t.unnoted = append(t.unnoted, in.ID)
	}
	return nil
}

// Sighting puts together what the engine and a note say of a container.
func Sighting(in executor.Instance, n Note, noted bool) sandbox.Sighting {
	s := sandbox.Sighting{
		ID: in.ID, Epoch: in.Epoch, Tenant: in.Tenant, CreatedAt: in.CreatedAt,
		Intent:  sandbox.Intent{Desired: sandbox.DesiredRunning, Generation: 1, ExpiresAt: in.Deadline},
		Ports:   in.Addresses.Ports,
		Started: in.Phase == executor.Running || in.Phase == executor.Paused || (in.Phase == executor.Exited && !in.StartedAt.IsZero()),
		Paused:  in.Phase == executor.Paused, Addresses: in.Addresses,
	}
	if !noted {
		// What it was asked for is not known; nobody starts it from this, because it is never made anew.
		s.Spec = sandbox.Spec{Image: in.Image, Entrypoint: []string{"unknown"}, Limits: in.Limits}
		if !in.Deadline.IsZero() {
			s.Spec.Timeout = in.Deadline.Sub(in.CreatedAt)
		}
		return s
	}
	s.Tenant, s.CreatedAt, s.Spec, s.Intent, s.Version = n.Tenant, n.CreatedAt, n.Spec, n.Intent, max(n.Version, 1)
	if n.Epoch == in.Epoch {
		s.Reserved, s.Ran = n.Reserved, s.Started && n.Ran
		if len(n.Ports) > 0 {
			s.Ports = n.Ports
		}
	}
	return s
}
