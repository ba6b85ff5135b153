package settings_test

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/secrettest"
	"opensandbox/libs/settings"
)

const full = `
[server]
host = "127.0.0.1"
port = 9000
api_key = "PASSWORD"
max_sandbox_timeout_seconds = 86400
thread_pool_size = 200
[runtime]
type = "docker"
execd_image = "opensandbox/execd:v1.1.0"
[docker]
network_mode = "bridge"
apparmor_profile = ""
allowed_runtimes = ["runsc"]
[storage]
allowed_host_paths = []
[scheduler]
default_request = { cpu = "500m", memory = "1Gi" }
node_lost_after_seconds = 120
[store]
type = "Redis"
path = "~/x.db"
redis_url = "redis-sentinel://app:PASSWORD@s1,s2:26380/main/3"
durable = true
[agent]
node = "n-1"
host = "10.0.0.5"
max_sandboxes = 50
capacity_cpu = "4"
capacity_memory = "8Gi"
labels = { zone = "z1", "example.com/disk" = "ssd" }
listen = ":8090"
[router]
listen = "[::]:8081"
[renew_intent]
enabled = true
min_interval_seconds = 30
redis.enabled = true
redis.dsn = "redis://:PASSWORD@r/1"
redis.queue_key = "q"
redis.consumer_concurrency = 2
[internal]
shared_secret = "PASSWORD-PASSWORD"
[log]
format = "JSON"
level = "warning"
`

func TestReadFile(t *testing.T) {
	t.Parallel()
	key := secrettest.New("the API key of a variable")
	vars := map[string]string{"HOME": "/home/u", "OPENSANDBOX_SERVER_API_KEY": key}
	s, err := settings.Read(settings.Options{Path: write(t, full), Lookup: env(vars), Names: slices.Collect(maps.Keys(vars))})
	if err != nil {
		t.Fatal(err)
	}
	if s.Server.Port != 9000 || s.Server.APIKey.Reveal() != key || s.Server.MaxTimeout != 24*time.Hour ||
		s.Scheduler.DefaultRequest.CPU != 500 || s.Store.Path != "/home/u/x.db" || s.Docker.PidsLimit != 4096 || s.Scheduler.NodeLostAfter != 2*time.Minute {
		t.Errorf("settings %+v", s)
	}
	if !slices.Equal(s.Docker.AllowedRuntimes, []string{"runsc"}) {
		t.Errorf("docker %+v", s.Docker)
	}
	if !s.Store.Durable || s.Store.Type != settings.StoreRedis || s.Store.Redis.MasterName != "main" || s.Store.Redis.Password.Reveal() != password {
		t.Errorf("store %+v", s.Store)
	}
	a := s.Agent
	a.StateDir = ""
	want := settings.Agent{Node: "n-1", Host: "10.0.0.5", Listen: ":8090", MaxSandboxes: 50, Labels: map[string]string{"zone": "z1", "example.com/disk": "ssd"}}
	want.Capacity.CPU, want.Capacity.Memory = 4000, 8<<30
	if diff := cmp.Diff(want, a); diff != "" {
		t.Errorf("agent (-want +got)\n%s", diff)
	}
	r := s.RenewIntent
	if !r.Enabled || r.MinInterval != 30*time.Second || !r.Queue.Enabled || r.Queue.Key != "q" || r.Queue.Concurrency != 2 || r.Queue.Redis.DB != 1 {
		t.Errorf("renew intent %+v", r)
	}
	if s.Internal.SharedSecret.Reveal() != password+"-"+password || s.Log.Level != "WARNING" || s.Log.Format != "json" || s.Router.Listen != "[::]:8081" {
		t.Errorf("settings %+v", s)
	}
	all := strings.Join(s.Warnings, "\n")
	for _, want := range []string{"server.thread_pool_size: means nothing", "runtime.execd_image: has no effect"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q in:\n%s", want, all)
		}
	}
	if s.Origin("server.api_key") != "OPENSANDBOX_SERVER_API_KEY" || s.Origin("server.port") != "file" || s.Origin("docker.pids_limit") != "default" {
		t.Error("origins are wrong")
	}
}

func TestReadReportsAllMistakes(t *testing.T) {
	t.Parallel()
	short := shared(15)
	path := write(t, `
[server]
port = 0
api_key = 987654321987654321
admin_listen = "9090"
[runtime]
type = "podman"
[kubernetes]
read_qps = -1
[docker]
port_range_min = 50000
port_range_max = 50010
publish_host = "::1"
seccomp_profile = "profile.json"
sandbox_env = ["TOKEN=PASSWORD"]
[store]
type = "postgresql"
redis_url = "redis://:PASSWORD@"
[scheduler]
node_lost_after_seconds = 1
[agent]
node = "a b"
host = "a:1"
labels = { zone = "a b" }
max_sandboxes = 1
[renew_intent]
min_interval_seconds = 0
redis = { enabled = true, consumer_concurrency = 0 }
[internal]
shared_secret = "`+short+`"
[tenants]
auth_token = "PASSWORD"
`)
	_, err := settings.Read(settings.Options{Path: path, Lookup: env(map[string]string{
		"OPENSANDBOX_LOG_FORMAT": "xml", "OPENSANDBOX_STORE_POSTGRESQL_DSN": "postgres://u:PASSWORD@h", "OPENSANDBOX_SECURE_ACCESS_KEYS": "PASSWORD",
		"OPENSANDBOX_ROUTER_LISTEN": "x", "OPENSANDBOX_SCHEDULER_MAX_SANDBOXES": "2", "OPENSANDBOX_RENEW_INTENT_REDIS_DSN": "http://PASSWORD",
	})})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		path + ": server.port = 0: ", "server.api_key = ***: ", `server.admin_listen = "9090": `, `runtime.type = "podman": expected one of "docker", "kubernetes"`, "kubernetes.read_qps = -1: expected a number at least 0", `[kubernetes]: does not go together`, "docker.port_range_min = 50000: ",
		"docker.publish_host", "docker.seccomp_profile", "docker.sandbox_env = ***", `store.type = "postgresql": PostgreSQL is not supported; expected "sqlite" or "redis"`,
		"store.redis_url = ***: address 1 of 1", "scheduler.node_lost_after_seconds = 1: ", `agent.node = "a b": `, `agent.host = "a:1": `, `agent.labels = {…}: "zone": `,
		"renew_intent.min_interval_seconds = 0: ", "renew_intent.redis.consumer_concurrency = 0: ", "renew_intent.redis.enabled = true: needs renew_intent.redis.dsn",
		"internal.shared_secret = ***: ", "[tenants]: tenants are not available yet", `OPENSANDBOX_LOG_FORMAT = "xml": `, "OPENSANDBOX_SECURE_ACCESS_KEYS = ***: ",
		`OPENSANDBOX_ROUTER_LISTEN = "x": expected host:port`, "agent.max_sandboxes = 2: scheduler.max_sandboxes is the old name", "OPENSANDBOX_RENEW_INTENT_REDIS_DSN = ***: ",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	secrettest.Absent(t, "the error", err.Error())
	if strings.Contains(err.Error(), "987654321987654321") {
		t.Errorf("the error repeats the number:\n%v", err)
	}
}

func TestSmallestPortRange(t *testing.T) {
	t.Parallel()
	for last, complaint := range map[string]string{
		"31399": "", // both ends are used
		"31398": "31300 to 31398, which is 99 ports; at least 100 are needed",
		"31000": "31300 to 31000, which is 0 ports; at least 100 are needed",
	} {
		_, err := settings.Read(settings.Options{Lookup: env(map[string]string{
			"HOME": t.TempDir(), "OPENSANDBOX_DOCKER_PORT_RANGE_MIN": "31300", "OPENSANDBOX_DOCKER_PORT_RANGE_MAX": last,
		})})
		if (err == nil) != (complaint == "") || err != nil && !strings.Contains(err.Error(), complaint) {
			t.Errorf("to %s: %v; want %q", last, err, complaint)
		}
	}
}

func TestNoFile(t *testing.T) {
	t.Parallel()
	home := map[string]string{"HOME": t.TempDir()}
	s, err := settings.Read(settings.Options{Lookup: env(home)})
	if err != nil || s.Server.Host != "127.0.0.1" || s.Router.Listen != "127.0.0.1:8081" || len(s.Warnings) != 1 || s.Path != "" {
		t.Errorf("host %q, warnings %q, %v", s.Server.Host, s.Warnings, err)
	}
	for _, o := range []settings.Options{
		{Path: "/nowhere/x.toml", Lookup: env(map[string]string{"OPENSANDBOX_SERVER_PORT": "0"})},
		{Lookup: env(map[string]string{"SANDBOX_CONFIG_PATH": "/nowhere/x.toml", "OPENSANDBOX_SERVER_PORT": "0"})},
	} {
		_, err := settings.Read(o)
		if err == nil || !strings.Contains(err.Error(), "/nowhere/x.toml") || !strings.Contains(err.Error(), "OPENSANDBOX_SERVER_PORT") {
			t.Errorf("a missing file that was named: %v", err)
		}
	}
	if err := os.WriteFile(filepath.Join(home["HOME"], ".sandbox.toml"), []byte("[server]\nport = 8082\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err = settings.Read(settings.Options{Lookup: env(home)}); err != nil || s.Server.Port != 8082 || s.Server.Host != "0.0.0.0" {
		t.Errorf("with ~/.sandbox.toml: %s:%d, %v", s.Server.Host, s.Server.Port, err)
	}
}

func TestOnlyEnvironment(t *testing.T) {
	t.Parallel()
	s, err := settings.Read(settings.Options{Process: settings.ProcessAPI, Lookup: env(map[string]string{
		"HOME": t.TempDir(), "OPENSANDBOX_SERVER_HOST": "0.0.0.0", "OPENSANDBOX_SERVER_PORT": "9000", "OPENSANDBOX_STORE_TYPE": "redis",
		"OPENSANDBOX_STORE_REDIS_URL": "rediss-cluster://h1,h2", "OPENSANDBOX_INTERNAL_SHARED_SECRET": shared(16), "OPENSANDBOX_SERVER_API_KEY": "",
		"OPENSANDBOX_INSECURE_SERVER": "YES", "OPENSANDBOX_SCHEDULER_DEFAULT_REQUEST_CPU": "0.5",
	})})
	if err != nil || len(s.Warnings) != 1 || s.Warnings[0] != s.KeylessWarning() {
		t.Fatalf("warnings %q, %v", s.Warnings, err)
	}
	if s.Server.Host != "0.0.0.0" || s.Server.Port != 9000 || !s.Store.Redis.TLS || len(s.Store.Redis.Addrs) != 2 || !s.Insecure || s.Scheduler.DefaultRequest.CPU != 500 {
		t.Errorf("settings %+v", s)
	}
}

func TestWhatProcessesNeed(t *testing.T) {
	t.Parallel()
	split := map[string]string{"OPENSANDBOX_STORE_TYPE": "redis", "OPENSANDBOX_STORE_REDIS_URL": "redis://h", "OPENSANDBOX_INTERNAL_SHARED_SECRET": shared(16)}
	with := func(extra ...string) map[string]string {
		m := maps.Clone(split)
		for i := 0; i < len(extra); i += 2 {
			m[extra[i]] = extra[i+1]
		}
		return m
	}
	for name, c := range map[string]struct {
		process settings.Process
		vars    map[string]string
		want    []string
	}{
		"server alone":         {settings.ProcessServer, nil, nil},
		"server on redis":      {settings.ProcessServer, split, nil},
		"api":                  {settings.ProcessAPI, split, nil},
		"api on sqlite":        {settings.ProcessAPI, nil, []string{"store.type: opensandbox-api", "internal.shared_secret: must be set"}},
		"scheduler":            {settings.ProcessScheduler, with("OPENSANDBOX_INTERNAL_SHARED_SECRET", ""), nil},
		"agent without secret": {settings.ProcessAgent, with("OPENSANDBOX_INTERNAL_SHARED_SECRET", ""), []string{"internal.shared_secret"}},
		"redis without a URL":  {settings.ProcessServer, map[string]string{"OPENSANDBOX_STORE_TYPE": "redis"}, []string{`OPENSANDBOX_STORE_TYPE = "redis": needs store.redis_url`}},
		"port taken twice":     {settings.ProcessServer, map[string]string{"OPENSANDBOX_ROUTER_LISTEN": ":8080"}, []string{`OPENSANDBOX_ROUTER_LISTEN = ":8080": port 8080 is taken by server.port too`}},
		"default of router":    {settings.ProcessServer, map[string]string{"OPENSANDBOX_SERVER_PORT": "8081"}, nil},
		"default of admin":     {settings.ProcessServer, map[string]string{"OPENSANDBOX_SERVER_PORT": "9090"}, nil},
		"other process's port": {settings.ProcessAPI, with("OPENSANDBOX_ROUTER_LISTEN", ":8080"), nil},
		"different addresses":  {settings.ProcessServer, map[string]string{"OPENSANDBOX_ROUTER_LISTEN": "10.0.0.1:8080"}, nil},
		"admin on the agent's": {settings.ProcessAgent, with("OPENSANDBOX_SERVER_ADMIN_LISTEN", "0.0.0.0:8090"), []string{"OPENSANDBOX_SERVER_ADMIN_LISTEN", "agent.listen"}},
	} {
		vars := map[string]string{"HOME": "/nowhere"}
		maps.Copy(vars, c.vars)
		_, err := settings.Read(settings.Options{Process: c.process, Lookup: env(vars)})
		if (err != nil) != (c.want != nil) {
			t.Errorf("%s: %v", name, err)
		}
		for _, w := range c.want {
			if err != nil && !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not in: %v", name, w, err)
			}
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	vars := map[string]string{"OPENSANDBOX_SERVER_PORT": "tcp://10.0.0.1:8080", "OPENSANDBOX_STORE_DURABLE": "1", "OPENSANDBOX_SERVER_APIKEY": "PASSWORD", "OPENSANDBOX_ID": "x", "OPENSANDBOX_EGRESS_RULES": "x"}
	s, err := settings.Read(settings.Options{Path: write(t, "[scheduler]\nmax_sandboxes = 3\n[server]\nhots = 'x'\n"), Lookup: env(vars), Names: slices.Collect(maps.Keys(vars))})
	if err != nil || s.Agent.MaxSandboxes != 3 {
		t.Errorf("max_sandboxes %d, %v", s.Agent.MaxSandboxes, err)
	}
	all := strings.Join(s.Warnings, "\n")
	for _, want := range []string{
		"scheduler.max_sandboxes: is called agent.max_sandboxes now", "server.hots: unknown, ignored; did you mean server.host?", "OPENSANDBOX_SERVER_PORT: set by Kubernetes",
		"store.durable has no effect", "OPENSANDBOX_SERVER_APIKEY: unknown, ignored; did you mean OPENSANDBOX_SERVER_API_KEY?", "docker.network_mode is not set",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning %q in:\n%s", want, all)
		}
	}
	secrettest.Absent(t, "a warning", all)
	if len(s.Warnings) != 6 {
		t.Errorf("warnings:\n%s", all)
	}
}

func TestPrintHidesSecretsAndLoadsAgain(t *testing.T) {
	t.Parallel()
	first, err := settings.Read(settings.Options{Path: write(t, full), Lookup: env(nil)})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := first.Print(&out); err != nil {
		t.Fatal(err)
	}
	secrettest.Absent(t, "--print-config", out.String())
	for _, want := range []string{"port = 9000 # file", "api_key = '***' # file", "pids_limit = 4096 # default", "# max_concurrency is not set", "[scheduler.default_request]", "cpu = '500m' # file"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, out.String())
		}
	}
	secrets := map[string]string{
		"OPENSANDBOX_SERVER_API_KEY": "PASSWORD", "OPENSANDBOX_STORE_REDIS_URL": "redis-sentinel://app:PASSWORD@s1,s2:26380/main/3",
		"OPENSANDBOX_RENEW_INTENT_REDIS_DSN": "redis://:PASSWORD@r/1", "OPENSANDBOX_INTERNAL_SHARED_SECRET": "PASSWORD-PASSWORD",
	}
	lines := slices.DeleteFunc(strings.SplitAfter(out.String(), "\n"), func(l string) bool { return strings.Contains(l, "'***'") })
	second, err := settings.Read(settings.Options{Path: write(t, strings.Join(lines, "")), Lookup: env(secrets)})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{
		cmp.Diff(first.Server, second.Server, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })), cmp.Diff(first.Docker, second.Docker), cmp.Diff(first.Agent, second.Agent), cmp.Diff(first.Scheduler, second.Scheduler),
		cmp.Diff(first.Store.Redis, second.Store.Redis), cmp.Diff(first.RenewIntent.Queue.Redis, second.RenewIntent.Queue.Redis), cmp.Diff(first.Internal, second.Internal),
	} {
		if d != "" {
			t.Errorf("(-first +second)\n%s", d)
		}
	}
	// A printed file as it is must not start a process with *** for a password.
	if _, err := settings.Read(settings.Options{Path: write(t, out.String()), Lookup: env(nil)}); err == nil || strings.Count(err.Error(), "this is the mask") != 4 {
		t.Errorf("masks were taken: %v", err)
	}
}

func TestHealthURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		process    settings.Process
		key, value string
		want       string
	}{
		{settings.ProcessServer, "SERVER_HOST", "0.0.0.0", "http://127.0.0.1:8080/health"},
		{settings.ProcessServer, "SERVER_HOST", "::", "http://[::1]:8080/health"},
		{settings.ProcessAPI, "SERVER_HOST", "10.0.0.1", "http://10.0.0.1:8080/health"},
		{settings.ProcessScheduler, "SERVER_HOST", "x", "http://127.0.0.1:9092/health"},
		{settings.ProcessAgent, "SERVER_ADMIN_LISTEN", ":9999", "http://127.0.0.1:9999/health"},
		{settings.ProcessRouter, "SERVER_ADMIN_LISTEN", "127.0.0.1:0", ""},
		{settings.ProcessRouter, "SERVER_ADMIN_LISTEN", "", ""},
	} {
		s, err := settings.Read(settings.Options{Process: c.process, Lookup: env(map[string]string{
			"HOME": "/nowhere", "OPENSANDBOX_" + c.key: c.value, "OPENSANDBOX_STORE_TYPE": "redis", "OPENSANDBOX_STORE_REDIS_URL": "redis://h",
			"OPENSANDBOX_INTERNAL_SHARED_SECRET": shared(16),
		})})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.HealthURL()
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s with %s=%q: got %q, %v, want %q", c.process, c.key, c.value, got, err, c.want)
		}
	}
}

func TestGuard(t *testing.T) {
	t.Parallel()
	read := func(vars map[string]string) settings.Settings {
		vars["HOME"] = "/nowhere"
		s, err := settings.Read(settings.Options{Lookup: env(vars)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := read(map[string]string{}).Guard(); err == nil || !strings.Contains(err.Error(), "OPENSANDBOX_INSECURE_SERVER") {
		t.Errorf("no key: %v", err)
	}
	for _, vars := range []map[string]string{{"OPENSANDBOX_INSECURE_SERVER": "yes"}, {"OPENSANDBOX_SERVER_API_KEY": " "}} {
		if err := read(vars).Guard(); err == nil {
			t.Errorf("%v must be refused", vars)
		}
	}
	for _, vars := range []map[string]string{{"OPENSANDBOX_INSECURE_SERVER": "YES"}, {"OPENSANDBOX_SERVER_API_KEY": "PASSWORD"}} {
		if err := read(vars).Guard(); err != nil {
			t.Error(err)
		}
	}
}

func TestSingleBinaryOnRedisNeedsTheSecret(t *testing.T) {
	t.Parallel()
	file := write(t, "[store]\ntype = 'redis'\nredis_url = 'redis://h'\n")
	_, err := settings.Read(settings.Options{Process: settings.ProcessServer, Path: file, Lookup: env(nil)})
	if err == nil || !strings.Contains(err.Error(), "internal.shared_secret") {
		t.Errorf("without a secret: %v", err)
	}
	_, err = settings.Read(settings.Options{Process: settings.ProcessServer, Path: file, Lookup: env(map[string]string{"OPENSANDBOX_INTERNAL_SHARED_SECRET": "PASSWORD"})})
	if err != nil {
		t.Error(err)
	}
}

func TestRouterOfTheSingleBinaryListensWhereTheServerDoes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[server]\nhost = '127.0.0.1'\n":                                     "127.0.0.1:8081",
		"[server]\nhost = '::1'\n":                                           "[::1]:8081",
		"[log]\nlevel = 'INFO'\n":                                            "0.0.0.0:8081",
		"[server]\nhost = '127.0.0.1'\n[router]\nlisten = '10.0.0.1:9000'\n": "10.0.0.1:9000",
	} {
		s, err := settings.Read(settings.Options{Process: settings.ProcessServer, Path: write(t, text), Lookup: env(nil)})
		if err != nil || s.Router.Listen != want {
			t.Errorf("%q: router.listen %q, %v; want %q", text, s.Router.Listen, err, want)
		}
	}
}
