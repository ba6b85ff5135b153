//go:build e2e

package acceptance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/secrettest"
	"opensandbox/tests/process"
)

func TestBadInputLeavesNothing(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	registry := localRegistry(t)
	keys := m{}
	for i := range 50_000 {
		keys[fmt.Sprintf("k%d", i)] = "v"
	}
	deep := strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)
	for name, c := range map[string]struct {
		body   any
		status int
		code   string
	}{
		"unknown image":            {spec(m{"image": m{"uri": registry + "/no/such:image"}}), 400, "DOCKER::SANDBOX_IMAGE_PULL_FAILED"},
		"image that is no name":    {spec(m{"image": m{"uri": "Not An Image"}}), 400, "DOCKER::SANDBOX_IMAGE_PULL_FAILED"},
		"no such entry point":      {spec(m{"entrypoint": []string{"/no/such/program"}}), 400, "DOCKER::INVALID_ENTRYPOINT"},
		"entry point fails":        {spec(m{"entrypoint": []string{"sh", "-c", "echo because; exit 3"}}), 400, "DOCKER::INVALID_ENTRYPOINT"},
		"too little memory":        {spec(m{"resourceLimits": m{"memory": "1Mi"}}), 400, "SANDBOX::INVALID_PARAMETER"},
		"memory does not parse":    {spec(m{"resourceLimits": m{"memory": "lots"}}), 400, "SANDBOX::INVALID_PARAMETER"},
		"cpu does not parse":       {spec(m{"resourceLimits": m{"cpu": "inf"}}), 400, "SANDBOX::INVALID_PARAMETER"},
		"more cpus than there are": {spec(m{"resourceLimits": m{"cpu": "100000"}}), 400, "SANDBOX::INVALID_PARAMETER"},
		"metadata key":             {spec(m{"metadata": m{"not a key": "v"}}), 400, "SANDBOX::INVALID_METADATA_LABEL"},
		"metadata value":           {spec(m{"metadata": m{"k": "two words"}}), 400, "SANDBOX::INVALID_METADATA_LABEL"},
		"reserved metadata":        {spec(m{"metadata": m{"opensandbox.io/id": "x"}}), 400, "SANDBOX::INVALID_METADATA_LABEL"},
		"metadata is a list":       {spec(m{"metadata": []string{"a"}}), 400, "INVALID_REQUEST"},
		"50,000 metadata keys":     {spec(m{"metadata": keys}), 400, "SANDBOX::INVALID_METADATA_LABEL"},
		"10 MB":                    {`{"image":{"uri":"` + strings.Repeat("x", 10<<20) + `"}}`, 413, "PAYLOAD_TOO_LARGE"},
		"invalid UTF-8":            {"{\"image\":{\"uri\":\"\xff\xfe\"}}", 400, "INVALID_REQUEST"},
		"deep JSON":                {deep, 400, "INVALID_REQUEST"},
		"half a JSON":              {`{"image":`, 400, "INVALID_REQUEST"},
		"two JSONs":                {`{} {}`, 400, "INVALID_REQUEST"},
		"no body":                  {"", 400, "INVALID_REQUEST"},
		"networkPolicy":            {spec(m{"networkPolicy": m{"defaultAction": "deny"}}), 400, "SANDBOX::INVALID_PARAMETER"},
		"credentialProxy":          {spec(m{"credentialProxy": m{"enabled": true}}), 400, "SANDBOX::INVALID_PARAMETER"},
		"volumes":                  {spec(m{"volumes": []m{{"name": "v"}}}), 400, "INVALID_REQUEST"},
		"more privileges":          {spec(m{"extensions": m{"bootstrap.execd.isolation": "enable"}}), 403, "FORBIDDEN"},
	} {
		a := s.do("POST", "/v1/sandboxes", c.body)
		wantEnvelope(t, name, a, c.status)
		if a.json(t)["code"] != c.code {
			t.Errorf("%s: code %v, want %s", name, a.json(t)["code"], c.code)
		}
	}
	if a := s.do("POST", "/v1/sandboxes", spec(m{"entrypoint": []string{"sh", "-c", "echo because; exit 3"}})); !strings.Contains(string(a.body), "exit code 3") || !strings.Contains(string(a.body), "because") {
		t.Errorf("a failing entry point does not say why: %v", a)
	}
	if left := s.items(""); len(left) != 0 {
		t.Errorf("listed after failures only: %v", ids(left))
	}
	s.eventually("nothing is left on the engine", func() bool { return len(s.containers()) == 0 })
	s.create(nil) // ports and reservations are free
}

// localRegistry starts a real registry, which can say that it does not have an image.
func localRegistry(t *testing.T) string {
	t.Helper()
	dir, address := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", process.FreePort(t))
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", dir, address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := process.Command(nil, "docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the registry (Debian package docker-registry): %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if a, err := request("GET", "http://"+address+"/v2/", nil); err == nil && a.status == 200 {
			return address
		}
		if time.Now().After(deadline) {
			t.Fatal("the registry never answered")
		}
	}
}

func TestLimitIsNotSilentlyUnlimited(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(m{"resourceLimits": m{"memory": "64Mi", "cpu": "250m"}})
	if got := docker(t, "inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}", "sandbox-"+id); got != "67108864 250000000 4096" {
		t.Errorf("the engine has %q", got)
	}
	events := s.shell(id, "x=a; while true; do x=$x$x$x$x; done")
	if last := events[len(events)-1]; last["type"] != "error" {
		t.Errorf("a command that needs more memory than the limit ended with %v", last)
	}
}

// runToEnd runs the server until it ends by itself and returns what it said.
func runToEnd(t *testing.T, config string, env ...string) (string, int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := process.Command(env, binary(t), "--config", path)
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func TestStartsThatCannotSucceed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := fmt.Sprintf("api_key = %q", secrettest.New("the API key of a server that does not start"))
	good := fmt.Sprintf("[server]\nhost = \"127.0.0.1\"\nport = %d\n%s\nadmin_listen = \"\"\n[docker]\nnetwork_mode = \"bridge\"\n[store]\npath = %q\n[agent]\nstate_dir = %q\n",
		process.FreePort(t), key, filepath.Join(dir, "d", "s.db"), filepath.Join(dir, "state"))
	for name, c := range map[string]struct {
		config string
		env    []string
		want   []string
	}{
		"engine is down": {good, []string{"DOCKER_HOST=unix:///no/such/socket"}, []string{"/no/such/socket", "does not answer"}},
		"no key":         {strings.Replace(good, key, "", 1), nil, []string{"no API key", "OPENSANDBOX_INSECURE_SERVER"}},
		"many mistakes":  {"[server]\nport = 99999\n[store]\ntype = \"redis\"\n[docker]\npids_limit = 0\nprot_range_min = 1\n", nil, []string{"server.port = 99999", "store.type", "docker.pids_limit = 0"}},
		"not TOML":       {"[server\n", nil, []string{"line 1"}},
	} {
		out, code := runToEnd(t, c.config, c.env...)
		if code != 1 {
			t.Errorf("%s: exit code %d, want 1\n%s", name, code, out)
		}
		for _, w := range c.want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: %q is not in:\n%s", name, w, out)
			}
		}
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--version"}, 0, "\n"},
		{[]string{"-h"}, 0, "usage: opensandbox-server"},
		{[]string{"--help"}, 0, "--config PATH"},
		{[]string{"--nonsense"}, 2, "usage:"},
		{[]string{"extra"}, 2, "unexpected argument"},
		{[]string{"--config", "/no/such/file"}, 1, "/no/such/file"},
	} {
		cmd := exec.Command(binary(t), c.args...)
		out, _ := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(string(out), c.want) {
			t.Errorf("%v: exit code %d, printed %q", c.args, cmd.ProcessState.ExitCode(), out)
		}
	}
}

func TestSecondServerOnOneStoreIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	out, err := exec.Command(binary(t), "--config", filepath.Join(s.dir, "server.toml")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), filepath.Join(s.dir, "data", "store.db")) {
		t.Errorf("second server: %v\n%s", err, out)
	}
}
