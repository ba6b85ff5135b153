package redact

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"git clone https://me:s3cr3t@host/x.git":                  "git clone https://****@host/x.git",
		"curl https://host/a@b":                                   "curl https://host/a@b",
		`curl -H "Authorization: Bearer abc.def" http://x`:        `curl -H "Authorization: ****" http://x`,
		`curl -H 'authorization:abc' http://x`:                    `curl -H 'authorization:****' http://x`,
		`curl -H "X-Api-Key: abc" -H "Cookie: a=b; c=d" http://x`: `curl -H "X-Api-Key: ****" -H "Cookie: ****" http://x`,
		"AccountName=a;AccountKey=abc==;Endpoint=x":               "AccountName=a;AccountKey=****;Endpoint=x",
		"tool --token --password abc":                             "tool --token --password ****",
		"tool --token abc --name x":                               "tool --token **** --name x",
		`tool --db-password="a b\"c" x`:                           `tool --db-password=**** x`,
		"tool --api-key='a b' -v; ls":                             "tool --api-key=**** -v; ls",
		"export DB_PASSWORD=abc; AWS_SECRET_ACCESS_KEY='x y' run": "export DB_PASSWORD=****; AWS_SECRET_ACCESS_KEY=**** run",
		"MYTOKEN=abc|tee":                                         "MYTOKEN=****|tee",
		`echo '{"password": "abc", "a": 1}'`:                      `echo '{"password": ****, "a": 1}'`,
		"aws configure set k AKIAIOSFODNN7EXAMPLE":                "aws configure set k ****",
		"GITHUB_TOKEN=\"never closed":                             "GITHUB_TOKEN=****",
		"echo tokens are fine; PATH=/bin ls":                      "echo tokens are fine; PATH=/bin ls",
		"":                                                        "",
	} {
		if got := Text(in); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", in, got, want)
		}
	}
	if got := Text(strings.Repeat("é", 3000)); len(got) > maxText+len("…") || !utf8.ValidString(got) {
		t.Errorf("got %d bytes", len(got))
	}
}

// FuzzText: a secret in a shape that is known never shows, whatever stands around it.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a 'b", `"`, "--token ", "https://", "Authorization: ", "X=1 ", "\\"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "hunter2hunter2"
		for _, shape := range []string{" --password " + secret + " ", " API_KEY=" + secret + " ", " https://u:" + secret + "@h/ ", "\nAuthorization: Basic " + secret + "\n"} {
			if strings.Contains(before+after, secret) {
				return
			}
			if got := Text(before + shape + after); strings.Contains(got, secret) {
				t.Errorf("%q shows the secret: %q", before+shape+after, got)
			}
		}
		if got := Text(before); utf8.ValidString(before) && !utf8.ValidString(got) {
			t.Errorf("%q became invalid text %q", before, got)
		}
	})
}
