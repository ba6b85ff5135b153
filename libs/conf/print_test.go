package conf_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"

	"opensandbox/libs/conf"
	"opensandbox/libs/secrettest"
)

func TestPrint(t *testing.T) {
	t.Parallel()
	in := variables(map[string]string{"OPENSANDBOX_SERVER_PORT": "81", "OPENSANDBOX_SERVER_KEY": secrettest.New("the key of a variable")})
	in.Path, in.File = "/f\n[x]", []byte("[server]\nhost = \"it's \\\"h\\\"\\n\"\nlist = ['a']\nlabels = { zone = 'z 1', 'a b' = '' }\n")
	l, err := conf.Load(in, keys(&target{}))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := l.Print(&out); err != nil {
		t.Fatal(err)
	}
	want := `# configuration file: "/f\n[x]"

[server]
host = "it's \"h\"\n" # file
port = 81 # OPENSANDBOX_SERVER_PORT
on = false # default
list = ['a'] # file
# mode is not set
# wait is not set
key = '***' # OPENSANDBOX_SERVER_KEY
labels = { 'a b' = '', zone = 'z 1' } # file
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if err := l.Print(broken{}); err == nil {
		t.Error("a writer that fails was not noticed")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestReference(t *testing.T) {
	t.Parallel()
	v := target{port: 80, host: "a|b"}
	got := conf.Reference([]conf.Key{
		conf.String("server.host", &v.host, nil).Describe("where", "api", "agent"), conf.Int("server.port", &v.port, 1, 9).Describe("port", "api").Warn("no effect yet"),
		conf.Hidden("server.key", &v.key, nil).FromVariable("KEY").Describe("secret", "api"), conf.Strings("server.list", &v.list).ByDefault("nine").Describe("list", "api"),
		conf.Ignored("old", "no effect"),
	})
	want := "| key | default | allowed | used by | meaning |\n|---|---|---|---|---|\n" +
		"| `server.host` | `a\\|b` | text | api, agent | where |\n" +
		"| `server.port` | 80 | 1–9 | api | port *(no effect yet)* |\n" +
		"| `server.key` | – | text | api | secret; variable `KEY` |\n" +
		"| `server.list` | nine | array of texts | api | list |\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	key := secrettest.New("a key that does not print")
	secret := conf.NewSecret(key)
	s := struct {
		Key    conf.Secret
		hidden conf.Secret
		List   []conf.Secret
		Map    map[string]conf.Secret
		Ptr    *conf.Secret
	}{secret, secret, []conf.Secret{secret}, map[string]conf.Secret{"a": secret}, &secret}
	texts := struct{ Texts conf.SecretTexts }{conf.SecretTexts{"NAME": key}}
	var out strings.Builder
	for verb := rune('!'); verb <= '~'; verb++ {
		for _, flags := range []string{"%", "%+", "%#", "%-9.3", "% ", "%09"} {
			fmt.Fprintf(&out, flags+string(verb), secret)
			fmt.Fprintf(&out, flags+string(verb), s)
			fmt.Fprintf(&out, flags+string(verb), &s)
		}
	}
	fmt.Fprint(&out, secret, s, s.hidden, texts)
	fmt.Fprintf(&out, "%v %+v %#v %s %q %x", texts, texts, texts, texts, texts, texts)
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("m", "t", texts, "u", texts.Texts, "a", secret, "b", s, "c", &s, slog.Group("g", "d", secret))
	}
	for _, encode := range []func(any) ([]byte, error){json.Marshal, toml.Marshal} {
		b, err := encode(map[string]any{"a": secret, "b": s.List, "c": s.Map, "d": s.Ptr})
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	b, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(b)
	var raw bytes.Buffer
	if err := gob.NewEncoder(&raw).Encode(s.Key); err == nil {
		out.Write(raw.Bytes())
	}
	secrettest.Absent(t, "what was printed", out.String())
	for form, leak := range map[string]string{
		"a part of it": key[:12], "%x": fmt.Sprintf("%x", key), "%X": fmt.Sprintf("%X", key), "% x": fmt.Sprintf("% x", key), "bytes": fmt.Sprint([]byte(key)),
	} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("the key was printed: %s", form)
		}
	}
	if got := fmt.Sprintf("%v %s %q %d %x %#v %+v %p", secret, secret, secret, secret, secret, secret, secret, secret); strings.Count(got, conf.Mask) < 7 {
		t.Errorf("printed %q, want masks", got)
	}
	if secret.Reveal() != key || !secret.IsSet() || (conf.Secret{}).IsSet() || conf.NewSecret("").IsSet() {
		t.Error("the secret is lost")
	}
	if !secret.Equal(conf.NewSecret(key)) || secret.Equal(conf.NewSecret(key[:len(key)-1]+"1")) || !(conf.Secret{}).Equal(conf.NewSecret("")) {
		t.Error("Equal is wrong")
	}
}
