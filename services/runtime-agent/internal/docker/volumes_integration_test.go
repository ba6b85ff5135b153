//go:build integration

package docker

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/volume"
	"golang.org/x/sys/unix"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/secrettest"
)

func hasVolume(t *testing.T, e *Engine, name string) bool {
	t.Helper()
	all, err := e.api.VolumeList(context.WithoutCancel(t.Context()), volume.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all.Volumes {
		if v.Name == name {
			return true
		}
	}
	return false
}

func makeVolume(t *testing.T, e *Engine, name string) {
	t.Helper()
	if _, err := e.api.VolumeCreate(t.Context(), volume.CreateOptions{Name: name}); err != nil {
		t.Fatal(err)
	}
}

func removeVolume(t *testing.T, e *Engine, name string) {
	t.Helper()
	if err := e.api.VolumeRemove(context.WithoutCancel(t.Context()), name, true); err != nil {
		t.Error(err)
	}
}

// leaveVolume makes the volumes of a plan as a create does that is killed before the container is made.
func leaveVolume(t *testing.T, e *Engine, p executor.Plan) {
	t.Helper()
	for _, v := range p.Volumes {
		if _, err := e.api.VolumeCreate(t.Context(), volume.CreateOptions{Name: v.Claim.Name, Labels: e.claimLabels(p, v)}); err != nil {
			t.Fatal(err)
		}
	}
}

// withHost opens an engine that lets sandboxes mount what is below a directory, which it returns.
func withHost(t *testing.T) (*Engine, string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	allowed := filepath.Join(dir, "allowed")
	if err := os.MkdirAll(filepath.Join(allowed, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	return open(t, func(c *Config) { c.AllowedHostPaths = []string{allowed} }), allowed
}

func hostVolume(path, sub string) sandbox.Volume {
	return sandbox.Volume{Name: "h", MountPath: "/mnt/h", Host: path, SubPath: sub}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestHostVolume(t *testing.T) {
	e, allowed := withHost(t)
	write(t, filepath.Join(allowed, "data", "in"), "hello")
	write(t, filepath.Join(allowed, "file"), "a file")
	readOnly := sandbox.Volume{Name: "r", MountPath: "/mnt/r", Host: allowed + "/data", ReadOnly: true}
	file := sandbox.Volume{Name: "f", MountPath: "/mnt/f", Host: allowed + "/file"}
	p, _ := start(t, e, func(p *executor.Plan) {
		p.Volumes = []sandbox.Volume{hostVolume(allowed+"/data", ""), readOnly, file, {Name: "n", MountPath: "/mnt/n", Host: allowed, SubPath: "new/one"}}
	})
	out, _ := inside(t, e, containerName(p.ID), "sh", "-c", "cat /mnt/h/in /mnt/r/in /mnt/f; echo x > /mnt/r/out; echo y > /mnt/h/out; echo z > /mnt/n/made")
	if !strings.Contains(out, "hellohelloa file") || !strings.Contains(out, "Read-only file system") {
		t.Errorf("inside: %q", out)
	}
	for path, want := range map[string]string{"data/out": "y\n", "new/one/made": "z\n"} {
		if got, err := os.ReadFile(filepath.Join(allowed, path)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	if e.pins.Holds(pinned(p.Ref)) {
		t.Error("something is still held after the start")
	}
	if err := e.Remove(t.Context(), p.Ref); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(allowed, "data", "out")); err != nil {
		t.Errorf("the removal of the sandbox removed what is on the node: %v", err)
	}
}

// TestASwappedPathIsNotMounted puts a link to elsewhere in the place of a directory after it was checked, at each moment.
func TestASwappedPathIsNotMounted(t *testing.T) {
	e, allowed := withHost(t)
	outside := filepath.Dir(allowed)
	data := filepath.Join(allowed, "data")
	write(t, filepath.Join(data, "mine"), "mine")
	swap := func() {
		if err := os.Rename(data, data+"-old"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, data); err != nil {
			t.Fatal(err)
		}
	}
	back := func() {
		if err := os.Remove(data); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(data+"-old", data); err != nil {
			t.Fatal(err)
		}
	}
	plan := func() executor.Plan {
		return executor.Plan{Ref: executor.Ref{ID: newID(), Epoch: 1}, Image: testImage, Entrypoint: []string{"tail", "-f", "/dev/null"}, Ports: freePorts(t), Token: secrettest.New("the token of a daemon"),
			Volumes: []sandbox.Volume{hostVolume(data, "")}}
	}
	// Before the check: the link leads out, and nothing is made.
	swap()
	p := plan()
	err := e.Create(t.Context(), p)
	if !fault.Is(err, fault.Invalid) || fault.CodeOf(err) != sandbox.CodeVolumeNotAllowed {
		t.Errorf("create through a link that leads out: %v (%s)", err, fault.CodeOf(err))
	}
	back()
	// After the check, before the engine mounts it: what was checked is mounted.
	p = plan()
	t.Cleanup(func() {
		if err := e.Remove(context.WithoutCancel(t.Context()), p.Ref); err != nil {
			t.Error(err)
		}
	})
	if err := e.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	swap()
	if err := e.Start(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if out, _ := inside(t, e, containerName(p.ID), "ls", "/mnt/h"); strings.TrimSpace(out) != "mine" {
		t.Errorf("in the sandbox: %q, want what was checked", out)
	}
	back()
	// Before another agent starts what the first had created: the path is checked anew.
	q := plan()
	t.Cleanup(func() {
		if err := e.Remove(context.WithoutCancel(t.Context()), q.Ref); err != nil {
			t.Error(err)
		}
	})
	if err := e.Create(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if err := e.pins.Close(); err != nil { // as the end of the process does
		t.Fatal(err)
	}
	swap()
	if err := e.Start(t.Context(), q); fault.CodeOf(err) != sandbox.CodeVolumeNotAllowed {
		t.Errorf("start by a new agent: %v (%s)", err, fault.CodeOf(err))
	}
	back()
	if err := e.Start(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if out, _ := inside(t, e, containerName(q.ID), "ls", "/mnt/h"); strings.TrimSpace(out) != "mine" {
		t.Errorf("in the sandbox that another agent started: %q", out)
	}
}

func TestHostVolumesThatAreRefused(t *testing.T) {
	e, allowed := withHost(t)
	small := filepath.Join(allowed, "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=4k,nr_inodes=1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	if err := os.Symlink("/", filepath.Join(allowed, "root")); err != nil {
		t.Fatal(err)
	}
	nothing := open(t, nil)
	for name, c := range map[string]struct {
		e    *Engine
		v    sandbox.Volume
		kind fault.Kind
		code string
		text string
	}{
		"nothing is allowed": {nothing, hostVolume(allowed, ""), fault.Invalid, sandbox.CodeVolumeNotAllowed, ""},
		"elsewhere":          {e, hostVolume("/etc", ""), fault.Invalid, sandbox.CodeVolumeNotAllowed, ""},
		"a link out":         {e, hostVolume(allowed+"/root/etc", ""), fault.Invalid, sandbox.CodeVolumeNotAllowed, ""},
		"a part out":         {e, hostVolume(allowed, "root/etc"), fault.Invalid, sandbox.CodeVolumeNotAllowed, ""},
		"a full disk":        {e, hostVolume(small, "new"), fault.Internal, sandbox.CodeVolumeHostCreate, "no space left on device"},
	} {
		p := executor.Plan{Ref: executor.Ref{ID: newID(), Epoch: 1}, Image: testImage, Entrypoint: []string{"true"}, Ports: freePorts(t), Volumes: []sandbox.Volume{c.v}}
		err := c.e.Create(t.Context(), p)
		if !fault.Is(err, c.kind) || fault.CodeOf(err) != c.code || !strings.Contains(fault.TextOf(err), c.text) {
			t.Errorf("%s: %v (%v, %s)", name, err, fault.KindOf(err), fault.CodeOf(err))
		}
		if err := c.e.Remove(t.Context(), p.Ref); err != nil {
			t.Error(err)
		}
	}
}

func TestPartsOfAVolume(t *testing.T) {
	e := open(t, nil)
	claim := "claim-" + string(newID())
	makeVolume(t, e, claim)
	t.Cleanup(func() { removeVolume(t, e, claim) })
	part := func(sub string) sandbox.Volume {
		return sandbox.Volume{Name: "v", MountPath: "/v", SubPath: sub, Claim: &sandbox.VolumeClaim{Name: claim}}
	}
	p, _ := start(t, e, func(p *executor.Plan) {
		whole := part("")
		whole.Name, whole.MountPath = "w", "/w"
		p.Volumes = []sandbox.Volume{part("a/b"), whole}
	})
	out, _ := inside(t, e, containerName(p.ID), "sh", "-c", "echo hello > /v/x; cat /w/a/b/x; ln -s / /w/out; ls /v")
	if out != "hello\nx\n" {
		t.Errorf("inside: %q", out)
	}
	q := executor.Plan{Ref: executor.Ref{ID: newID(), Epoch: 1}, Image: testImage, Entrypoint: []string{"true"}, Ports: freePorts(t), Volumes: []sandbox.Volume{part("out/etc")}}
	if err := e.Create(t.Context(), q); fault.CodeOf(err) != sandbox.CodeVolumeSubPath {
		t.Errorf("a part that leads out of the volume: %v (%s)", err, fault.CodeOf(err))
	}
	own := part("")
	own.Claim = &sandbox.VolumeClaim{Name: e.volume, Create: true}
	q.Volumes = []sandbox.Volume{own}
	if err := e.Create(t.Context(), q); fault.CodeOf(err) != sandbox.CodeVolumeClaim {
		t.Errorf("the volume of the daemon: %v (%s)", err, fault.CodeOf(err))
	}
}
