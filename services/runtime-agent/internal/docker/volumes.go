package docker

import (
	"context"
	"errors"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/api/types/volume"
	"golang.org/x/sys/unix"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/docker/hostpath"
)

// pinDir is the name of the directory in that of the agent in which the engine is shown what it shall mount.
const pinDir = "pins"

// roleClaim marks a volume that was made for a sandbox and stays.
const roleClaim = "claim"

// pinned names what is pinned for an incarnation.
func pinned(r executor.Ref) string { return string(r.ID) + "." + strconv.FormatUint(r.Epoch, 10) }

// mounts returns the volumes of a plan as the engine takes them. What is a path of this machine is pinned until the container has started;
// volumes of the engine that are missing are made with the container, or here, if only a part is wanted.
func (e *Engine) mounts(ctx context.Context, p executor.Plan) ([]mount.Mount, error) {
	e.unpin(ctx, p.Ref) // held for an attempt that did not come to its end
	out := make([]mount.Mount, 0, len(p.Volumes))
	for _, v := range p.Volumes {
		m := mount.Mount{Type: mount.TypeBind, Target: v.MountPath, ReadOnly: v.ReadOnly}
		var err error
		if v.Claim == nil {
			m.Source, err = e.pinHost(p, v)
		} else {
			err = e.mountClaim(ctx, p, v, &m)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// pinHost checks a host path and returns the place that is bound in its stead.
func (e *Engine) pinHost(p executor.Plan, v sandbox.Volume) (string, error) {
	if !e.local {
		return "", refused(v, sandbox.CodeVolumeNotAllowed, "the engine of the node is on another machine than its agent, which cannot check host paths there", nil)
	}
	return e.pin(p, v, path.Join(v.Host, v.SubPath), e.cfg.AllowedHostPaths, sandbox.CodeVolumeNotAllowed)
}

// pin opens a path below one of the allowed directories and returns where it is held.
func (e *Engine) pin(p executor.Plan, v sandbox.Volume, name string, allowed []string, outside string) (string, error) {
	f, err := hostpath.Open(name, allowed)
	switch {
	case errors.Is(err, hostpath.ErrOutside), errors.Is(err, hostpath.ErrChanged), errors.Is(err, hostpath.ErrKind):
		return "", refused(v, outside, err.Error(), err)
	case err != nil:
		return "", refused(v, sandbox.CodeVolumeHostCreate, "the path cannot be opened or made on the node: "+errno(err), err)
	}
	defer f.Close()
	if e.cfg.StateDir == "" {
		return "", refused(v, outside, "the agent of the node has no directory for what is about to be mounted", nil)
	}
	at, err := e.pins.Pin(pinned(p.Ref), f, v.ReadOnly)
	if err != nil {
		return "", refused(v, sandbox.CodeVolumeHostCreate, "the agent of the node may not mount, or its Linux is older than 5.12: "+errno(err), err)
	}
	return at, nil
}

// errno is the part of an error that says nothing of paths: the text of the system's error.
func errno(err error) string {
	if n, ok := errors.AsType[unix.Errno](err); ok {
		return n.Error()
	}
	return "unknown error"
}

// refused is the error of a volume.
func refused(v sandbox.Volume, code, text string, cause error) error {
	kind := fault.Invalid
	if code == sandbox.CodeVolumeHostCreate || code == sandbox.CodeVolumeClaimFailed {
		kind = fault.Internal
	}
	return fault.Newf(kind, "volume %q: %s", v.Name, text).WithCode(code).Because(cause)
}

// mountClaim fills in a volume of the engine.
func (e *Engine) mountClaim(ctx context.Context, p executor.Plan, v sandbox.Volume, m *mount.Mount) error {
	found, err := e.api.VolumeInspect(ctx, v.Claim.Name)
	missing := errdefs.IsNotFound(err)
	switch {
	case missing && !v.Claim.Create:
		return refused(v, sandbox.CodeVolumeClaimNotFound, "the node has no volume "+strconv.Quote(v.Claim.Name)+", and pvc.createIfNotExists is false", err)
	case missing && v.SubPath != "":
		if found, err = e.api.VolumeCreate(ctx, volume.CreateOptions{Name: v.Claim.Name, Labels: e.claimLabels(p, v)}); err != nil {
			return claimFailed(v, err)
		}
	case err != nil && !missing:
		return claimFailed(v, err)
	case !missing && found.Labels[labelRole] != "" && found.Labels[labelRole] != roleClaim:
		return refused(v, sandbox.CodeVolumeClaim, "the volume belongs to the server", nil)
	}
	if v.SubPath != "" {
		return e.mountPart(p, v, found, m)
	}
	// The engine makes what is missing, with these labels, in the same step as the container.
	m.Type, m.Source, m.VolumeOptions = mount.TypeVolume, v.Claim.Name, &mount.VolumeOptions{Labels: e.claimLabels(p, v)}
	return nil
}

func claimFailed(v sandbox.Volume, err error) error {
	if c := classify("volume", err); fault.Is(c, fault.Unavailable) {
		return c
	}
	return refused(v, sandbox.CodeVolumeClaimFailed, "the engine could not give the volume: "+reason(err), err)
}

// mountPart fills in a directory of a volume: by its path where this process can check it, else by the engine, if it can.
func (e *Engine) mountPart(p executor.Plan, v sandbox.Volume, found volume.Volume, m *mount.Mount) error {
	plain := found.Driver == "local" && len(found.Options) == 0 && found.Mountpoint != ""
	if plain && e.local {
		var err error
		m.Source, err = e.pin(p, v, filepath.Join(found.Mountpoint, v.SubPath), []string{found.Mountpoint}, sandbox.CodeVolumeSubPath)
		return err
	}
	if versions.LessThan(e.api.ClientVersion(), "1.45") {
		return refused(v, sandbox.CodeVolumeSubPathSupport, "subPath needs a plain local volume and an agent on the machine of the engine, or Docker 26 or later", nil)
	}
	m.Type, m.Source, m.VolumeOptions = mount.TypeVolume, v.Claim.Name, &mount.VolumeOptions{Subpath: v.SubPath}
	return nil
}

// claimLabels are the labels of a volume that is made for a sandbox.
func (e *Engine) claimLabels(p executor.Plan, v sandbox.Volume) map[string]string {
	l := map[string]string{labelInstallation: e.cfg.Installation, labelNode: e.cfg.Node, labelRole: roleClaim}
	if v.Claim.Delete {
		l[labelOf], l[labelEpoch] = string(p.ID), strconv.FormatUint(p.Epoch, 10)
		l[labelCreated] = p.CreatedAt.UTC().Format(time.RFC3339Nano)
	}
	return l
}

// managed reports whether a volume was made here for a sandbox with which it shall go.
func (e *Engine) managed(l map[string]string) bool {
	return l[labelInstallation] == e.cfg.Installation && l[labelNode] == e.cfg.Node && l[labelOf] != ""
}

// claimsOf returns the volumes of the engine that a container uses, by its labels.
func claimsOf(l map[string]string) []string {
	var out []string
	for k := range l {
		if name, ok := strings.CutPrefix(k, labelClaim); ok {
			out = append(out, name)
		}
	}
	return out
}

// removeClaims removes the volumes that were made for an incarnation, and those of others that it used last. What is used stays.
func (e *Engine) removeClaims(ctx context.Context, r executor.Ref, used []string) error {
	e.claims.Lock()
	defer e.claims.Unlock()
	filter := e.filter()
	filter.Add("label", labelOf+"="+string(r.ID))
	filter.Add("label", labelEpoch+"="+strconv.FormatUint(r.Epoch, 10))
	made, err := e.api.VolumeList(ctx, volume.ListOptions{Filters: filter})
	if err != nil {
		return classify("list volumes", err)
	}
	names := map[string]bool{}
	for _, v := range made.Volumes {
		names[v.Name] = true
	}
	for _, name := range used {
		v, err := e.api.VolumeInspect(ctx, name)
		switch {
		case errdefs.IsNotFound(err):
		case err != nil:
			return classify("inspect volume", err)
		case e.managed(v.Labels):
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if err := e.removeClaim(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) removeClaim(ctx context.Context, name string) error {
	// Whatever its installation: who uses a part of a volume is known by the label only.
	users, err := e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", labelClaim+name))})
	if err != nil {
		return classify("list containers", err)
	}
	if len(users) > 0 {
		return nil
	}
	err = e.api.VolumeRemove(ctx, name, false)
	if err == nil || errdefs.IsNotFound(err) || errdefs.IsConflict(err) { // conflict: it is in use
		return nil
	}
	return classify("remove volume", err)
}

// leftovers are the incarnations without a container that a volume was made for which nothing uses.
func (e *Engine) leftovers(ctx context.Context, all []container.Summary) ([]executor.Instance, error) {
	filter := e.filter()
	filter.Add("label", labelOf)
	filter.Add("dangling", "true")
	made, err := e.api.VolumeList(ctx, volume.ListOptions{Filters: filter})
	if err != nil {
		return nil, classify("list volumes", err)
	}
	known, used := map[executor.Ref]bool{}, map[string]bool{}
	for _, c := range all {
		if in, err := parseLabels(c.Labels); err == nil {
			known[in.Ref] = true
		}
		for _, name := range claimsOf(c.Labels) {
			used[name] = true
		}
	}
	var out []executor.Instance
	for _, v := range made.Volumes {
		if used[v.Name] || !e.managed(v.Labels) {
			continue
		}
		l := maps.Clone(v.Labels)
		l[labelID] = l[labelOf]
		in, err := parseLabels(l)
		if err != nil {
			e.cfg.Log.WarnContext(ctx, "volume with labels that cannot be read is left alone", "volume", v.Name, "error", err)
			continue
		}
		if in.Phase = executor.Leftover; !known[in.Ref] {
			known[in.Ref] = true
			out = append(out, in)
		}
	}
	return out, nil
}
