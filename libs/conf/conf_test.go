package conf_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/conf"
)

type target struct {
	host, mode string
	port       int
	on         bool
	list       []string
	wait       time.Duration
	key        conf.Secret
}

func keys(t *target) []conf.Key {
	return []conf.Key{
		conf.String("server.host", &t.host, nil), conf.Int("server.port", &t.port, 1, 65535), conf.Bool("server.on", &t.on),
		conf.Strings("server.list", &t.list), conf.Enum("server.mode", &t.mode, "bridge", "host"), conf.Seconds("server.wait", &t.wait, 0, 60),
		conf.Hidden("server.key", &t.key), conf.Ignored("old.key", "has no effect"), conf.Ignored("block", "has no effect"),
		conf.Refused("tenants", "tenants are not supported"),
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	var got target
	warnings, err := conf.Load([]byte(`
[server]
host = "h"
port = "80"
on = true
list = ["a", "b"]
mode = "BRIDGE"
wait = 5
key = "s3cret"
prot = 1
[old]
key = 1
[block]
anything = { a = 1 }
`), keys(&got))
	if err != nil {
		t.Fatal(err)
	}
	want := target{"h", "bridge", 80, true, []string{"a", "b"}, 5 * time.Second, "s3cret"}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(target{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	wantWarnings := []string{"block: has no effect", "old.key: has no effect", "server.prot: unknown, ignored; did you mean server.port?"}
	if diff := cmp.Diff(wantWarnings, warnings); diff != "" {
		t.Errorf("warnings (-want +got)\n%s", diff)
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	_, err := conf.Load([]byte(`
old = 1
[server]
host = 1
port = 70000
on = "maybe"
list = [1]
mode = "none"
wait = -1
key = ["hunter2"]
[tenants]
provider = "file"
`), keys(&target{}))
	want := []string{
		"old: is a single value; expected a table",
		`server.host = 1: expected text in quotes`,
		`server.key = [redacted]: expected text in quotes`,
		`server.list = [1]: expected an array of texts`,
		`server.mode = "none": expected one of "bridge", "host"`,
		`server.on = "maybe": expected true or false`,
		`server.port = 70000: expected a whole number from 1 to 65535`,
		`server.wait = -1: expected a whole number from 0 to 60`,
		`tenants = {…}: tenants are not supported`,
	}
	if diff := cmp.Diff(want, strings.Split(fmt.Sprint(err), "\n")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestSyntaxErrorsHaveAPlace(t *testing.T) {
	t.Parallel()
	_, err := conf.Load([]byte("[server]\nhost = \n"), nil)
	if err == nil || !strings.HasPrefix(err.Error(), "line 2, column ") {
		t.Errorf("error %v, want one that names line 2", err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	s := struct{ Key conf.Secret }{"hunter2"}
	j, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{fmt.Sprint(s), fmt.Sprintf("%+v %#v %q %s", s, s, s.Key, s.Key), string(j)} {
		if strings.Contains(out, "hunter2") {
			t.Errorf("printed: %s", out)
		}
	}
	if s.Key.Reveal() != "hunter2" {
		t.Error("Reveal lost the secret")
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("[server]\nport = 1\n"))
	f.Add([]byte("server = 1\n[a.b]\nc = []\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		var got target
		if _, err := conf.Load(file, keys(&got)); err == nil && (got.port < 0 || got.port > 65535) {
			t.Errorf("port %d was taken from %q", got.port, file)
		}
	})
}
