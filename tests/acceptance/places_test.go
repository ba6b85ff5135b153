//go:build e2e

package acceptance

import (
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// place is an image, the user that it runs as, and the sandbox that is made of both.
type place struct {
	name, image string
	user        int
	// shell says that the image has one. One that has none has a single program: see onlyProgram.
	shell bool
	// dir is a directory that the user may write to.
	dir string
	id  string
}

// onlyProgram is that of the image without a shell, tests/cmd/static-app.
const onlyProgram = "/app"

// everyPlace are the images and users that the daemon must serve.
var everyPlace = []place{
	{name: "busybox as root", image: image, shell: true, dir: "/tmp"},
	{name: "busybox as a user", image: image, user: 65534, shell: true, dir: "/tmp"},
	{name: "Debian as root", image: debian, shell: true, dir: "/tmp"},
	{name: "Debian as a user without an account", image: debian, user: 12345, shell: true, dir: "/tmp"},
	{name: "no shell as root", image: shellless, dir: "/dev/shm"},
	{name: "no shell as a user", image: shellless, user: 23456, dir: "/dev/shm"},
}

// places starts a server with a sandbox for each place, or for those that are named. With the split services these are only the images that
// all engines have.
func places(t *testing.T, names ...string) (*server, []place) {
	t.Helper()
	var all []place
	for _, p := range everyPlace {
		if len(names) > 0 && !slices.Contains(names, p.name) || os.Getenv("OPENSANDBOX_TEST_SPLIT") != "" && (p.user != 0 || !p.shell) {
			continue
		}
		if p.user != 0 { // Made before the server starts, so that it is removed after its last container.
			p.image = asUser(t, p.image, strconv.Itoa(p.user))
		}
		all = append(all, p)
	}
	s := start(t, "")
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			p := &all[i]
			entrypoint := []string{"tail", "-f", "/dev/null"}
			if !p.shell {
				entrypoint = []string{onlyProgram}
			}
			a, err := s.try("POST", "/v1/sandboxes", spec(m{"image": m{"uri": p.image}, "entrypoint": entrypoint, "env": m{"FROM": "create"}}))
			if err != nil || a.status != http.StatusAccepted {
				t.Errorf("%s: create: %v %v", p.name, a, err)
				return
			}
			p.id = a.json(t)["id"].(string)
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return s, all
}

// until is eventually for a try, which may run beside others.
func (d daemon) until(what string, done func() bool) {
	d.t.Helper()
	for end := time.Now().Add(patience); !done(); waitABit() {
		if time.Now().After(end) {
			d.t.Fatalf("never: %s", what)
		}
	}
}

// names is how the user is shown: the place's own number, or the name that the image has for it.
func (p place) names() string {
	switch {
	case p.user == 0 && p.shell:
		return "root"
	case p.user == 65534 && p.shell:
		return "nobody"
	}
	return strconv.Itoa(p.user)
}
