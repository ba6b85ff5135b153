package httpx_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"opensandbox/libs/httpx"
)

// teller answers with what the request is taken for.
var teller = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	_, _ = io.WriteString(w, httpx.Scheme(r)+" "+r.RemoteAddr)
})

func TestForwarded(t *testing.T) {
	t.Parallel()
	loopback := []string{"127.0.0.1/32", "::1/128"}
	for name, c := range map[string]struct {
		trusted    []string
		peer       string
		client     []string
		proto      []string
		want       string
		wantScheme string
	}{
		"nothing is said":           {loopback, "127.0.0.1:9", nil, nil, "127.0.0.1:9", "http"},
		"one client":                {loopback, "127.0.0.1:9", []string{"1.2.3.4"}, []string{"https"}, "1.2.3.4:0", "https"},
		"the other loopback":        {loopback, "[::1]:9", []string{"2001:db8::1"}, []string{"wss"}, "[2001:db8::1]:0", "https"},
		"mapped peer":               {loopback, "[::ffff:127.0.0.1]:9", []string{"1.2.3.4"}, []string{"ws"}, "1.2.3.4:0", "http"},
		"a peer that is a stranger": {loopback, "10.0.0.1:9", []string{"1.2.3.4"}, []string{"https"}, "10.0.0.1:9", "http"},
		"nobody is trusted":         {nil, "127.0.0.1:9", []string{"1.2.3.4"}, []string{"https"}, "127.0.0.1:9", "http"},
		"the last that is not trusted": {append(loopback, "10.0.0.0/8"), "10.0.0.1:9",
			[]string{"6.6.6.6, 1.2.3.4, 10.0.0.7"}, nil, "1.2.3.4:0", "http"},
		"lines are one list":    {append(loopback, "10.0.0.0/8"), "10.0.0.1:9", []string{"6.6.6.6, 1.2.3.4", "10.0.0.7"}, nil, "1.2.3.4:0", "http"},
		"all are trusted":       {[]string{"0.0.0.0/0", "::/0"}, "10.0.0.1:9", []string{"6.6.6.6, 1.2.3.4"}, []string{"https"}, "6.6.6.6:0", "https"},
		"with ports":            {loopback, "127.0.0.1:9", []string{"1.2.3.4:5"}, nil, "1.2.3.4:0", "http"},
		"IPv6 with a port":      {loopback, "127.0.0.1:9", []string{"[2001:db8::1%eth0]:5"}, nil, "[2001:db8::1]:0", "http"},
		"no address":            {loopback, "127.0.0.1:9", []string{"1.2.3.4, unknown"}, []string{"gopher"}, "127.0.0.1:9", "http"},
		"empty":                 {loopback, "127.0.0.1:9", []string{""}, []string{""}, "127.0.0.1:9", "http"},
		"the last protocol":     {loopback, "127.0.0.1:9", nil, []string{"http", " https "}, "127.0.0.1:9", "https"},
		"no address of a peer":  {loopback, "@", []string{"1.2.3.4"}, []string{"https"}, "@", "http"},
		"only trusted are said": {loopback, "127.0.0.1:9", []string{"127.0.0.1, 127.0.0.1"}, nil, "127.0.0.1:0", "http"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var trusted []netip.Prefix
			for _, p := range c.trusted {
				trusted = append(trusted, netip.MustParsePrefix(p))
			}
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = c.peer
			if c.client != nil {
				r.Header["X-Forwarded-For"] = c.client
			}
			if c.proto != nil {
				r.Header["X-Forwarded-Proto"] = c.proto
			}
			w := httptest.NewRecorder()
			httpx.WithForwarded(trusted, teller).ServeHTTP(w, r)
			if got, want := w.Body.String(), c.wantScheme+" "+c.want; got != want {
				t.Errorf("taken for %q, want %q", got, want)
			}
			if r.RemoteAddr != c.peer {
				t.Errorf("the caller's request was changed: %s", r.RemoteAddr)
			}
		})
	}
}

func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"", "1.2.3.4", "[::1]:1, 10.0.0.1", ",,,", "[", "::1%"} {
		f.Add(s)
	}
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, said string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "10.0.0.1:9"
		r.Header["X-Forwarded-For"] = []string{said}
		httpx.WithForwarded(trusted, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if _, err := netip.ParseAddrPort(r.RemoteAddr); err != nil {
				t.Errorf("%q made the address %q", said, r.RemoteAddr)
			}
		})).ServeHTTP(httptest.NewRecorder(), r)
	})
}
