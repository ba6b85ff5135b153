package target_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandboxproxy/target"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestURI(t *testing.T) {
	t.Parallel()
	const id = "0e6c2d3a-6a52-4f6e-9d0a-0c6f6f1f2a11"
	for in, want := range map[string]target.Route{
		"/sb/80":                       {Target: target.Target{ID: "sb", Port: 80}, Path: "/"},
		"/sb/80/":                      {Target: target.Target{ID: "sb", Port: 80}, Path: "/"},
		"/sb/1/a":                      {Target: target.Target{ID: "sb", Port: 1}, Path: "/a"},
		"/" + id + "/65535/x/":         {Target: target.Target{ID: id, Port: 65535}, Path: "/x/"},
		"/sb/80/a%2Fb%20c%C3%A9":       {Target: target.Target{ID: "sb", Port: 80}, Path: "/a%2Fb%20c%C3%A9"},
		"/sb/80//double//slash":        {Target: target.Target{ID: "sb", Port: 80}, Path: "//double//slash"},
		"/sb/80/../up/./%2e%2e":        {Target: target.Target{ID: "sb", Port: 80}, Path: "/../up/./%2e%2e"},
		`/sb/80/a"b<c>|^`:              {Target: target.Target{ID: "sb", Port: 80}, Path: `/a"b<c>|^`},
		"/Sb-1/8080/sb/80":             {Target: target.Target{ID: "Sb-1", Port: 8080}, Path: "/sb/80"},
		"/sb/80/%zz":                   {Target: target.Target{ID: "sb", Port: 80}, Path: "/%zz"},
		"/sb/44772/command?not=parsed": {Target: target.Target{ID: "sb", Port: 44772}, Path: "/command?not=parsed"},
	} {
		want.RequestURI = want.Path
		got, err := target.URI{}.Parse(target.Request{Path: in})
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", in, diff)
		}
	}
}

func TestURIRefuses(t *testing.T) {
	t.Parallel()
	for in, why := range map[string]string{
		"":                                    "slash",
		"sb/80":                               "slash",
		"*":                                   "slash",
		"/":                                   "id is missing",
		"//80":                                "id is missing",
		"/sb":                                 "port is missing",
		"/sb/":                                "port is missing",
		"/sb//x":                              "port is missing",
		"/sb/0":                               "1 to 65535",
		"/sb/080":                             "1 to 65535",
		"/sb/65536":                           "1 to 65535",
		"/sb/100000":                          "1 to 65535",
		"/sb/+80":                             "1 to 65535",
		"/sb/-1":                              "1 to 65535",
		"/sb/8o":                              "1 to 65535",
		"/sb/%38%30":                          "1 to 65535",
		"/sb/٨٠":                              "1 to 65535",
		"/../80/x":                            "character",
		"/s%62/80":                            "character",
		"/-sb/80":                             "character",
		"/sb-/80":                             "character",
		"/s b/80":                             "character",
		"/sb\n/80":                            "character",
		"/sb.example.com/80":                  "character",
		"/" + strings.Repeat("a", 64) + "/80": "longer",
	} {
		got, err := target.URI{}.Parse(target.Request{Path: in})
		if err == nil {
			t.Errorf("%q gave %+v, want an error", in, got)
			continue
		}
		text := fault.TextOf(err)
		if !fault.Is(err, fault.Invalid) || !strings.HasPrefix(text, "invalid ingress route: ") || !strings.Contains(text, why) {
			t.Errorf("%q: %v %q, want a fault.Invalid about %q", in, fault.KindOf(err), text, why)
		}
	}
}

// Nothing of an accepted path is lost or changed.
func FuzzURI(f *testing.F) {
	for _, seed := range []string{"/sb/80", "/sb/80/", "/sb/80/a%2Fb", "/sb/080", "//", "/a-b/65535//x", "/sb/80/\x00\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r, err := target.URI{}.Parse(target.Request{Path: path})
		if err != nil {
			if !strings.HasPrefix(fault.TextOf(err), "invalid ingress route: ") {
				t.Errorf("%q: text %q", path, fault.TextOf(err))
			}
			return
		}
		prefix := target.URI{}.Prefix(r.Target)
		if path != prefix+r.Path && (path != prefix || r.Path != "/") {
			t.Errorf("%q became %+v: lost in the round trip", path, r)
		}
		if r.Port < 1 || r.Port > 65535 || r.ID == "" || !strings.HasPrefix(r.Path, "/") {
			t.Errorf("%q became %+v: out of range", path, r)
		}
	})
}
