package proxy

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandboxproxy/resolve"
	"opensandbox/libs/sandboxproxy/target"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParsePath(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Path{
		"/sandboxes/a/proxy/1":              {ID: "a", Port: "1"},
		"/v1/sandboxes/a/proxy/1/":          {V1: true, ID: "a", Port: "1", Rest: "/"},
		"//v1//v1/sandboxes//a//proxy//1//": {V1: true, ID: "a", Port: "1", Rest: "//"},
		"/sandboxes/a/proxy/99999/x%2f":     {ID: "a", Port: "99999", Rest: "/x%2f"},
		"/sandboxes/a/proxy/1/proxy/2":      {ID: "a", Port: "1", Rest: "/proxy/2"},
	} {
		if got, ok := ParsePath(in); !ok || got != want {
			t.Errorf("%s: %+v %v, want %+v", in, got, ok, want)
		}
	}
	for _, in := range []string{"", "/", "sandboxes/a/proxy/1", "/sandboxes/a/proxy", "/sandboxes/a/proxy/", "/sandboxes/a/proxy/x", "/sandboxes/a/proxy/+1",
		"/sandboxes/a/proxy/1x", "/sandboxes/proxy/1", "/v2/sandboxes/a/proxy/1", "/x/sandboxes/a/proxy/1", "/sandboxes/a/b/proxy/1", "/SANDBOXES/a/proxy/1",
		"/sandboxes/a/proxy/%31", "/sandboxes/a/../proxy/1"} {
		if got, ok := ParsePath(in); ok {
			t.Errorf("%q is taken as %+v", in, got)
		}
	}
}

// What belongs to the application is the end of the path, byte by byte, and the tidy form of what comes before leads to the same port.
func FuzzParsePath(f *testing.F) {
	f.Add("/v1//sandboxes/a/proxy/8080/x/../y")
	f.Add("/sandboxes/a/proxy/8080")
	f.Fuzz(func(t *testing.T, raw string) {
		p, ok := ParsePath(raw)
		if !ok {
			return
		}
		if again, ok := ParsePath(p.Prefix() + p.Rest); !ok || again != p || !strings.HasSuffix(raw, p.Rest) {
			t.Errorf("%q: %+v, then %+v", raw, p, again)
		}
		if r, err := (Mode{}).Parse(target.Request{Path: raw}); err == nil && (r.Port < 1 || r.Port > 65535 || !strings.HasPrefix(r.Path, "/")) {
			t.Errorf("%q: %+v", raw, r)
		}
	})
}

func TestWay(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.9:44772") // stands for the daemon of a container that can be reached
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	place := func(node, ip string, onHost bool) resolve.Place {
		return resolve.Place{ID: "s", Epoch: 2, Node: node, Host: "h", Addresses: sandbox.Addresses{ContainerIP: ip, OnHost: onHost, Ports: map[int]int{44772: 1, 8080: 2}}}
	}
	published, relayed := resolve.Upstream{Address: "h:2"}, resolve.Upstream{Address: "h:1", Prefix: "/proxy/9000"}
	tunnel := resolve.Upstream{Address: "10.0.0.1:9000", Tunnel: &resolve.Tunnel{Node: "far", ID: "s", Epoch: 2, Port: 9000}}
	for name, c := range map[string]struct {
		way            *Way
		place          resolve.Place
		to8080, to9000 resolve.Upstream
	}{
		"nothing internal":    {&Way{LocalNode: "near", Tunnels: true}, place("near", "127.0.0.9", false), published, relayed},
		"in reach":            {&Way{Internal: true, LocalNode: "near"}, place("near", "127.0.0.9", false), resolve.Upstream{Address: "127.0.0.9:8080"}, resolve.Upstream{Address: "127.0.0.9:9000"}},
		"out of reach":        {&Way{Internal: true, LocalNode: "near"}, place("near", "127.0.0.8", false), published, relayed},
		"address not known":   {&Way{Internal: true, LocalNode: "near"}, place("near", "", false), published, relayed},
		"elsewhere":           {&Way{Internal: true, Tunnels: true}, place("far", "10.0.0.1", false), published, tunnel},
		"elsewhere, no agent": {&Way{Internal: true, LocalNode: "near"}, place("far", "127.0.0.9", false), published, relayed},
		"on the host":         {&Way{Internal: true, LocalNode: "near", Tunnels: true}, place("near", "127.0.0.1", true), published, relayed},
	} {
		for port, want := range map[int]resolve.Upstream{8080: c.to8080, 9000: c.to9000} {
			if diff := cmp.Diff(want, c.way.Upstream(t.Context(), c.place, port)); diff != "" {
				t.Errorf("%s, port %d (-want +got):\n%s", name, port, diff)
			}
		}
	}
}

func TestLocation(t *testing.T) {
	t.Parallel()
	for external, want := range map[string]string{"": "/v1/sandboxes/a/proxy/1", "host": "/sandboxes/a/proxy/1", "https://host/base/": "/base/sandboxes/a/proxy/1"} {
		if got := Location(external)(request("/v1/sandboxes/a/proxy/1/x"), target.Route{}); got != want {
			t.Errorf("%q: %q, want %q", external, got, want)
		}
	}
}

func request(path string) *http.Request { return httptest.NewRequest(http.MethodGet, path, nil) }
