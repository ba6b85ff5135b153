package settings_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/settings"
)

func env(m map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) { v, ok := m[k]; return v, ok }
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server.toml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadFile(t *testing.T) {
	t.Parallel()
	path := write(t, `
[server]
host = "127.0.0.1"
port = 9000
api_key = "k"
max_sandbox_timeout_seconds = 86400
thread_pool_size = 200
[runtime]
type = "docker"
execd_image = "opensandbox/execd:v1.1.0"
[docker]
network_mode = "bridge"
apparmor_profile = ""
[storage]
allowed_host_paths = []
[scheduler]
default_request = { cpu = "500m", memory = "1Gi" }
[store]
type = "sqlite"
path = "~/x.db"
`)
	s, warnings, err := settings.Load(path, env(map[string]string{"OPENSANDBOX_SERVER_API_KEY": "from-env"}))
	if err != nil {
		t.Fatal(err)
	}
	home, _ := os.UserHomeDir()
	if s.Server.Port != 9000 || s.Server.APIKey.Reveal() != "from-env" || s.Server.MaxTimeout != 24*time.Hour ||
		s.Scheduler.DefaultRequest.CPU != 500 || s.Store.Path != filepath.Join(home, "x.db") || s.Docker.PidsLimit != 4096 {
		t.Errorf("settings %+v", s)
	}
	all := strings.Join(warnings, "\n")
	for _, want := range []string{"storage: has no effect yet", "server.thread_pool_size: means nothing", "runtime.execd_image: has no effect"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q in:\n%s", want, all)
		}
	}
}

func TestLoadReportsAllMistakes(t *testing.T) {
	t.Parallel()
	path := write(t, `
[server]
port = 0
api_key = 12345
[runtime]
type = "kubernetes"
[docker]
port_range_min = 50000
port_range_max = 50010
publish_host = "::1"
seccomp_profile = "/etc/profile.json"
[store]
type = "redis"
[tenants]
auth_token = "hunter2"
`)
	_, _, err := settings.Load(path, env(nil))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{path, "server.port = 0", "server.api_key = [redacted]", `runtime.type = "kubernetes"`, "docker.port_range_min",
		"docker.publish_host", "docker.seccomp_profile", `store.type = "redis"`, "tenants"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	for _, secret := range []string{"hunter2", "12345"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the error repeats %q:\n%v", secret, err)
		}
	}
}

func TestNoFile(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	s, warnings, err := settings.Load("", env(nil))
	if err != nil || s.Server.Host != "127.0.0.1" || len(warnings) != 1 {
		t.Errorf("host %q, warnings %q, %v", s.Server.Host, warnings, err)
	}
	if _, _, err := settings.Load("/nowhere/x.toml", env(nil)); err == nil || !strings.Contains(err.Error(), "/nowhere/x.toml") {
		t.Errorf("a missing file that was named: %v", err)
	}
	if _, _, err := settings.Load("", env(map[string]string{"SANDBOX_CONFIG_PATH": "/nowhere/y.toml"})); err == nil {
		t.Error("a missing file that the environment names was ignored")
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	var s settings.Settings
	if err := settings.Guard(s, env(nil)); err == nil || !strings.Contains(err.Error(), "OPENSANDBOX_INSECURE_SERVER") {
		t.Errorf("no key: %v", err)
	}
	if err := settings.Guard(s, env(map[string]string{"OPENSANDBOX_INSECURE_SERVER": "yes"})); err == nil {
		t.Error("anything but YES must be refused")
	}
	if err := settings.Guard(s, env(map[string]string{"OPENSANDBOX_INSECURE_SERVER": "YES"})); err != nil {
		t.Error(err)
	}
	s.Server.APIKey = "k"
	if err := settings.Guard(s, env(nil)); err != nil {
		t.Error(err)
	}
}
