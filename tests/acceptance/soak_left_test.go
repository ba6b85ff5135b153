//go:build e2e

package acceptance

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// leftover is something that is left behind on purpose.
type leftover struct {
	name string
	// leave leaves it, and returns what takes it away again.
	leave func() (takeAway func())
	// noticed are quantities that must then be too much.
	noticed []quantity
}

// leavesBehind leaves one thing after the other, each of which must break the comparison with what was there before.
func (k *soak) leavesBehind(before amounts) {
	k.s.t.Helper()
	for _, l := range k.leftovers() {
		takeAway := l.leave()
		rows := k.compare(before, k.look("left: "+l.name, false))
		for _, q := range l.noticed {
			if !strings.Contains(broken(rows)+";", q.String()+";") {
				k.s.t.Errorf("%s was left behind, and %v does not show it; broken: %s", l.name, q, broken(rows))
			}
		}
		takeAway()
	}
}

func (k *soak) leftovers() []leftover {
	t := k.s.t
	engine := k.s.engines()[len(k.s.engines())-1]
	last := fmt.Sprintf("engine %d", len(k.s.engines())-1)
	run := func(args ...string) string { return docker(t, append(engine, args...)...) }
	label := "dev.opensandbox.installation=" + k.s.installation()
	all := []leftover{
		{"a sandbox", func() func() {
			id := k.s.create(m{"metadata": m{"left": "behind"}})
			return func() { k.s.do(http.MethodDelete, "/v1/sandboxes/"+id, nil) }
		}, k.sandboxShows()},
		{"a volume", func() func() {
			name := run("volume", "create", "--label", label)
			return func() { run("volume", "rm", "-f", name) }
		}, []quantity{{last, volumesOfOurs}}},
		{"a network", func() func() {
			id := run("network", "create", "--label", "dev.opensandbox.role=network", "soak-"+filepath.Base(k.s.dir)+k.name)
			return func() { run("network", "rm", id) }
		}, []quantity{{last, networksOfOurs}}},
		{"a file", func() func() {
			found, _ := filepath.Glob(filepath.Join(k.s.dir, "state*"))
			path := filepath.Join(found[0], "left")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return func() { _ = os.Remove(path) }
		}, k.fileShows()},
	}
	for name, base := range k.admin {
		all = append(all, leftover{"connections to " + name, func() func() { return connect(t, base) }, []quantity{{name, descriptors}, {name, goroutines}}})
	}
	return all
}

// sandboxShows is what a sandbox that goes on adds to the store.
func (k *soak) sandboxShows() []quantity {
	if k.s.split == nil {
		return []quantity{{"engine 0", containersOfOurs}, {"SQLite", "sandboxes that have not ended"}, {"SQLite", "leased ports"}, {"SQLite", "labels"}, {"SQLite", "held amounts"}}
	}
	var all []quantity
	for _, kind := range []string{"record", "ports", "deadlines", "list", "placed"} {
		all = append(all, quantity{"Redis", measure("entries: " + kind)})
	}
	return append(all, quantity{"Redis", "keys: record"})
}

func (k *soak) fileShows() []quantity {
	found, _ := filepath.Glob(filepath.Join(k.s.dir, "state*"))
	return []quantity{{"directory " + filepath.Base(found[0]), files}}
}

// connect opens connections that wait for the rest of a request.
func connect(t *testing.T, base string) (end func()) {
	t.Helper()
	var open []net.Conn
	for range 40 {
		c, err := net.Dial("tcp", authority(base))
		if err == nil {
			_, err = c.Write([]byte("GET /health HTTP/1.1\r\n"))
		}
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	// One that was taken later is answered: all before it have been taken.
	res, err := scraper.Get(base + "/health")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	return func() {
		for _, c := range open {
			_ = c.Close()
		}
	}
}
