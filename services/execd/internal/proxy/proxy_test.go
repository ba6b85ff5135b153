package proxy

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// FuzzTargetURL: whatever the path, the request goes to the port on loopback, and its path arrives as it was sent.
func FuzzTargetURL(f *testing.F) {
	for _, s := range []string{"", "/", "/a%2Fb", "//evil.example/x", "/%zz", "/a b", "/@h/", "/..%2f..", "/\x00", "/a?b", "/;x=[1]", "/\u00e9"} {
		f.Add(s, "q=1", uint16(8080))
	}
	f.Fuzz(func(t *testing.T, rest, query string, port uint16) {
		if rest != "" && rest[0] != '/' {
			rest = "/" + rest
		}
		if strings.ContainsAny(rest, "?# \r\n\t") {
			return // None of them reaches a handler in a path: the server has cut or refused them.
		}
		u := targetURL("/proxy/"+strconv.Itoa(int(port))+rest, &url.URL{RawQuery: query}, int(port))
		if u.Scheme != "http" || u.Host != "127.0.0.1:"+strconv.Itoa(int(port)) || u.User != nil {
			t.Fatalf("%q goes to %s", rest, u)
		}
		want := rest
		if want == "" {
			want = "/"
		}
		r := &http.Request{URL: u}
		path, _, _ := strings.Cut(r.URL.RequestURI(), "?")
		if !strings.HasPrefix(rest, "//") && path != want && strings.IndexFunc(rest, func(c rune) bool { return c < 0x21 || c > 0x7e }) < 0 {
			t.Errorf("%q arrives as %q", rest, path)
		}
		if u.RawQuery != query {
			t.Errorf("query %q arrives as %q", query, u.RawQuery)
		}
	})
}
