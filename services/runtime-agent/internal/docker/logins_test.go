package docker

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/registry"
	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/executor"
	"opensandbox/libs/secrettest"
)

func TestLogins(t *testing.T) {
	t.Parallel()
	// A password may have a colon in it.
	password, token, broken := secrettest.New("a password of a registry")+":word", secrettest.New("a token of a registry"), secrettest.New("a broken login")
	basic := base64.StdEncoding.EncodeToString([]byte("robot:" + password))
	robot := registry.AuthConfig{Username: "robot", Password: password}
	for name, c := range map[string]struct {
		file, image string
		want        registry.AuthConfig
		complaint   string
	}{
		"as docker login writes it":     {`{"auths":{"127.0.0.1:5000":{"auth":"` + basic + `"}}}`, "127.0.0.1:5000/team/box:1", robot, ""},
		"no tag":                        {`{"auths":{"registry.example:5000":{"auth":"` + basic + `"}}}`, "registry.example:5000/box", robot, ""},
		"two words":                     {`{"auths":{"r.example":{"username":"robot","password":"` + password + `"}}}`, "r.example/box", robot, ""},
		"a URL":                         {`{"auths":{"https://r.example/v1/":{"auth":"` + basic + `"}}}`, "r.example/box", robot, ""},
		"the default registry":          {`{"auths":{"https://index.docker.io/v1/":{"auth":"` + basic + `"}}}`, "team/box", robot, ""},
		"a token":                       {`{"auths":{"r.example":{"auth":"` + basic + `","identitytoken":"` + token + `"}}}`, "r.example/box", registry.AuthConfig{Username: "robot", IdentityToken: token}, ""},
		"another registry":              {`{"auths":{"r.example":{"auth":"` + basic + `"}}}`, "r.example:443/box", registry.AuthConfig{}, ""},
		"a registry that ends alike":    {`{"auths":{"r.example":{"auth":"` + basic + `"}}}`, "bad-r.example/box", registry.AuthConfig{}, ""},
		"a path that is called alike":   {`{"auths":{"r.example":{"auth":"` + basic + `"}}}`, "other.example/r.example/box", registry.AuthConfig{}, ""},
		"no credentials":                {`{}`, "r.example/box", registry.AuthConfig{}, ""},
		"a helper for all":              {`{"auths":{"r.example":{}},"credsStore":"desktop"}`, "r.example/box", registry.AuthConfig{}, "credsStore"},
		"a helper for one":              {`{"credHelpers":{"r.example":"cloud"}}`, "r.example/box", registry.AuthConfig{}, "credHelpers"},
		"a helper for another":          {`{"credHelpers":{"o.example":"cloud"}}`, "r.example/box", registry.AuthConfig{}, ""},
		"in the file in spite of a one": {`{"auths":{"r.example":{"auth":"` + basic + `"}},"credsStore":"desktop"}`, "r.example/box", robot, ""},
		"no colon":                      {`{"auths":{"r.example":{"auth":"` + base64.StdEncoding.EncodeToString([]byte(broken)) + `"}}}`, "r.example/box", registry.AuthConfig{}, "user:password"},
		"no base64":                     {`{"auths":{"r.example":{"auth":"!` + broken + `"}}}`, "r.example/box", registry.AuthConfig{}, "user:password"},
		"no JSON":                       {broken, "r.example/box", registry.AuthConfig{}, "JSON"},
		"no name of an image":           {`{"auths":{"r.example":{"auth":"` + basic + `"}}}`, "r.example/BOX", registry.AuthConfig{}, ""},
		"too large":                     {strings.Repeat(" ", maxLogins+1), "r.example/box", registry.AuthConfig{}, "usual size"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "config.json")
			if err := os.WriteFile(path, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := logins{path}.of(c.image)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			switch {
			case c.complaint == "" && err != nil:
				t.Error(err)
			case c.complaint != "" && (err == nil || !strings.Contains(err.Error(), c.complaint) || !strings.Contains(err.Error(), path)):
				t.Errorf("got %v, want the path and %q in it", err, c.complaint)
			case err != nil:
				secrettest.Absent(t, "the error", err.Error())
			}
		})
	}
}

func TestLoginsWithoutFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, complaint := range map[string]string{"": "", filepath.Join(dir, "none"): "", filepath.Join(dir, "no", "such"): "", dir: "usual size"} {
		got, err := logins{path}.of("r.example/box")
		if got != (registry.AuthConfig{}) || (err == nil) != (complaint == "") || err != nil && !strings.Contains(err.Error(), complaint) {
			t.Errorf("%q: %v, %v; want the error %q", path, got, err, complaint)
		}
	}
}

// TestACredentialHelperIsToldOnce pulls from registries whose credentials two programs may keep.
func TestACredentialHelperIsToldOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(`{"credsStore":"desktop","credHelpers":{"r.example":"cloud"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	e := &Engine{cfg: Config{ClientConfig: path, Log: slog.New(slog.NewTextHandler(&log, nil))}}
	for _, img := range []string{"busybox", "busybox:2", "o.example/box", "r.example/box", "r.example/other"} {
		if s := e.shownFor(t.Context(), executor.Image{Name: img}); s.credentials().Set() {
			t.Errorf("%s: credentials from nowhere", img)
		}
	}
	for _, program := range []string{"desktop", "cloud"} {
		if n := strings.Count(log.String(), program); n != 1 {
			t.Errorf("%s is named %d times in:\n%s", program, n, log.String())
		}
	}
	// What is wrong with the file itself is told with each pull.
	if err := os.WriteFile(path, []byte(`{`), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		e.shownFor(t.Context(), executor.Image{Name: "busybox"})
	}
	if n := strings.Count(log.String(), "is not a configuration"); n != 2 {
		t.Errorf("told %d times in:\n%s", n, log.String())
	}
}
