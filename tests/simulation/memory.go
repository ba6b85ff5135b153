package simulation

import (
	"maps"
	"time"

	"opensandbox/libs/sandbox"
	agent "opensandbox/services/runtime-agent/app"
)

// memory is the state directory of a node.
type memory struct {
	known sandbox.Mark
	notes map[sandbox.ID]agent.Note
}

// Known implements agent.Memory.
func (m *memory) Known() (sandbox.Mark, error) { return m.known, nil }

// Keep implements agent.Memory.
func (m *memory) Keep(known sandbox.Mark) error {
	m.known = known
	return nil
}

// Notes implements agent.Memory.
func (m *memory) Notes() (map[sandbox.ID]agent.Note, error) { return maps.Clone(m.notes), nil }

// recover is the loop that looks whether the store has gone back.
func (a *agentLoops) recover(t *thread) {
	for {
		t.sleep(time.Second, nil)
		if err := a.s.Recover(background()); err != nil {
			a.p.say(a.proc.name, "recovery: %v", err)
		}
	}
}

// mirror notes what the sandboxes of the node shall be.
func (a *agentLoops) mirror(t *thread) {
	for {
		t.sleep(2*time.Second, nil)
		records, err := a.p.port().Unmirrored(background(), a.n.name, 100)
		if err != nil || len(records) == 0 {
			continue
		}
		if ok, err := a.s.Believes(background(), records); err != nil || !ok {
			continue
		}
		versions := map[sandbox.ID]uint64{}
		for _, r := range records {
			a.n.memory.notes[r.ID] = agent.Note{Tenant: r.Tenant, CreatedAt: r.CreatedAt, Spec: r.Spec, Intent: r.Intent, Version: r.Version,
				Epoch: r.Placement.Epoch, Ports: r.Placement.Ports, Reserved: r.Placement.Reserved,
				Ran: r.StartedIn(r.Placement.Epoch)}
			versions[r.ID] = r.Version
		}
		_ = a.p.port().Mirrored(background(), a.n.name, versions) // the store is away; they are noted again
	}
}
