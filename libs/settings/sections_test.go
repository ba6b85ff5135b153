package settings_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/secrettest"
	"opensandbox/libs/settings"
)

// kubernetes is the smallest file for that runtime.
const kubernetes = "[runtime]\ntype = 'kubernetes'\n"

func TestSections(t *testing.T) {
	t.Parallel()
	s, err := settings.Read(settings.Options{Path: write(t, kubernetes+`
[kubernetes]
kubeconfig_path = "~/.kube/config"
namespace = "opensandbox"
informer_resync_seconds = 300
informer_watch_timeout_seconds = 60
read_qps = 2.5
sandbox_create_poll_interval_seconds = 0.5
workload_provider = "Agent-Sandbox"
image_pull_policy = "always"
informer_enabled = true
execd_init_resources = { limits = { cpu = "500m" }, requests = { cpu = "0.1", memory = "16Mi" } }
[agent_sandbox]
shutdown_policy = "Retain"
[ingress]
mode = "gateway"
[ingress.gateway]
address = "*.sandboxes.example.com"
route.mode = "wildcard"
[ingress.secure_access]
active_key = "b"
keys = [{ key_id = "a", key = "BASE64" }, { key_id = "b", key = "BASE64==" }]
[egress]
image = "egress"
mode = "dns+nft"
requests = { cpu = "100m", "example.com/gpu" = "1" }
limits = { cpu = "1", memory = "1e9" }
readiness_timeout_seconds = "2.5"
[egress.upstream_proxy]
url = " https://[fd00::1]:3128/ "
authorization = "Basic PASSWORD"
ca_secret_name = "ca.example"
[secure_runtime]
type = "kata"
k8s_runtime_class = "kata-qemu"
[tenants]
provider = "http"
endpoint = "https://tenants.example.com/whoami"
auth_token = "PASSWORD"
[otel]
enabled = true
endpoint = "http://collector:4318"
export_interval_millis = 1000
`), Lookup: env(map[string]string{"HOME": "/home/u"})})
	if err != nil {
		t.Fatal(err)
	}
	k := s.Kubernetes
	if k.KubeconfigPath != "/home/u/.kube/config" || k.ReadQPS != 2.5 || k.PollInterval != 500*time.Millisecond || k.WorkloadProvider != "agent-sandbox" || k.ImagePullPolicy != "Always" {
		t.Errorf("kubernetes %+v", k)
	}
	if s.Ingress.Route != "wildcard" || len(s.Ingress.SecureAccessKeys) != 2 || s.Egress.ReadinessTimeout != 2500*time.Millisecond || s.Egress.UpstreamProxy.URL != "https://[fd00::1]:3128/" {
		t.Errorf("ingress %+v, egress %+v", s.Ingress, s.Egress)
	}
	if err := s.Available(); err == nil || !strings.Contains(err.Error(), `runtime.type = "kubernetes": is valid, but not available yet`) {
		t.Errorf("available: %v", err)
	}
	var out strings.Builder
	if err := s.Print(&out); err != nil {
		t.Fatal(err)
	}
	secrettest.Absent(t, "--print-config", out.String())
	want := "kubernetes.informer_enabled: has no effect: OpenSandbox 1.1.1 dropped it"
	if all := strings.Join(s.Warnings, "\n"); !strings.Contains(all, want) || !strings.Contains(all, "[egress]: has no effect yet") || !strings.Contains(all, "[otel]: has no effect yet") {
		t.Errorf("warnings:\n%s", all)
	}
}

// TestRules holds the rules about several keys, and the bounds of single ones, against files that break just one.
func TestRules(t *testing.T) {
	t.Parallel()
	gateway := kubernetes + "[ingress]\nmode = 'gateway'\n"
	for _, c := range []struct{ file, want string }{
		{"[kubernetes]\n", `[kubernetes]: does not go together with runtime.type = "docker"`},
		{"[agent_sandbox]\n", `[agent_sandbox]: does not go together`},
		{kubernetes + "[agent_sandbox]\n", `[agent_sandbox]: needs kubernetes.workload_provider = "agent-sandbox"`},
		{kubernetes + "[kubernetes]\nworkload_provider = 'x'\n", `kubernetes.workload_provider = "x": expected one of`},
		{kubernetes + "[kubernetes]\nnamespace = 'A_b'\n", "kubernetes.namespace"},
		{kubernetes + "[kubernetes]\nfastpath_timeout_seconds = 0\n", "kubernetes.fastpath_timeout_seconds = 0"},
		{kubernetes + "[kubernetes]\ntemplate_s3_publish_secret = ''\n", "must not be empty"},
		{kubernetes + "[kubernetes]\nsandbox_create_poll_interval_seconds = nan\n", "expected a number above 0"},
		{"[tenants]\n", "[tenants]: tenants are not available yet"},
		{kubernetes + "[tenants]\n[server]\napi_key = 'PASSWORD'\n", "[tenants]: does not go together with server.api_key"},
		{kubernetes + "[tenants]\nprovider = 'http'\n", `tenants.provider = "http": needs tenants.endpoint`},
		{kubernetes + "[tenants]\nendpoint = 'https://u:PASSWORD@h'\n", "tenants.endpoint = ***"},
		{"[ingress]\nmode = 'gateway'\ngateway = { address = 'h', route = { mode = 'uri' } }\n", `ingress.mode = "gateway": only "direct" is available yet`},
		{gateway, "needs ingress.gateway.address"},
		{gateway + "gateway.address = 'h'\n", "needs ingress.gateway.route.mode"},
		{kubernetes + "[ingress.gateway]\naddress = 'h'\n", `[ingress.gateway]: needs ingress.mode = "gateway"`},
		{kubernetes + "[ingress.secure_access]\n", `[ingress.secure_access]: needs ingress.mode = "gateway"`},
		{gateway + "gateway = { address = 'http://h', route = { mode = 'uri' } }\n", "expected a host without a scheme"},
		{gateway + "gateway = { address = 'example.com', route = { mode = 'wildcard' } }\n", "expected *. and a domain"},
		{gateway + "gateway = { address = '*.example', route = { mode = 'wildcard' } }\n", "expected *. and a domain"},
		{gateway + "gateway = { address = '*.a.b', route = { mode = 'uri' } }\n", "must have no *"},
		{gateway + "gateway = { address = 'h:0', route = { mode = 'header' } }\n", "expected a port"},
		{gateway + "gateway = { address = '-h', route = { mode = 'header' } }\n", "expected a host, or host:port"},
		{gateway + "gateway = { address = 'h', route = { mode = 'uri' } }\nsecure_access = { active_key = 'c', keys = [{ key_id = 'a', key = 'BASE64' }] }\n", "names none of the keys"},
		{gateway + "gateway = { address = 'h', route = { mode = 'uri' } }\nsecure_access = { active_key = 'a' }\n", "[ingress.secure_access]: needs active_key and keys"},
		{gateway + "secure_access.keys = [{ key_id = 'aa', key = 'BASE64' }]\n", "ingress.secure_access.keys = ***: expected an array of tables"},
		{gateway + "secure_access.keys = [{ key_id = 'a', key = 'BASE64' }, { key_id = 'a', key = 'BASE64' }]\n", "with different ids"},
		{gateway + "secure_access.keys = [{ key_id = 'a', key = 'PASSWORD!' }]\n", "key in base64"},
		{"[egress]\nupstream_proxy = { url = 'http://h' }\n", `[egress.upstream_proxy]: needs egress.mode = "dns+nft"`},
		{"[egress]\nmode = 'dns+nft'\nupstream_proxy = {}\n", "[egress.upstream_proxy]: needs url"},
		{"[egress]\nmode = 'dns+nft'\nupstream_proxy = { url = 'http://u:PASSWORD@h' }\n", "egress.upstream_proxy.url = ***"},
		{"[egress]\nmode = 'dns+nft'\nupstream_proxy = { url = 'http://h/path' }\n", "and nothing else"},
		{"[egress]\nmode = 'dns+nft'\nupstream_proxy = { url = 'http://h:0' }\n", "and nothing else"},
		{"[egress]\nmode = 'dns+nft'\nupstream_proxy = { url = 'http://h', ca_secret_name = 'x' }\n", "is for Kubernetes only"},
		{kubernetes + "[egress]\nmode = 'dns+nft'\nupstream_proxy = { url = 'http://h', ca_cert_path = '/x' }\n", "is for Docker only"},
		{"[egress]\nmode = 'dns+nft'\nupstream_proxy = { url = 'http://h', ca_cert_path = '/x:y' }\n", "without a colon"},
		{"[egress]\nmode = 'dns+nft'\nupstream_proxy = { url = 'http://h', authorization = \"PASSWORD\\n\" }\n", "authorization = ***: expected text on one line"},
		{"[egress]\nrequests = { cpu = '2' }\nlimits = { cpu = '1500m' }\n", "cpu: 2 is more than the limit 1500m"},
		{"[egress]\nrequests = { memory = '1Gi' }\nlimits = { memory = '1G' }\n", "memory: 1Gi is more than the limit 1G"},
		{"[egress]\nrequests = { 'requests.cpu' = '1' }\n", "expected cpu, memory"},
		{"[egress]\nrequests = { cpu = '1e999' }\n", "expected an amount"},
		{"[egress]\nrequests = { cpu = '-1' }\n", "expected an amount"},
		{"[egress]\nreadiness_timeout_seconds = 0\n", "expected a number above 0"},
		{"[egress]\notlp_endpoint = 'collector:4317'\n", "expected an http:// or https:// URL"},
		{"[secure_runtime]\ndocker_runtime = ''\n", `secure_runtime.docker_runtime = "": needs secure_runtime.type`},
		{"[secure_runtime]\ntype = 'gvisor'\n", "needs secure_runtime.docker_runtime or secure_runtime.k8s_runtime_class"},
		{"[secure_runtime]\ntype = 'gvisor'\ndocker_runtime = 'runsc'\n", "sandboxes would run without the isolation"},
		{"[secure_runtime]\ntype = 'firecracker'\nk8s_runtime_class = 'x'\n", "is for Kubernetes only"},
		{kubernetes + "[secure_runtime]\ntype = 'firecracker'\ndocker_runtime = 'x'\n", "needs secure_runtime.k8s_runtime_class"},
		{"[store]\ntype = 'postgresql'\npostgresql = { dsn = 'postgres://u:PASSWORD@h' }\n", `PostgreSQL is not supported; expected "sqlite" or "redis"`},
		{"[store]\npostgresql = { max_pool_size = 0 }\n", "store.postgresql.max_pool_size = 0"},
		{"[otel]\nexport_interval_millis = 999\n", "otel.export_interval_millis = 999"},
		{"[server]\nloop = 'x'\n", `server.loop = "x": expected one of "auto", "uvloop", "asyncio"`},
		{"[server]\nbacklog = 0\n", "server.backlog = 0"},
		{"[log]\nfile_max_bytes = 0\n", "log.file_max_bytes = 0"},
		{"[log]\nlevel = 'loud'\n", `log.level = "loud"`},
	} {
		_, err := settings.Read(settings.Options{Path: write(t, c.file)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.file, err, c.want)
		}
		secrettest.Absent(t, "the error for "+c.file, fmt.Sprint(err))
	}
}

func TestSecureAccessByEnvironment(t *testing.T) {
	t.Parallel()
	file := write(t, kubernetes+"[ingress]\nmode = 'gateway'\ngateway = { address = 'h', route = { mode = 'uri' } }\n")
	both := map[string]string{"OPENSANDBOX_SECURE_ACCESS_KEYS": "a=BASE64==,b=BASE64", "OPENSANDBOX_SECURE_ACCESS_ACTIVE_KEY": "b"}
	s, err := settings.Read(settings.Options{Path: file, Lookup: env(both)})
	if err != nil || s.Ingress.ActiveKey != "b" || s.Ingress.SecureAccessKeys["a"].Reveal() != reveal("BASE64==") {
		t.Errorf("%+v, %v", s.Ingress, err)
	}
	for name := range both {
		_, err := settings.Read(settings.Options{Path: file, Lookup: env(map[string]string{name: both[name]})})
		if err == nil || !strings.Contains(err.Error(), "needs active_key and keys") {
			t.Errorf("%s alone: %v", name, err)
		}
	}
}

func TestForwarders(t *testing.T) {
	t.Parallel()
	text := func(s string) *string { return &s }
	for name, c := range map[string]struct {
		text     *string
		want     []string
		warnings int
	}{
		"unset":                    {nil, []string{"127.0.0.1/32", "::1/128"}, 0},
		"empty":                    {text(""), nil, 0},
		"all":                      {text(" * "), []string{"0.0.0.0/0", "::/0"}, 0},
		"some":                     {text("10.0.0.7, 10.1.0.0/16,2001:db8::/32,,::ffff:1.2.3.4"), []string{"10.0.0.7/32", "10.1.0.0/16", "2001:db8::/32", "1.2.3.4/32"}, 0},
		"names":                    {text("proxy.example,10.0.0.7,unix:"), []string{"10.0.0.7/32"}, 2},
		"all is a word of its own": {text("*,10.0.0.7"), []string{"10.0.0.7/32"}, 1},
		"an address in a network":  {text("10.0.0.7/8"), nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vars := map[string]string{}
			if c.text != nil {
				vars["FORWARDED_ALLOW_IPS"] = *c.text
			}
			s, err := settings.Read(settings.Options{Path: write(t, "[docker]\nnetwork_mode = 'bridge'\n"), Lookup: env(vars)})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range s.Server.Forwarders {
				got = append(got, p.String())
			}
			if diff := cmp.Diff(c.want, got); diff != "" || len(s.Warnings) != c.warnings {
				t.Errorf("warnings %q, trusted (-want +got):\n%s", s.Warnings, diff)
			}
		})
	}
}

func TestVariablesWithoutMeaningAreNamed(t *testing.T) {
	t.Parallel()
	s, err := settings.Read(settings.Options{Path: write(t, "[docker]\nnetwork_mode = 'bridge'\n"), Lookup: env(map[string]string{
		"FORWARDED_ALLOW_IPS": "proxy.example", "SANDBOX_TENANTS_CONFIG_PATH": "/t", "OPENSANDBOX_STORE_POSTGRESQL_DSN": "postgres://u:PASSWORD@h",
	})})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`OPENSANDBOX_STORE_POSTGRESQL_DSN: has no effect: store.type is "sqlite" or "redis"`,
		"FORWARDED_ALLOW_IPS: one of its words is neither an address nor a network such as 10.0.0.0/8, and matches nobody",
		"SANDBOX_TENANTS_CONFIG_PATH: has no effect: tenants are not available yet",
	}
	if diff := cmp.Diff(want, s.Warnings); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
