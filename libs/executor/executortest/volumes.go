package executortest

import (
	"context"
	"slices"
	"testing"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// claim returns a volume of the runtime with a name that was not used before.
func (h Harness) claim(t *testing.T) sandbox.Volume {
	t.Helper()
	v := sandbox.Volume{Name: "v", MountPath: "/data", Claim: &sandbox.VolumeClaim{Name: "claim-" + string(h.NewID()), Create: true, Delete: true}}
	t.Cleanup(func() {
		if h.HasVolume(t, v.Claim.Name) {
			t.Errorf("volume %s was left behind", v.Claim.Name)
			h.RemoveVolume(t, v.Claim.Name)
		}
	})
	return v
}

// with returns a plan of a sandbox with volumes.
func (h Harness) with(t *testing.T, volumes ...sandbox.Volume) executor.Plan {
	t.Helper()
	p := h.plan(t, h.Forever)
	p.Volumes = volumes
	return p
}

func (h Harness) wantVolume(t *testing.T, v sandbox.Volume, want bool, when string) {
	t.Helper()
	if got := h.HasVolume(t, v.Claim.Name); got != want {
		t.Errorf("%s: the volume is there: %v, want %v", when, got, want)
	}
}

// leftover returns what List says of an incarnation.
func (h Harness) leftover(t *testing.T, r executor.Ref) (executor.Instance, bool) {
	t.Helper()
	all, err := h.Executor.List(t.Context())
	must(t, "list", err)
	i := slices.IndexFunc(all, func(in executor.Instance) bool { return in.Ref == r })
	if i < 0 {
		return executor.Instance{}, false
	}
	return all[i], true
}

func volumeGoesWithItsSandbox(t *testing.T, h Harness) {
	e := h.Executor
	for name, volumes := range map[string]func(v sandbox.Volume) []sandbox.Volume{
		"the whole": func(v sandbox.Volume) []sandbox.Volume { return []sandbox.Volume{v} },
		"a part":    func(v sandbox.Volume) []sandbox.Volume { v.SubPath = "a/b"; return []sandbox.Volume{v} },
		"the whole, a part": func(v sandbox.Volume) []sandbox.Volume {
			w := v
			w.Name, w.MountPath, w.SubPath = "w", "/w", "x"
			return []sandbox.Volume{v, w}
		},
		"two, one read-only": func(v sandbox.Volume) []sandbox.Volume {
			w := v
			w.Name, w.MountPath, w.ReadOnly = "w", "/w", true
			return []sandbox.Volume{v, w}
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := h.claim(t)
			p := h.with(t, volumes(v)...)
			must(t, "create", e.Create(t.Context(), p))
			must(t, "start", e.Start(t.Context(), p))
			h.wantVolume(t, v, true, "after the start")
			if in, ok := h.leftover(t, p.Ref); !ok || in.Phase == executor.Leftover {
				t.Errorf("listed as %+v, %v; want the container", in, ok)
			}
			must(t, "kill", e.Kill(t.Context(), p.Ref))
			must(t, "remove", e.Remove(t.Context(), p.Ref))
			h.wantVolume(t, v, false, "after the removal")
			must(t, "second remove", e.Remove(t.Context(), p.Ref))
		})
	}
}

func volumeThatStays(t *testing.T, h Harness) {
	e := h.Executor
	kept, found := h.claim(t), h.claim(t)
	kept.Claim.Delete = false
	h.MakeVolume(t, found.Claim.Name)
	for _, v := range []sandbox.Volume{kept, found} {
		p := h.with(t, v)
		must(t, "create", e.Create(t.Context(), p))
		must(t, "remove", e.Remove(t.Context(), p.Ref))
		h.wantVolume(t, v, true, "after the removal of a sandbox that it was not made for, or that keeps it")
		if in, ok := h.leftover(t, p.Ref); ok {
			t.Errorf("listed %+v for a volume that stays", in)
		}
		h.RemoveVolume(t, v.Claim.Name)
	}
}

func volumeIsMissing(t *testing.T, h Harness) {
	e := h.Executor
	made, missing := h.claim(t), h.claim(t)
	missing.Name, missing.MountPath, missing.Claim.Create = "missing", "/missing", false
	p := h.with(t, made, missing)
	err := e.Create(t.Context(), p)
	wantKind(t, "create", err, fault.Invalid)
	if code := fault.CodeOf(err); code != sandbox.CodeVolumeClaimNotFound {
		t.Errorf("create = %v with code %q, want %s", err, code, sandbox.CodeVolumeClaimNotFound)
	}
	h.wantVolume(t, missing, false, "after a create that asked for it")
	must(t, "remove", e.Remove(t.Context(), p.Ref))
	h.wantVolume(t, made, false, "after a create that failed, and its removal")
}

func volumeIsShared(t *testing.T, h Harness) {
	for _, sub := range []string{"", "part"} {
		for _, firstGoes := range []bool{true, false} {
			shared(t, h, sub, firstGoes)
		}
	}
}

// shared runs two sandboxes with one volume, which the first has made.
func shared(t *testing.T, h Harness, sub string, firstGoes bool) {
	t.Helper()
	e := h.Executor
	v := h.claim(t)
	v.SubPath = sub
	first, second := h.with(t, v), h.with(t, v)
	must(t, "create the first", e.Create(t.Context(), first))
	must(t, "create the second", e.Create(t.Context(), second))
	goes, stays := first, second
	if !firstGoes {
		goes, stays = second, first
	}
	must(t, "remove one", e.Remove(t.Context(), goes.Ref))
	h.wantVolume(t, v, true, "while the other uses it")
	if in, ok := h.leftover(t, goes.Ref); ok {
		t.Errorf("listed %+v while the other uses the volume", in)
	}
	must(t, "remove the other", e.Remove(t.Context(), stays.Ref))
	h.wantVolume(t, v, false, "after the last")
}

// volumeIsLeft is what a crash leaves between the making of a volume and of its container, and what one leaves between their removals.
func volumeIsLeft(t *testing.T, h Harness) {
	e := h.Executor
	v := h.claim(t)
	p := h.with(t, v)
	h.LeaveVolume(t, p)
	h.wantVolume(t, v, true, "after the crash")
	in, ok := h.leftover(t, p.Ref)
	if !ok || in.Phase != executor.Leftover || !in.CreatedAt.Equal(p.CreatedAt) {
		t.Errorf("listed as %+v, %v; want a leftover of %v", in, ok, p.CreatedAt)
	}
	_, err := e.Inspect(t.Context(), p.ID)
	wantKind(t, "inspect", err, fault.NotFound)
	must(t, "kill", e.Kill(t.Context(), p.Ref))
	other := p
	other.Epoch = 2
	must(t, "remove of another epoch", e.Remove(t.Context(), other.Ref))
	h.wantVolume(t, v, true, "after the removal of another epoch")
	must(t, "create again", e.Create(t.Context(), p))
	must(t, "remove", e.Remove(t.Context(), p.Ref))
	h.wantVolume(t, v, false, "after the create was repeated, and its removal")
	h.LeaveVolume(t, p)
	must(t, "remove of what is left", e.Remove(t.Context(), p.Ref))
	h.wantVolume(t, v, false, "after the removal of what was left")
}

// volumeOfAnotherEpoch is a sandbox that was placed again where its volume is.
func volumeOfAnotherEpoch(t *testing.T, h Harness) {
	e := h.Executor
	v := h.claim(t)
	old := h.with(t, v)
	h.LeaveVolume(t, old)
	next := old
	next.Epoch, next.CreatedAt = 2, old.CreatedAt.Add(time.Microsecond)
	must(t, "create", e.Create(t.Context(), next))
	must(t, "remove of the older epoch", e.Remove(t.Context(), old.Ref))
	h.wantVolume(t, v, true, "while the newer epoch uses it")
	must(t, "remove", e.Remove(context.WithoutCancel(t.Context()), next.Ref))
	h.wantVolume(t, v, false, "after both")
}
