// Package setup tests the scripts that prepare a machine, with stand-ins for the programs that would change it.
package setup

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	refused = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
	denied  = "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock"
)

// stands are the stand-ins. Each notes its call in $STATE/calls; $STATE/up exists while the engine answers; with
// $STATE/up-later it answers from the second question on.
var stands = map[string]string{
	"docker": `case "$1" in
		version)
			if [ -f "$STATE/up-later" ] && [ -f "$STATE/looked" ]; then touch "$STATE/up"; fi
			touch "$STATE/looked"
			if [ -f "$STATE/up" ]; then echo 20.10.24; else cat "$STATE/refusal" >&2; exit 1; fi ;;
		context) cat "$STATE/context" ;;
	esac`,
	"dockerd":   `echo dockerd >>"$STATE/calls"; if [ -f "$STATE/broken" ]; then echo "no cgroup mount" >&2; exit 1; fi; touch "$STATE/up"; while [ -d "$STATE/bin" ]; do sleep 0.1; done`,
	"systemctl": `echo "systemctl $*" >>"$STATE/calls"; touch "$STATE/up"`,
	"apt-get": `echo "apt-get $*" >>"$STATE/calls"
		[ "$1" = install ] || exit 0
		[ ! -f "$STATE/no-packages" ] || exit 100
		ln -sf "$STATE/docker" "$STATE/dockerd" "$STATE/bin/"`,
	"dpkg": `[ -f "$STATE/package" ]`,
	"id":   `cat "$STATE/user"`,
}

// tools are the real programs that the script may use; nothing else is in its PATH.
var tools = []string{"bash", "cat", "cut", "dirname", "env", "grep", "ln", "mkdir", "mktemp", "rm", "setsid", "sha256sum", "sleep", "tail", "timeout", "touch"}

// machine is a pretended one: which programs it has, and what is so on it.
type machine struct {
	programs []string          // names of stands
	files    map[string]string // below $STATE: up, refusal, context, user, package, broken, no-packages, up-later
	root     []string          // files that exist below SETUP_ROOT
	// processes are files with content below SETUP_ROOT.
	processes map[string]string
	env       []string
	args      []string
}

type outcome struct {
	text, calls string
	ok, mark    bool
	root        string
}

const (
	markFile  = "var/lib/opensandbox-setup/engine-installed"
	socket    = "var/run/docker.sock"
	pidFile   = "var/run/docker.pid"
	systemd   = "run/systemd/system/any"
	installed = "apt-get update -q\napt-get install -y -q --no-install-recommends docker.io iptables\ndockerd\n"
)

func TestDockerEngine(t *testing.T) {
	t.Parallel()
	engine, client := []string{"docker", "dockerd", "apt-get", "dpkg", "systemctl"}, []string{"docker", "apt-get", "dpkg"}
	tests := map[string]struct {
		machine machine
		ok      bool
		calls   string
		mark    bool
		says    string
	}{
		"an engine that answers is used": {
			machine{programs: engine, files: map[string]string{"up": ""}}, true, "", false, "Docker engine 20.10.24 answers.",
		},
		"a stopped engine of somebody gets advice": {
			machine{programs: engine}, false, "", false, "sudo systemctl start docker",
		},
		"a stopped engine of ours is started": {
			machine{programs: engine, files: map[string]string{"package": ""}, root: []string{markFile}}, true, "dockerd\n", true, "Docker engine 20.10.24 answers.",
		},
		"a stopped engine of ours is started by systemd": {
			machine{programs: engine, files: map[string]string{"package": ""}, root: []string{markFile, systemd}}, true, "systemctl start docker\n", true, "answers",
		},
		"an engine that replaced ours gets advice": {
			machine{programs: engine, root: []string{markFile}}, false, "", true, "left as it is",
		},
		"a stopped engine of ours needs root": {
			machine{programs: engine, files: map[string]string{"package": "", "user": "1000"}, root: []string{markFile}}, false, "", true, "only root",
		},
		"no permission gets advice": {
			machine{programs: engine, files: map[string]string{"refusal": denied, "package": ""}, root: []string{markFile}}, false, "", true, "usermod -aG docker",
		},
		"no permission gets advice in tests too": {
			machine{programs: client, files: map[string]string{"refusal": denied}, args: []string{"--for-tests"}}, false, "", false, "usermod -aG docker",
		},
		"nothing installed: installs, marks and starts": {
			machine{programs: []string{"apt-get", "dpkg"}}, true, installed, true, "No Docker engine found: installing",
		},
		"a client alone counts as nothing": {
			machine{programs: client}, true, installed, true, "Docker engine 20.10.24 answers.",
		},
		"nothing installed and not root": {
			machine{programs: client, files: map[string]string{"user": "1000"}}, false, "", false, "run this as root",
		},
		"nothing installed and no apt-get": {
			machine{programs: []string{"docker"}}, false, "", false, "install one",
		},
		"a failed installation leaves no mark": {
			machine{programs: client, files: map[string]string{"no-packages": ""}}, false, strings.TrimSuffix(installed, "dockerd\n"), false, "could not be installed",
		},
		"DOCKER_HOST is respected": {
			machine{programs: engine, files: map[string]string{"package": ""}, root: []string{markFile}, env: []string{"DOCKER_HOST=tcp://192.0.2.1:2375"}, args: []string{"--for-tests"}},
			false, "", true, "unset DOCKER_HOST",
		},
		"another context is respected": {
			machine{programs: client, files: map[string]string{"context": "desktop-linux"}}, false, "", false, "desktop-linux",
		},
		"a socket without an engine belongs to one outside": {
			machine{programs: client, root: []string{socket}}, false, "", false, "left as it is",
		},
		"tests start any stopped engine": {
			machine{programs: engine, args: []string{"--for-tests"}}, true, "dockerd\n", false, "starting it for the tests",
		},
		"tests leave a stopped engine to systemd": {
			machine{programs: engine, root: []string{systemd}, args: []string{"--for-tests"}}, false, "", false, "sudo systemctl start docker",
		},
		"tests do not start an engine without root": {
			machine{programs: engine, files: map[string]string{"user": "1000"}, args: []string{"--for-tests"}}, false, "", false, "left as it is",
		},
		"an engine that ends at once is an error with its log": {
			machine{programs: engine, files: map[string]string{"broken": ""}, args: []string{"--for-tests"}}, false, "dockerd\n", false, "no cgroup mount",
		},
		"an unknown argument is refused": {
			machine{programs: engine, args: []string{"--force"}}, false, "", false, "unknown argument",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := tt.machine.run(t)
			if got.ok != tt.ok || got.calls != tt.calls || got.mark != tt.mark || !strings.Contains(got.text, tt.says) {
				t.Errorf("ok %t, calls %q, mark %t, want %t, %q, %t and %q in the text:\n%s", got.ok, got.calls, got.mark, tt.ok, tt.calls, tt.mark, tt.says, got.text)
			}
		})
	}
}

func TestDockerEngineClearsWhatAPowerCutLeft(t *testing.T) {
	t.Parallel()
	m := machine{programs: []string{"docker", "dockerd", "dpkg"}, files: map[string]string{"package": ""}, root: []string{markFile, pidFile}}
	got := m.run(t)
	if _, err := os.Stat(filepath.Join(got.root, pidFile)); !got.ok || !os.IsNotExist(err) {
		t.Errorf("ok %t, pid file: %v, want it gone; text:\n%s", got.ok, err, got.text)
	}
}

func TestDockerEngineKnowsAliveFromDead(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		state, calls string
		files        map[string]string
	}{
		// The engine that answers is the one that was there already, or else the one that the script starts.
		"one that is on its way is waited for": {"S (sleeping)", "", map[string]string{"package": "", "up-later": ""}},
		"one that ended is started again":      {"Z (zombie)", "dockerd\n", map[string]string{"package": ""}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := machine{
				programs: []string{"docker", "dockerd", "dpkg"}, files: tt.files, root: []string{markFile},
				processes: map[string]string{"proc/7/comm": "dockerd\n", "proc/7/status": "Name:\tdockerd\nState:\t" + tt.state + "\n"},
			}
			if got := m.run(t); !got.ok || got.calls != tt.calls {
				t.Errorf("ok %t, calls %q, want %q; text:\n%s", got.ok, got.calls, tt.calls, got.text)
			}
		})
	}
}

// run runs the script on the machine.
func (m machine) run(t *testing.T) outcome {
	t.Helper()
	state, root := t.TempDir(), t.TempDir()
	bin := filepath.Join(state, "bin")
	for _, tool := range tools {
		path, err := exec.LookPath(tool)
		if err != nil {
			t.Fatal(err)
		}
		link(t, path, filepath.Join(bin, tool))
	}
	for name, body := range stands {
		write(t, filepath.Join(state, name), "#!"+filepath.Join(bin, "bash")+"\n"+body+"\n", 0o755)
	}
	for _, name := range append([]string{"id"}, m.programs...) {
		link(t, filepath.Join(state, name), filepath.Join(bin, name))
	}
	for name, content := range map[string]string{"refusal": refused, "context": "default", "user": "0"} {
		write(t, filepath.Join(state, name), content, 0o644)
	}
	for name, content := range m.files {
		write(t, filepath.Join(state, name), content, 0o644)
	}
	for _, name := range m.root {
		write(t, filepath.Join(root, name), "", 0o644)
	}
	for name, content := range m.processes {
		write(t, filepath.Join(root, name), content, 0o644)
	}
	script, err := filepath.Abs("../../scripts/docker-engine.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "bash"), append([]string{script}, m.args...)...)
	cmd.Env = append([]string{"PATH=" + bin, "HOME=" + state, "TMPDIR=" + state, "STATE=" + state, "SETUP_ROOT=" + root}, m.env...)
	text, err := cmd.CombinedOutput()
	calls, _ := os.ReadFile(filepath.Join(state, "calls"))
	_, noMark := os.Stat(filepath.Join(root, markFile))
	return outcome{text: string(text), calls: string(calls), ok: err == nil, mark: noMark == nil, root: root}
}

// write makes a file with its folders.
func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(from, to); err != nil {
		t.Fatal(err)
	}
}
