package recovery

import (
	"context"
	"fmt"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

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
	told := 0
	for _, in := range instances {
		ok, err := g.sight(ctx, in, notes, session)
		if err != nil {
			return err
		}
		if ok {
			told++
		}
	}
	r, err := g.store.Reported(ctx, g.cfg.Node, session)
	if err != nil {
		return fmt.Errorf("end the report to the store: %w", err)
	}
	g.note(r)
	g.cfg.Log.WarnContext(ctx, "the store has been told what this node has", "node", g.cfg.Node, "containers", told)
	return nil
}

// sight tells the store of one container. It reports false for one that is gone or on its way out.
func (g *Guard) sight(ctx context.Context, in executor.Instance, notes map[sandbox.ID]Note, session uint64) (bool, error) {
	listed := in.Ref
	in, err := g.engine.Inspect(ctx, in.ID)
	switch {
	case fault.Is(err, fault.NotFound):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("inspect %s: %w", listed.ID, err)
	case in.Phase == executor.Removing:
		return false, nil
	}
	n, noted := notes[in.ID]
	s := Sighting(in, n, noted)
	s.Node, s.Session, s.RetainFor = g.cfg.Node, session, g.cfg.RetainFailed
	if _, err := g.store.Sight(ctx, s); err != nil {
		return false, fmt.Errorf("tell the store of %s: %w", in.ID, err)
	}
	return true, nil
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
