//go:build e2e

// Package packaging checks what people install: the files of "make install", the systemd unit, the archives of "make dist", and the image of
// the single server.
package packaging

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"opensandbox/libs/secrettest"
)

// root is that of the repository.
const root = "../.."

// run runs a program in the repository and returns what it writes.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// files returns the files below a directory with their modes.
func files(t *testing.T, dir string) map[string]os.FileMode {
	t.Helper()
	out := map[string]os.FileMode{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			out[strings.TrimPrefix(path, dir)] = info.Mode().Perm()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	env := []string{"DESTDIR=" + dir, "PREFIX=/usr"}
	run(t, env, "scripts/install.sh")
	want := map[string]os.FileMode{
		"/usr/bin/opensandbox-server":                    0o755,
		"/lib/systemd/system/opensandbox-server.service": 0o644,
		"/etc/opensandbox/config.toml":                   0o600,
		"/usr/share/doc/opensandbox/config.toml.example": 0o644,
		"/usr/share/doc/opensandbox/install.md":          0o644,
		"/usr/share/doc/opensandbox/configuration.md":    0o644,
		"/usr/share/doc/opensandbox/LICENSE":             0o644,
	}
	got := files(t, dir)
	for path, mode := range want {
		if got[path] != mode {
			t.Errorf("%s has mode %v; want %v", path, got[path], mode)
		}
	}
	if len(got) != len(want) {
		t.Errorf("installed %v", got)
	}
	// A second time, over a configuration that somebody has written.
	config := filepath.Join(dir, "etc/opensandbox/config.toml")
	if err := os.WriteFile(config, []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, env, "scripts/install.sh")
	if text, err := os.ReadFile(config); err != nil || string(text) != "# mine\n" {
		t.Errorf("the configuration was replaced: %q, %v", text, err)
	}
	if cmd := exec.CommandContext(t.Context(), filepath.Join(root, "scripts/install.sh")); true {
		cmd.Env = append(os.Environ(), "DESTDIR="+dir, "PREFIX=relative")
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "absolute") {
			t.Errorf("a relative PREFIX: %v %s", err, out)
		}
	}
}

// TestInstalledConfiguration checks the file that is installed with the program that is installed.
func TestInstalledConfiguration(t *testing.T) {
	for _, file := range []string{"deployments/systemd/config.toml", "deployments/single/config.toml"} {
		run(t, []string{"OPENSANDBOX_SERVER_API_KEY=" + secrettest.New("the API key of the installed server")}, "bin/opensandbox-server", "--config", file, "--check-config")
	}
}

// TestUnit asks systemd itself, which looks for the program that the unit names.
func TestUnit(t *testing.T) {
	dir := t.TempDir()
	run(t, []string{"DESTDIR=" + dir, "PREFIX=/opt/opensandbox"}, "scripts/install.sh")
	unit := filepath.Join(dir, "etc/systemd/system/opensandbox-server.service")
	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("ExecStart=/opt/opensandbox/bin/opensandbox-server ")) || bytes.Contains(text, []byte("@PREFIX@")) {
		t.Errorf("the paths of PREFIX are not in the unit:\n%s", text)
	}
	// The program is below DESTDIR: the unit is checked with the path that it has there.
	program := filepath.Join(dir, "opt/opensandbox/bin/opensandbox-server")
	text = bytes.ReplaceAll(text, []byte("/opt/opensandbox/bin/opensandbox-server"), []byte(program))
	if err := os.WriteFile(unit, text, 0o644); err != nil {
		t.Fatal(err)
	}
	out := run(t, nil, "systemd-analyze", "verify", "--man=no", unit)
	for line := range strings.Lines(out) {
		if strings.Contains(line, "opensandbox-server.service") {
			t.Errorf("systemd-analyze verify: %s", line)
		}
	}
	for _, want := range []string{"StateDirectory=opensandbox", "ProtectSystem=strict", "NoNewPrivileges=yes"} {
		if !slices.Contains(strings.Split(string(text), "\n"), want) {
			t.Errorf("the unit lacks %s", want)
		}
	}
}
