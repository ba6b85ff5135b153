package conf_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"opensandbox/libs/conf"
	"opensandbox/libs/secrettest"
)

type target struct {
	host, mode string
	port       int
	on         bool
	list       []string
	labels     map[string]string
	wait       time.Duration
	key        conf.Secret
}

func keys(t *target) []conf.Key {
	return []conf.Key{
		conf.String("server.host", &t.host, nil), conf.Int("server.port", &t.port, 1, 65535), conf.Bool("server.on", &t.on),
		conf.Strings("server.list", &t.list), conf.Enum("server.mode", &t.mode, "bridge", "host"), conf.Seconds("server.wait", &t.wait, 0, 60),
		conf.Hidden("server.key", &t.key, nil).OrBlank(), conf.Texts("server.labels", &t.labels, nil), conf.Ignored("old.key", "has no effect"),
		conf.Ignored("block", "has no effect"), conf.Refused("tenants", "tenants are not supported"), conf.Refused("server.profile", "no profiles", "plain"),
	}
}

func variables(m map[string]string) conf.Input {
	return conf.Input{Lookup: func(k string) (string, bool) { v, ok := m[k]; return v, ok }, Names: slices.Collect(maps.Keys(m))}
}

func TestFile(t *testing.T) {
	t.Parallel()
	var got target
	key := secrettest.New("the key of a file")
	l, err := conf.Load(conf.Input{Path: "/f", File: []byte(`
[server]
host = "h"
port = "80"
on = true
list = ["a", "b"]
labels = { zone = "z1" }
mode = "BRIDGE"
wait = 5
key = "` + key + `"
prot = 1
profile = "plain"
"odd\nname" = 1
[old]
key = 1
[block]
anything = { a = 1 }
`)}, keys(&got))
	if err != nil {
		t.Fatal(err)
	}
	want := target{"h", "bridge", 80, true, []string{"a", "b"}, map[string]string{"zone": "z1"}, 5 * time.Second, conf.NewSecret(key)}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(target{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	wantWarnings := []string{"/f: block: has no effect", "/f: old.key: has no effect", `/f: server."odd\nname": unknown, ignored`,
		"/f: server.prot: unknown, ignored; did you mean server.port?"}
	if diff := cmp.Diff(wantWarnings, l.Warnings); diff != "" {
		t.Errorf("warnings (-want +got)\n%s", diff)
	}
	if l.Origin("server.port") != "file" || l.Origin("tenants") != "default" {
		t.Errorf("origins %q and %q", l.Origin("server.port"), l.Origin("tenants"))
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	key := secrettest.New("a key in a file with mistakes")
	in := variables(map[string]string{
		"OPENSANDBOX_SERVER_PORT": "http", "OPENSANDBOX_SERVER_ON": "maybe", "OPENSANDBOX_SERVER_LABELS": "a=1,a=2", "OPENSANDBOX_TENANTS_PROVIDER": key,
		"OPENSANDBOX_SERVER_PROFILE": "x", "OPENSANDBOX_SERVER_KEY": conf.Mask,
	})
	in.Path, in.File = "/f", []byte(`
old = 1
[server]
host = 1
port = 70000
on = "maybe"
list = [1, "a\nb"]
mode = "none"
wait = -1
key = ["`+key+`"]
labels = { a = 1 }
profile = { a = "`+key+`" }
[tenants]
provider = "`+key+`"
`)
	_, err := conf.Load(in, keys(&target{}))
	want := []string{
		"/f: old: is a single value; expected a table",
		`/f: server.host = 1: expected text in quotes`,
		`/f: server.key = ***: expected text in quotes`,
		`/f: server.labels = {…}: "a": expected text in quotes`,
		`/f: server.list = [1, "a\nb"]: expected an array of texts`,
		`/f: server.mode = "none": expected one of "bridge", "host"`,
		`/f: server.on = "maybe": expected true or false`,
		`/f: server.port = 70000: expected a whole number from 1 to 65535`,
		`/f: server.profile = {…}: no profiles`,
		`/f: server.wait = -1: expected a whole number from 0 to 60`,
		`/f: tenants = {…}: tenants are not supported`,
		`OPENSANDBOX_SERVER_PORT = "http": expected a whole number from 1 to 65535`,
		`OPENSANDBOX_SERVER_ON = "maybe": expected true or false`,
		`OPENSANDBOX_SERVER_KEY = ***: this is the mask of a printed configuration; put the secret itself here`,
		`OPENSANDBOX_SERVER_LABELS = "a=1,a=2": expected name=value pairs with different names, separated by commas`,
		`OPENSANDBOX_SERVER_PROFILE = "x": no profiles`,
		`OPENSANDBOX_TENANTS_PROVIDER = ***: tenants are not supported`,
	}
	if diff := cmp.Diff(want, strings.Split(fmt.Sprint(err), "\n")); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	in := variables(map[string]string{
		"OPENSANDBOX_SERVER_HOST": "from-env", "OPENSANDBOX_SERVER_PORT": " 81 ", "OPENSANDBOX_SERVER_ON": "yes", "OPENSANDBOX_SERVER_LIST": "a, b,",
		"OPENSANDBOX_SERVER_LABELS": "zone=z1, rack=r=2,", "OPENSANDBOX_SERVER_MODE": "", "OPENSANDBOX_SERVER_KEY": "", "OPENSANDBOX_OLD_KEY": "1",
		"OPENSANDBOX_SERVER_PROT": "1", "OPENSANDBOX_SOMETHING_ELSE": "1", "OPENSANDBOX_SERVER_PORTS": "read elsewhere", "PATH": "/bin",
		"OPENSANDBOX_SERVER_SERVICE_HOST": "10.0.0.1", "OPENSANDBOX_SERVER_PORT_80_TCP_ADDR": "10.0.0.1",
	})
	in.Others = []string{"OPENSANDBOX_SERVER_PORTS"}
	in.File = []byte("[server]\nhost = 'from-file'\nmode = 'host'\nkey = 'from-file'\n")
	var got target
	l, err := conf.Load(in, keys(&got))
	if err != nil {
		t.Fatal(err)
	}
	want := target{"from-env", "host", 81, true, []string{"a", "b"}, map[string]string{"zone": "z1", "rack": "r=2"}, 0, conf.Secret{}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(target{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	wantWarnings := []string{"OPENSANDBOX_OLD_KEY: has no effect", "OPENSANDBOX_SERVER_PROT: unknown, ignored; did you mean OPENSANDBOX_SERVER_PORT?"}
	if diff := cmp.Diff(wantWarnings, l.Warnings); diff != "" {
		t.Errorf("warnings (-want +got)\n%s", diff)
	}
	if got := l.Origin("server.host"); got != "OPENSANDBOX_SERVER_HOST" {
		t.Errorf("origin %q", got)
	}
}

func TestServiceLinksOfKubernetes(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"tcp://10.0.0.1:8080", "tcp://[fd00::1]:8080", "udp://10.0.0.1:53"} {
		got := target{port: 80}
		l, err := conf.Load(variables(map[string]string{"OPENSANDBOX_SERVER_PORT": address}), keys(&got))
		if err != nil || got.port != 80 || len(l.Warnings) != 1 || l.Set("server.port") {
			t.Errorf("%s: port %d, warnings %q, %v", address, got.port, l.Warnings, err)
		}
	}
	if _, err := conf.Load(variables(map[string]string{"OPENSANDBOX_SERVER_PORT": "tcp://host"}), keys(&target{})); err == nil {
		t.Error("tcp://host was taken for a service link")
	}
}

func TestMistakeNamesItsOrigin(t *testing.T) {
	t.Parallel()
	in := variables(map[string]string{"OPENSANDBOX_SERVER_HOST": "e"})
	in.Path, in.File = "/f", []byte("[server]\nport = 80\nkey = '"+secrettest.New("the key of a file")+"'\n")
	l, err := conf.Load(in, keys(&target{}))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"server.host": `OPENSANDBOX_SERVER_HOST = "e": no`, "server.port": "/f: server.port = 80: no", "server.mode": "server.mode: no",
		"server.key": "/f: server.key = ***: no",
	} {
		if got := l.Mistake(name, "no").Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSyntaxErrorsHaveAPlace(t *testing.T) {
	t.Parallel()
	in := variables(map[string]string{"OPENSANDBOX_SERVER_PORT": "0"})
	in.Path, in.File = "/f", []byte("[server]\nhost = \n")
	l, err := conf.Load(in, keys(&target{}))
	if err == nil || !strings.HasPrefix(err.Error(), "/f: line 2, column ") || !strings.Contains(err.Error(), "\nOPENSANDBOX_SERVER_PORT = ") || l.Parsed() {
		t.Errorf("error %v, want one that names line 2, and the variable", err)
	}
}

func TestBrokenFilesDoNotRepeatSecrets(t *testing.T) {
	t.Parallel()
	key := secrettest.New("the key of a broken file")
	for _, value := range []string{
		"KEY", `"KEY`, "'KEY", `"KEY" KEY`, "987654321987654321987654321", "1e98765432198765_", "0x98765432198765432198765", "[KEY",
		"{ KEY", "2026-99-99T98:76:54Z", `"\\KEY\q"`, "\"KEY\"\nkey = \"KEY\"", "\"KEY\"\n[server]", `"""KEY`, "{ a = 'KEY', a = 'KEY' }",
	} {
		_, err := conf.Load(conf.Input{Path: "/f", File: []byte("[server]\nkey = " + strings.ReplaceAll(value, "KEY", key) + "\n")}, keys(&target{}))
		if err == nil {
			t.Errorf("%s was taken", value)
			continue
		}
		// A part of a key is too much as well.
		for _, secret := range []string{key[:12], "9876543", "98:76"} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error repeats the value", value)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	names := []string{"server.port", "server.host", "store.path"}
	for name, want := range map[string]string{"server.prot": "server.port", "srver.host": "server.host", "weather": "", strings.Repeat("x", 10000): ""} {
		if got := conf.Nearest(name, names); got != want {
			t.Errorf("%.20s: got %q, want %q", name, got, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("[server]\nport = 1\n"), "80")
	f.Add([]byte("server = 1\n[a.b]\nc = []\n"), "a=b,c")
	f.Add([]byte("server.key = 1e99999\ntenants = {}\n[server.profile]\n"), "tcp://10.0.0.1:80")
	f.Add([]byte("[server]\nlabels = { 'a b' = \"\\u0000\" }\nlist = ['']\nhost = '''\na'''\n"), "***")
	f.Fuzz(func(t *testing.T, file []byte, text string) {
		lookup := func(string) (string, bool) { return text, text != "" }
		for _, in := range []conf.Input{{File: file}, {Path: "/f", File: file, Lookup: lookup}} {
			var got target
			l, err := conf.Load(in, keys(&got))
			if err != nil {
				continue
			}
			if got.port < 0 || got.port > 65535 || got.wait < 0 || got.wait > time.Minute {
				t.Errorf("port %d and wait %v were taken from %q and %q", got.port, got.wait, file, text)
			}
			again(t, l, got)
		}
	})
}

// again loads what Print writes, and expects the same values but for secrets.
func again(t *testing.T, l *conf.Loaded, want target) {
	t.Helper()
	var out bytes.Buffer
	if err := l.Print(&out); err != nil {
		t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.SplitAfter(out.String(), "\n"), func(line string) bool { return strings.HasPrefix(line, "key = ") })
	var got target
	if _, err := conf.Load(conf.Input{File: []byte(strings.Join(lines, ""))}, keys(&got)); err != nil {
		t.Fatalf("%v in:\n%s", err, out.String())
	}
	want.key = conf.Secret{}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(target{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got)\n%s\nfrom:\n%s", diff, out.String())
	}
}
