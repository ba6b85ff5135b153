package sandboxproxy

import (
	"net/url"
	"strings"
	"testing"

	"opensandbox/libs/sandboxproxy/resolve"
)

// What goes over the wire is what came, for all paths that can come over the wire: those without spaces and control characters.
func FuzzUpstreamURL(f *testing.F) {
	for _, p := range []string{"/", "//a", "/a%2Fb", `/a"b`, "/%zz", "/a b", "/é"} {
		f.Add(p, "q=%zz", true)
		f.Add(p, "", false)
	}
	f.Fuzz(func(t *testing.T, path, query string, throughDaemon bool) {
		if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#") || strings.ContainsFunc(path+query, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return
		}
		up := resolve.Upstream{Address: "h:1"}
		if throughDaemon {
			up.Prefix = "/proxy/80"
		}
		u := upstreamURL(up, path, &url.URL{RawQuery: query})
		want := up.Prefix + path
		if query != "" {
			want += "?" + query
		}
		got := u.RequestURI()
		if u.Host != "h:1" || u.Scheme != "http" {
			t.Errorf("%q leads to %s://%s", path, u.Scheme, u.Host)
		}
		if strings.HasPrefix(want, "//") { // re-encoded, but never another host
			if !strings.HasPrefix(got, "//") && !strings.HasPrefix(got, "http://h:1//") {
				t.Errorf("%q became %q", want, got)
			}
			return
		}
		if got != want {
			t.Errorf("%q became %q", want, got)
		}
	})
}

// FuzzParseTunnel: an address that is taken for a tunnel leads to the sandbox, the incarnation and the port that it names, and no other.
func FuzzParseTunnel(f *testing.F) {
	for _, s := range []string{"_tunnel.1.a.n:80", "_tunnel.7.a.node.example:44772", "_tunnel..a.n:80", "_tunnel.1.a:80", "10.0.0.1:80", "_tunnel.1.a.n:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, address string) {
		tunnel, ok := parseTunnel(address)
		if !ok {
			return
		}
		again, ok := parseTunnel(poolAddress(resolve.Upstream{Tunnel: &tunnel}))
		if !ok || again != tunnel {
			t.Errorf("%q became %+v, and that %+v, %t", address, tunnel, again, ok)
		}
	})
}
