//go:build e2e

package acceptance

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mountable is a server and what its sandboxes may mount.
type mountable struct {
	*server
	// dir is a directory of the node with a file "in" and a directory "sub".
	dir string
	// claim begins the names of the volumes of this test.
	claim string
}

// withVolumes starts a server whose sandboxes may mount a directory. The volume that stays is removed at the end.
func withVolumes(t *testing.T) mountable {
	t.Helper()
	dir, config := allowed(t)
	if err := os.WriteFile(filepath.Join(dir, "in"), []byte("from the node"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := startSingle(t, config) // the directory is on this node
	v := mountable{s, dir, "clients-" + s.installation()}
	t.Cleanup(func() {
		s.sweep() // what uses it
		_ = exec.Command("docker", "volume", "rm", "-f", v.claim+"-stays").Run()
	})
	return v
}

// check looks at what is left once a client is done: on the node what its sandboxes have written, on the engine the volume that stays, and
// not the one that ends.
func (v mountable) check() {
	v.t.Helper()
	for name, want := range map[string]string{"out": "out\n", "sub/x": "part\n", "in": "from the node"} {
		if text, err := os.ReadFile(filepath.Join(v.dir, name)); err != nil || string(text) != want {
			v.t.Errorf("%s on the node: %q, %v; want %q", name, text, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(v.dir, "x")); err == nil {
		v.t.Error("written through a mount that is read-only")
	}
	if got := docker(v.t, "volume", "ls", "-q", "--filter", "name="+v.claim); got != v.claim+"-stays" {
		v.t.Errorf("the volumes that are left are %q, want %q", got, v.claim+"-stays")
	}
	if left := v.volumes(); len(left) != 0 {
		v.t.Errorf("left though their sandboxes have ended: %v", left)
	}
}

func TestVolumesByThePythonSDK(t *testing.T) {
	t.Parallel()
	python := filepath.Join(needEnv(t, "OPENSANDBOX_TEST_VENV"), "bin", "python")
	for _, kind := range []string{"async", "sync"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			v := withVolumes(t)
			out, err := v.program(python, "clients/volumes.py", kind, image, v.dir, v.claim)
			if err != nil || !strings.Contains(out, kind+" volumes ok") {
				t.Fatalf("%v\n%s", err, out)
			}
			v.check()
		})
	}
}

func TestVolumesByTheJavaScriptSDK(t *testing.T) {
	t.Parallel()
	v := withVolumes(t)
	module := filepath.Join(needEnv(t, "OPENSANDBOX_TEST_NODE_MODULES"), "@alibaba-group", "opensandbox", "dist", "index.js")
	out, err := v.program("node", "clients/volumes.mjs", module, image, v.dir, v.claim)
	if err != nil || !strings.Contains(out, "js volumes ok") {
		t.Fatalf("%v\n%s", err, out)
	}
	v.check()
}

func TestVolumesByTheCLI(t *testing.T) {
	t.Parallel()
	v := withVolumes(t)
	ends := m{"claimName": v.claim + "-ends", "deleteOnSandboxTermination": true}
	text, err := json.Marshal([]m{
		{"name": "whole", "mountPath": "/host", "host": m{"path": v.dir}},
		{"name": "fixed", "mountPath": "/fixed", "readOnly": true, "host": m{"path": v.dir}},
		{"name": "part", "mountPath": "/part", "subPath": "sub", "host": m{"path": v.dir}},
		{"name": "claim", "mountPath": "/claim", "pvc": ends},
		{"name": "claimed", "mountPath": "/claimed", "subPath": "a/b", "pvc": ends},
		{"name": "stays", "mountPath": "/stays", "pvc": m{"claimName": v.claim + "-stays"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "volumes.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	id := v.osbCreate("--volumes-file", file)
	out := v.osb("command", "run", id, "--", "sh", "-c", "cat /host/in; echo; echo out > /host/out; cat /fixed/out; (echo x > /fixed/x) 2>/dev/null || echo read-only; "+
		"echo part > /part/x; cat /host/sub/x; echo claimed > /claimed/x; cat /claim/a/b/x; echo kept > /stays/x; cat /stays/x")
	if want := "from the node\nout\nread-only\npart\nclaimed\nkept\n"; !strings.Contains(out, want) {
		t.Errorf("the sandbox printed %q, want %q in it", out, want)
	}
	v.osb("sandbox", "kill", id)
	v.check()
}
