package settings_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/secrettest"
	"opensandbox/libs/settings"
)

func TestDockerKeys(t *testing.T) {
	t.Parallel()
	s, err := settings.Read(settings.Options{Path: write(t, `
[docker]
network_mode = "HOST"
seccomp_profile = "~/p.json"
apparmor_profile = "my-profile"
publish_host = " 127.0.0.1 "
sandbox_env = { TOKEN = "PASSWORD", EMPTY = "" }
sandbox_binds = ["/data:/data", "cache:/var/cache:ro", "/x:/y:rw,z"]
[storage]
allowed_host_paths = ["/srv/data", "/mnt/"]
volume_default_size = "2Gi"
[proxy]
resolve_internal = false
`), Lookup: env(map[string]string{"HOME": "/home/u"})})
	if err != nil {
		t.Fatal(err)
	}
	d := s.Docker
	if d.NetworkMode != settings.NetworkHost || d.SeccompProfile != "/home/u/p.json" || d.AppArmorProfile != "my-profile" || d.PublishHost != "127.0.0.1" {
		t.Errorf("docker %+v", d)
	}
	if diff := cmp.Diff(map[string]string{"TOKEN": password, "EMPTY": ""}, map[string]string(d.SandboxEnv)); diff != "" {
		t.Errorf("sandbox_env (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/data:/data", "cache:/var/cache:ro", "/x:/y:rw,z"}, d.SandboxBinds); diff != "" {
		t.Errorf("sandbox_binds (-want +got)\n%s", diff)
	}
	want := settings.Storage{AllowedHostPaths: []string{"/srv/data", "/mnt/"}, VolumeDefaultSize: "2Gi", OSSFSMountRoot: "/mnt/ossfs"}
	if diff := cmp.Diff(want, s.Storage); diff != "" || s.Proxy.ResolveInternal {
		t.Errorf("resolve_internal %v, storage (-want +got)\n%s", s.Proxy.ResolveInternal, diff)
	}
	var out strings.Builder
	if err := s.Print(&out); err != nil || !strings.Contains(out.String(), "TOKEN = '***'") {
		t.Errorf("printed %v:\n%s", err, out.String())
	}
	secrettest.Absent(t, "--print-config", out.String())
	if _, err := settings.Read(settings.Options{Path: write(t, out.String())}); err == nil || !strings.Contains(err.Error(), `docker.sandbox_env = ***: "EMPTY": this is the mask`) {
		t.Errorf("a mask was taken: %v", err)
	}
}

func TestValuesOfDockerKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, wrong string }{
		{`network_mode = ""`, ""},
		{`network_mode = "My_Net-1.x"`, ""},
		{`network_mode = "none"`, "sandboxes need a network"},
		{`network_mode = "container:abc"`, "sandboxes need a network"},
		{`network_mode = "-x"`, `expected "bridge", "host" or the name of a network`},
		{`network_mode = "a b"`, `expected "bridge", "host" or the name of a network`},
		{`seccomp_profile = ""`, ""},
		{`seccomp_profile = "unconfined"`, ""},
		{`seccomp_profile = '{"defaultAction":"SCMP_ACT_ERRNO"}'`, ""},
		{`seccomp_profile = '{"defaultAction"'`, "not valid JSON"},
		{`seccomp_profile = "profile.json"`, "expected an absolute path"},
		{`apparmor_profile = "a b"`, "expected the name of a profile"},
		{`publish_host = ""`, ""},
		{`publish_host = "::1"`, "expected an IPv4 address"},
		{`sandbox_env = { "A=B" = "x" }`, "expected a name without ="},
		{`sandbox_env = { A = "x\u0000" }`, "expected a value without zero bytes"},
		{`sandbox_env = { OPENSANDBOX_ID = "x" }`, "every sandbox has its own"},
		{`sandbox_env = { A = 1 }`, "expected text in quotes"},
		{`sandbox_binds = ["/a"]`, "expected src:dst"},
		{`sandbox_binds = ["/a:/b:ro:x"]`, "expected src:dst"},
		{`sandbox_binds = ["a/b:/b"]`, "before the colon"},
		{`sandbox_binds = ["/a/../b:/b"]`, "before the colon"},
		{`sandbox_binds = ["/a:b"]`, "behind the colon"},
		{`sandbox_binds = ["/a:/"]`, "behind the colon"},
		{`sandbox_binds = ["/a:/b/../.."]`, "behind the colon"},
		{`sandbox_binds = ["/a:/b:rx"]`, `unknown mode "rx"`},
		{`sandbox_binds = ["/a:/b", "/c:/b/"]`, "/b is mounted twice"},
	} {
		s, err := settings.Read(settings.Options{Path: write(t, "[docker]\n"+c.line+"\n")})
		switch {
		case c.wrong == "" && err != nil:
			t.Errorf("%s: %v", c.line, err)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%s: got %v, want %q", c.line, err, c.wrong)
		case c.line == `network_mode = "My_Net-1.x"` && s.Docker.NetworkMode != "My_Net-1.x":
			t.Errorf("network %q: names of networks are not folded", s.Docker.NetworkMode)
		}
	}
}

func TestStoragePaths(t *testing.T) {
	t.Parallel()
	for _, line := range []string{`allowed_host_paths = ["data"]`, `allowed_host_paths = ["/a/../b"]`, `ossfs_mount_root = "x"`, `volume_default_size = "big"`} {
		if _, err := settings.Read(settings.Options{Path: write(t, "[storage]\n"+line+"\n")}); err == nil {
			t.Errorf("%s was taken", line)
		}
	}
}
