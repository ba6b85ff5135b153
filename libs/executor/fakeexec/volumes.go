package fakeexec

import (
	"maps"
	"slices"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// volume is a named volume of the engine.
type volume struct {
	// owner is what it was made for and shall go with; the zero Ref: it stays.
	owner executor.Ref
	// created is the creation time of the owner's record.
	created time.Time
}

// makeVolumes makes the volumes of a plan that are missing.
func (e *Engine) makeVolumes(p executor.Plan) error {
	for _, v := range p.Volumes {
		if v.Claim == nil || e.volumes[v.Claim.Name] != nil {
			continue
		}
		if !v.Claim.Create {
			return fault.Newf(fault.Invalid, "there is no volume %q", v.Claim.Name).WithCode(sandbox.CodeVolumeClaimNotFound)
		}
		made := &volume{}
		if v.Claim.Delete {
			made.owner, made.created = p.Ref, p.CreatedAt
		}
		e.volumes[v.Claim.Name] = made
	}
	return nil
}

// used reports whether a container has a volume.
func (e *Engine) used(name string) bool {
	for _, b := range e.boxes {
		if uses(b.plan, name) {
			return true
		}
	}
	return false
}

func uses(p executor.Plan, name string) bool {
	return slices.ContainsFunc(p.Volumes, func(v sandbox.Volume) bool { return v.Claim != nil && v.Claim.Name == name })
}

// removeVolumes removes what was made for an incarnation, and what it used last of what was made for others.
func (e *Engine) removeVolumes(r executor.Ref, last executor.Plan) {
	maps.DeleteFunc(e.volumes, func(name string, v *volume) bool {
		mine := v.owner == r || v.owner.ID != "" && uses(last, name)
		return mine && !e.used(name)
	})
}

// leftovers are the incarnations of which only volumes are left, by id and epoch.
func (e *Engine) leftovers() []executor.Instance {
	var out []executor.Instance
	for _, name := range slices.Sorted(maps.Keys(e.volumes)) {
		v := e.volumes[name]
		b := e.boxes[v.owner.ID]
		if v.owner.ID == "" || e.used(name) || b != nil && b.in.Epoch == v.owner.Epoch {
			continue
		}
		in := executor.Instance{Ref: v.owner, CreatedAt: v.created, Phase: executor.Leftover}
		if !slices.ContainsFunc(out, func(o executor.Instance) bool { return o.Ref == in.Ref }) {
			out = append(out, in)
		}
	}
	return out
}

// PutVolume places a volume that somebody else has made.
func (e *Engine) PutVolume(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.volumes[name] = &volume{}
}

// RemoveVolume takes a volume away as an operator would.
func (e *Engine) RemoveVolume(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.volumes, name)
}

// Volumes returns the names of all volumes, whether or not the engine answers.
func (e *Engine) Volumes() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.volumes))
}
