package settings

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/conf"
	"opensandbox/libs/secrettest"
)

// hidden is the secret that stands where texts have PASSWORD.
var hidden = newHidden()

// newHidden returns a secret that is also valid base64.
func newHidden() string {
	s := rand.Text()[:24]
	secrettest.Note("the secret value of a setting", s)
	return s
}

// reveal returns a text as a process would find it, with the secret in it.
func reveal(text string) string { return strings.ReplaceAll(text, "PASSWORD", hidden) }

// secretValues are the keys whose values may be secrets, each with one that is taken.
var secretValues = map[string]string{
	"server.api_key":                      `"PASSWORD"`,
	"docker.sandbox_env":                  `{ TOKEN = "PASSWORD" }`,
	"store.redis_url":                     `"redis://user:PASSWORD@host"`,
	"store.postgresql.dsn":                `"postgres://user:PASSWORD@host"`,
	"ingress.secure_access.keys":          `[{ key_id = "a", key = "PASSWORD" }]`,
	"renew_intent.redis.dsn":              `"redis://:PASSWORD@host"`,
	"egress.upstream_proxy.authorization": `"Bearer PASSWORD"`,
	"tenants.auth_token":                  `"PASSWORD"`,
	"internal.shared_secret":              `"PASSWORD-PASSWORD"`,
}

// concealed are the keys that hold addresses: they take no password, and must not show one that is given all the same.
var concealed = []string{"egress.otlp_endpoint", "egress.upstream_proxy.url", "otel.endpoint", "tenants.endpoint"}

// everything sets all secrets. It is valid for Kubernetes but for the key of the server, which tenants do not go together with.
func everything() string {
	var b strings.Builder
	b.WriteString("runtime.type = 'kubernetes'\ningress.mode = 'gateway'\ningress.gateway = { address = 'h', route = { mode = 'uri' } }\n" +
		"ingress.secure_access.active_key = 'a'\negress.mode = 'dns+nft'\negress.upstream_proxy.url = 'http://h'\n")
	for _, name := range slices.Sorted(slices.Values(keysOf(secretValues))) {
		fmt.Fprintf(&b, "%s = %s\n", name, secretValues[name])
	}
	return b.String()
}

func keysOf(m map[string]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	return names
}

func TestEverySecretKeyIsKnownToTheTests(t *testing.T) {
	t.Parallel()
	s := Default("~", ProcessServer)
	var got []string
	for _, k := range keys(&s, "~") {
		if k.Secret {
			got = append(got, k.Name)
		}
		for _, word := range []string{"secret", "password", "token", "api_key", "dsn", "authorization"} {
			if strings.Contains(k.Name[strings.LastIndexByte(k.Name, '.')+1:], word) && !k.Secret && !strings.HasSuffix(k.Name, "_secret_name") && k.Name != "kubernetes.template_s3_publish_secret" {
				t.Errorf("%s looks like a secret and is none", k.Name)
			}
		}
	}
	want := append(keysOf(secretValues), concealed...)
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "server.toml")
	put := func(text string) {
		if err := os.WriteFile(path, []byte(reveal(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	quiet := func(what, text string) { secrettest.Absent(t, what, text) }
	// The name of a variable may be shown.
	but := strings.NewReplacer(reveal(`"PASSWORD": `), "")
	put(everything())
	s, err := Read(Options{Path: path})
	if err == nil || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), "[tenants]: does not go together with server.api_key") {
		t.Errorf("the file with all secrets: %v", err)
	}
	quiet("the error", fmt.Sprint(err))
	quiet("a warning", strings.Join(s.Warnings, "\n"))
	var out strings.Builder
	if err := s.Print(&out); err != nil {
		t.Fatal(err)
	}
	quiet("--print-config", out.String())
	quiet("fmt", fmt.Sprintf("%v %+v %#v", s, s, s))
	j, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	quiet("JSON", string(j))
	out.Reset()
	slog.New(slog.NewJSONHandler(&out, nil)).Info("settings", "all", s, "docker", s.Docker)
	slog.New(slog.NewTextHandler(&out, nil)).Info("settings", "all", s, "docker", s.Docker, "env", s.Docker.SandboxEnv)
	quiet("slog", out.String())
	for _, name := range append(keysOf(secretValues), concealed...) {
		for _, wrong := range []string{"[['PASSWORD']]", "{ PASSWORD = { PASSWORD = 'PASSWORD' } }", "'PASSWORD://PASSWORD@h'", `"PASSWORD\u0000\nPASSWORD"`, "PASSWORD"} {
			put(name + " = " + wrong + "\n")
			_, err := Read(Options{Path: path})
			quiet(name+" = "+wrong, but.Replace(fmt.Sprint(err)))
		}
		put("")
		variable := conf.VariableOf(name)
		if name == "ingress.secure_access.keys" {
			variable = keysVariable
		}
		s, err := Read(Options{Path: path, Names: []string{variable}, Lookup: func(n string) (string, bool) { return reveal("PASSWORD=,PASSWORD"), n == variable }})
		quiet(variable, but.Replace(fmt.Sprint(err))+strings.Join(s.Warnings, "\n"))
	}
}
