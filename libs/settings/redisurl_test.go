package settings_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/conf"
	"opensandbox/libs/secrettest"
	"opensandbox/libs/settings"
)

func TestParseRedisURL(t *testing.T) {
	t.Parallel()
	type u = settings.RedisURL
	for text, want := range map[string]u{
		"redis://h":                         {Mode: settings.RedisSingle, Addrs: []string{"h:6379"}},
		"redis://h/":                        {Mode: settings.RedisSingle, Addrs: []string{"h:6379"}},
		"REDIS://Redis-1.Example.com:1/15":  {Mode: settings.RedisSingle, Addrs: []string{"redis-1.example.com:1"}, DB: 15},
		"rediss://user:p%40ss%2f%3A@[::1]":  {Mode: settings.RedisSingle, Addrs: []string{"[::1]:6379"}, User: "user", Password: conf.NewSecret("p@ss/:"), TLS: true},
		"redis://:PASSWORD@10.0.0.1:6380/0": {Mode: settings.RedisSingle, Addrs: []string{"10.0.0.1:6380"}, Password: conf.NewSecret(password)},
		"redis-sentinel://s1,s2:26380/main": {Mode: settings.RedisSentinel, Addrs: []string{"s1:26379", "s2:26380"}, MasterName: "main"},
		"rediss-sentinel://u:p@s1/m.a-i_n/2": {Mode: settings.RedisSentinel, Addrs: []string{"s1:26379"}, MasterName: "m.a-i_n", User: "u",
			Password: conf.NewSecret("p"), DB: 2, TLS: true},
		"redis-cluster://a,b:1,[fd00::1]:2": {Mode: settings.RedisCluster, Addrs: []string{"a:6379", "b:1", "[fd00::1]:2"}},
		"rediss-cluster://:p@my_redis/0":    {Mode: settings.RedisCluster, Addrs: []string{"my_redis:6379"}, Password: conf.NewSecret("p"), TLS: true},
	} {
		got, err := settings.ParseRedisURL(reveal(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", text, diff)
		}
	}
}

func TestParseRedisURLRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                      "expected a URL",
		"h:6379":                                "expected a URL",
		"http://h":                              "expected a URL",
		"redis+sentinel://h/m":                  "redis-sentinel://",
		"unix:///run/redis.sock":                "expected a URL",
		"redis://":                              "expected a host name",
		"redis://:PASSWORD@":                    "expected a host name",
		"redis://a,b":                           "one address",
		"redis://PASSWORD@h":                    "without a password",
		"redis://u:@h":                          "without a password",
		"redis://u:PASSWORD:PASSWORD@h":         "percent-encoded",
		"redis://u:PASSWORD@PASSWORD@h":         "percent-encoded",
		"redis://u:PASSWORD/PASSWORD@h":         "%2F",
		"redis://u:PASSWORD?PASSWORD@h":         "%3F",
		"redis://u:PASSWORD%zz@h":               "percent-encoded",
		"redis://u%:PASSWORD@h":                 "percent-encoded",
		"redis://u:PASSWORD PASSWORD@h":         "percent-encoded",
		"redis://h?db=1":                        "no parameters",
		"redis://h:0":                           "port",
		"redis://h:65536":                       "port",
		"redis://h:+1":                          "port",
		"redis://h:PASSWORD":                    "port",
		"redis://h:":                            "port",
		"redis://[::1":                          "address 1 of 1",
		"redis://[fe80::1%25eth0]":              "IPv6",
		"redis://[10.0.0.1]":                    "IPv6",
		"redis://::1":                           "host name",
		"redis://10.0.0.256":                    "host name",
		"redis://-h":                            "host name",
		"redis://h/x":                           "database",
		"redis://h/-1":                          "database",
		"redis://h/65536":                       "database",
		"redis://h/1/":                          "database",
		"redis-cluster://a,a:6379":              "named twice",
		"redis-cluster://a,,b":                  "address 2 of 3",
		"redis-cluster://a,b/1":                 "database 0 only",
		"redis-sentinel://a":                    "name of the master",
		"redis-sentinel://a//1":                 "name of the master",
		"redis-sentinel://a/m%41":               "name of the master",
		"redis-sentinel://a/m/x":                "database",
		"redis://h" + strings.Repeat("h", 5000): "longer than",
		"redis-cluster://a" + strings.Repeat(",a", 64): "more than",
	} {
		_, err := settings.ParseRedisURL(reveal(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: got %v, want %q", text, err, want)
		}
		secrettest.Absent(t, "the error for "+text, fmt.Sprint(err))
	}
}

func TestRedisURLHidesItsPassword(t *testing.T) {
	t.Parallel()
	u, err := settings.ParseRedisURL(reveal("rediss-sentinel://us%3Aer:PASSWORD@a,b/m/1"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := u.String(), "rediss-sentinel://us%3Aer:***@a:26379,b:26379/m/1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	secrettest.Absent(t, "what was printed", fmt.Sprintf("%v %+v %#v %s %q", u, u, u, u, u))
	if got := (settings.RedisURL{}).String(); got != "" {
		t.Errorf("no URL prints as %q", got)
	}
}

func FuzzParseRedisURL(f *testing.F) {
	const mark = "S3cr3tM4rk"
	for _, s := range [][2]string{
		{"redis://u:", "@h:1/2"}, {"rediss-sentinel://:", "@h1,h2:3/master/4"}, {"redis-cluster://u:%2", "@[::1]:2,a"}, {"redis://h", ":1"}, {"", ""},
		{"redis-sentinel://h/", "/1"}, {"redis://h/1", ""}, {"redis://[::1]:", ""}, {"redis://a:b@", "?x#y"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		for _, text := range []string{before + after, before + mark + after} {
			u, err := settings.ParseRedisURL(text)
			if err != nil {
				if strings.Contains(err.Error(), mark) {
					t.Errorf("%q: the error repeats the text: %v", text, err)
				}
				continue
			}
			if len(u.Addrs) == 0 || u.Mode == settings.RedisSingle && len(u.Addrs) > 1 || (u.Mode == settings.RedisSentinel) != (u.MasterName != "") {
				t.Errorf("%q: %+v", text, u)
			}
			if u.Password.Reveal() == mark && !strings.Contains(u.User, mark) && strings.Contains(fmt.Sprintf("%v %+v %#v", u, u, u), mark) {
				t.Errorf("%q prints its password: %v", text, u)
			}
			sameAgain(t, u)
		}
	})
}

// sameAgain parses what String writes, with the password put in.
func sameAgain(t *testing.T, u settings.RedisURL) {
	t.Helper()
	text := strings.Replace(u.String(), conf.Mask+"@", strings.ReplaceAll(url.QueryEscape(u.Password.Reveal()), "+", "%20")+"@", 1)
	got, err := settings.ParseRedisURL(text)
	if err != nil {
		t.Fatalf("%v from its own text: %v", u, err)
	}
	if diff := cmp.Diff(u, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
