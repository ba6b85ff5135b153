package converge_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/converge"
)

// volumeRig is a node with one sandbox that has a volume of its own, and one that it found.
func volumeRig(t *testing.T, change func(*sandbox.Spec)) *rig {
	t.Helper()
	r := emptyRig(t)
	r.engine.PutVolume("found")
	spec := sandbox.Spec{Image: "image", Entrypoint: []string{"run"}, Volumes: []sandbox.Volume{
		{Name: "a", MountPath: "/a", Claim: &sandbox.VolumeClaim{Name: "made", Create: true, Delete: true}},
		{Name: "b", MountPath: "/b", Claim: &sandbox.VolumeClaim{Name: "found", Create: true, Delete: true}},
	}}
	if change != nil {
		change(&spec)
	}
	r.insertSpec(id, spec)
	return r
}

func (r *rig) wantVolumes(when string, want ...string) {
	r.t.Helper()
	if got := r.engine.Volumes(); !slices.Equal(got, want) {
		r.t.Errorf("%s: volumes %q, want %q", when, got, want)
	}
}

func (r *rig) gone() {
	r.t.Helper()
	if _, err := r.store.SetGone(r.t.Context(), id, sandbox.ReasonDeleted); err != nil {
		r.t.Fatal(err)
	}
	if rec := r.settle(); !rec.Ended() {
		r.t.Errorf("not ended: %+v", rec)
	}
}

// compare compares until nothing is to be looked at again, and returns what needs a step.
func (r *rig) compare() []sandbox.ID {
	r.t.Helper()
	k := converge.NewComparer(r.conv)
	for {
		ids, again, err := k.Compare(r.t.Context(), r.now)
		if err != nil {
			r.t.Fatal(err)
		}
		if again.IsZero() {
			return ids
		}
		r.now = again
	}
}

func TestAVolumeEndsWithItsSandbox(t *testing.T) {
	t.Parallel()
	died := errors.New("the agent died")
	for name, end := range map[string]func(r *rig){
		"deleted": func(r *rig) {
			r.want("made", sandbox.StateRunning, sandbox.ReasonRunning)
			r.wantVolumes("while it runs", "found", "made")
			r.gone()
		},
		"lost by hand": func(r *rig) {
			r.want("made", sandbox.StateRunning, sandbox.ReasonRunning)
			r.engine.RemoveByHand(id)
			r.want("lost", sandbox.StateFailed, sandbox.ReasonContainerLost)
			r.gone()
		},
		"refused after the volume was made": func(r *rig) {
			r.engine.FailNext(fakeexec.AfterVolumes, errors.New("refused"))
			r.settle()
		},
		"deleted before its container was made": func(r *rig) {
			r.engine.FailNext(fakeexec.AfterVolumes, died)
			_ = r.engine.Create(r.t.Context(), r.plan()) // by an agent that then died
			r.wantVolumes("after the crash", "found", "made")
			r.restart()
			r.gone()
		},
		"the agent died before its volume was removed": func(r *rig) {
			r.want("made", sandbox.StateRunning, sandbox.ReasonRunning)
			r.engine.RemoveByHand(id)
			r.restart()
			r.gone()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := volumeRig(t, nil)
			end(r)
			r.wantVolumes("at the end", "found")
		})
	}
}

// plan is what the agent makes of the record.
func (r *rig) plan() executor.Plan {
	rec := r.record()
	return executor.Plan{Ref: executor.Ref{ID: id, Epoch: rec.Placement.Epoch}, CreatedAt: rec.CreatedAt, Image: rec.Spec.Image, Entrypoint: rec.Spec.Entrypoint,
		Volumes: rec.Spec.Volumes, Ports: rec.Placement.Ports}
}

func TestAVolumeWithoutARecordIsGarbage(t *testing.T) {
	t.Parallel()
	r := emptyRig(t)
	leave := func(ref executor.Ref, name string, created time.Time) {
		r.engine.FailNext(fakeexec.AfterVolumes, errors.New("the agent died"))
		_ = r.engine.Create(t.Context(), executor.Plan{Ref: ref, CreatedAt: created, Volumes: []sandbox.Volume{
			{Name: "v", MountPath: "/v", Claim: &sandbox.VolumeClaim{Name: name, Create: true, Delete: true}}}})
	}
	leave(executor.Ref{ID: "young", Epoch: 1}, "young", r.now.Add(time.Second))
	leave(executor.Ref{ID: "old", Epoch: 1}, "old", r.now.Add(-time.Hour))
	r.wantVolumes("before", "old", "young")
	k := converge.NewComparer(r.conv)
	_, again, err := k.Compare(t.Context(), r.now)
	if err != nil || again.IsZero() {
		t.Fatalf("first look: again at %v, %v", again, err)
	}
	r.wantVolumes("after one look", "old", "young")
	if _, _, err := k.Compare(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	// A container that is older than the store tells it of a sandbox that it has lost. A volume alone is none.
	r.wantVolumes("after two looks")
}

func TestAVolumeOfAnOlderPlacementIsRemoved(t *testing.T) {
	t.Parallel()
	r := volumeRig(t, func(s *sandbox.Spec) { s.Volumes = nil })
	rec := r.want("made", sandbox.StateRunning, sandbox.ReasonRunning)
	r.engine.FailNext(fakeexec.AfterVolumes, errors.New("the agent died"))
	_ = r.engine.Create(t.Context(), executor.Plan{Ref: executor.Ref{ID: "other", Epoch: rec.Placement.Epoch}, CreatedAt: rec.CreatedAt, Volumes: []sandbox.Volume{
		{Name: "v", MountPath: "/v", Claim: &sandbox.VolumeClaim{Name: "left", Create: true, Delete: true}}}})
	r.insert("other")
	if _, err := r.store.SetGone(t.Context(), "other", sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if out, err := r.conv.Step(t.Context(), r.now, "other"); err != nil || out.Done {
			break
		}
	}
	r.compare()
	r.wantVolumes("after the comparison", "found")
}

func TestAVolumeThatIsMissingFailsTheCreate(t *testing.T) {
	t.Parallel()
	r := volumeRig(t, func(s *sandbox.Spec) { s.Volumes[1].Claim = &sandbox.VolumeClaim{Name: "no-such"} })
	rec := r.settle()
	if rec.Observed.State != sandbox.StateFailed || rec.Observed.Reason != "VOLUME_PVC_NOT_FOUND" {
		t.Errorf("%+v", rec.Observed)
	}
	r.wantVolumes("at the end", "found")
}
