package secrettest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const odd = `p ss/+:@"<&>\ü?=` // everything that somebody escapes

func TestEveryFormIsFound(t *testing.T) {
	t.Parallel()
	marshalled, err := json.Marshal(map[string]string{"password": odd})
	if err != nil {
		t.Fatal(err)
	}
	twice := url.QueryEscape(odd)
	tests := map[string]struct {
		text string
		form string // empty: is not found
	}{
		"as it is":           {"x" + odd + "y", "as it is"},
		"JSON":               {string(marshalled), "as JSON"},
		"quoted":             {fmt.Sprintf("msg=%q", odd), "quoted"},
		"query":              {"GET /?key=" + url.QueryEscape(odd), "escaped for a URL"},
		"path":               {"GET /" + url.PathEscape(odd), "escaped for a URL"},
		"address":            {"dial " + (&url.URL{Scheme: "redis", User: url.UserPassword("u", odd), Host: "h"}).String(), "escaped for a URL"},
		"small digits":       {"GET /?key=" + strings.ToLower(twice), "escaped for a URL"},
		"base64":             {base64.StdEncoding.EncodeToString([]byte(odd)), "as base64"},
		"base64, one before": {base64.StdEncoding.EncodeToString([]byte(":" + odd + "\n")), "as base64"},
		"base64, two before": {base64.URLEncoding.EncodeToString([]byte("u:" + odd + "…")), "as base64"},
		"only a part":        {odd[1:], ""},
		"nothing":            {"", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := NewSearch(map[string]string{odd: "a password"}).In([]byte("first\n" + tt.text))
			if tt.form == "" {
				if len(found) > 0 {
					t.Errorf("found %v", found)
				}
				return
			}
			if want := []Finding{{Name: "a password", Form: tt.form, Line: 2}}; !cmp.Equal(found, want) {
				t.Errorf("found %v, want %v", found, want)
			}
		})
	}
}

func TestEachPlaceIsTold(t *testing.T) {
	t.Parallel()
	s := NewSearch(map[string]string{"first-secret": "one", "first-secret-more": "two", "other-secret!": "three"})
	got := s.In([]byte("first-secret\n\nother-secret! first-secret-more"))
	want := []Finding{{"one", "as it is", 1}, {"three", "as it is", 3}, {"one", "as it is", 3}, {"two", "as it is", 3}}
	if len(got) != len(want) {
		t.Fatalf("found %v, want %v", got, want)
	}
	for _, w := range want {
		if !strings.Contains(fmt.Sprint(got), w.String()) {
			t.Errorf("found %v, and not %v", got, w)
		}
	}
	if text := fmt.Sprint(got); strings.Contains(text, "-secret") {
		t.Errorf("a finding shows the secret: %s", text)
	}
}

func FuzzSecretIsFoundInItsForms(f *testing.F) {
	f.Add("a", odd, "z")
	f.Add("", "0123456789ab", "")
	f.Add("ü\n", "\xff\xfe\x00bytes that are no text", "\n")
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		if len(secret) < MinLength {
			return
		}
		s := NewSearch(map[string]string{secret: "it"})
		whole := before + secret + after
		for form, text := range map[string]string{
			"as it is": whole, "query": before + url.QueryEscape(secret) + after, "path": before + url.PathEscape(secret) + after,
			"base64": base64.StdEncoding.EncodeToString([]byte(whole)), "base64 for URLs": base64.RawURLEncoding.EncodeToString([]byte(whole)),
		} {
			if len(s.In([]byte(text))) == 0 {
				t.Errorf("%s: %q is not found in %q", form, secret, text)
			}
		}
	})
}

// TestList is not parallel: it changes the environment.
func TestList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets")
	t.Setenv(ListVariable, path)
	first, second := New("the first"), New("the second")
	Note("the first again", first)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := ReadList(f)
	if want := map[string]string{first: "the first", second: "the second"}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("listed %v, %v, want %v", got, err, want)
	}
	if info, err := f.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: the list is for its owner only", info.Mode(), err)
	}
	if all := Used(); all[first] != "the first" || all[second] != "the second" {
		t.Errorf("used: %v", all)
	}
	t.Setenv(ListVariable, filepath.Join(t.TempDir(), "missing", "secrets"))
	for what, do := range map[string]func(){
		"too short": func() { Note("x", "k") }, "a line break": func() { Note("x", "0123456789\nab") }, "a tab": func() { Note("x\ty", "0123456789ab") },
		"no folder": func() { New("x") },
	} {
		if text := panics(do); text == "" || strings.Contains(text, "0123") {
			t.Errorf("%s: the panic says %q", what, text)
		}
	}
}

// panics returns what do panics with.
func panics(do func()) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprint(p)
		}
	}()
	do()
	return ""
}

func TestBadLists(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"empty": "", "no name": "\t0123456789ab\n", "no tab": "0123456789abcdef\n", "short": "name\tk\n", "blank line": "a\t0123456789ab\n\n"} {
		if got, err := ReadList(strings.NewReader(text)); err == nil || strings.Contains(err.Error(), "0123") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// recorder notes what a test would be told.
type recorder struct {
	testing.TB
	text string
}

func (*recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) { r.text += fmt.Sprintf(format, args...) + "\n" }

func TestAbsent(t *testing.T) {
	t.Parallel()
	s := New("a password of this test")
	r := &recorder{}
	Absent(r, "the log", "nothing\n")
	if r.text != "" {
		t.Errorf("told %q", r.text)
	}
	Absent(r, "the log", []byte("a\nb "+s))
	if want := "the log shows a password of this test (as it is) in line 2\n"; r.text != want {
		t.Errorf("told %q, want %q", r.text, want)
	}
}
