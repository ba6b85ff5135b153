package environ

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/secrettest"
)

func of(m map[string]string) Lookup {
	return func(name string) (string, bool) { v, ok := m[name]; return v, ok }
}

func TestParseFile(t *testing.T) {
	t.Parallel()
	daemon := of(map[string]string{"HOME": "/home/u", "EMPTY": ""})
	tests := []struct {
		name, in string
		want     map[string]string
		problems int
	}{
		{"plain", "A=1\n B = two words \n", map[string]string{"A": "1", "B": "two words"}, 0},
		{"blank and comment", "\n# A=1\n  # B=2\n\nC=3", map[string]string{"C": "3"}, 0},
		{"expansion", "A=$HOME/x\nB=${HOME}y\nC=$NOPE.\nD=$", map[string]string{"A": "/home/u/x", "B": "/home/uy", "C": ".", "D": "$"}, 0},
		{"single quotes are literal", `A='$HOME \n "x" '`, map[string]string{"A": `$HOME \n "x" `}, 0},
		{"double quotes", `A=" it's\t$HOME\n\\\"\$HOME "`, map[string]string{"A": " it's\t/home/u\n\\\"$HOME "}, 0},
		{"unknown escape stays", `A="\d"`, map[string]string{"A": `\d`}, 0},
		{"several lines", "A='1\n2\n'\nB=\"x\ny\"\nC=3\n", map[string]string{"A": "1\n2\n", "B": "x\ny", "C": "3"}, 0},
		{"last one wins", "A=1\nA='2'\nA=3\n", map[string]string{"A": "3"}, 0},
		{"malformed lines", "novalue\n=x\nA B=1\nC=3\n", map[string]string{"C": "3"}, 3},
		{"unterminated costs one line", "A='x\nB=2\n", map[string]string{"B": "2"}, 1},
		{"text after quote", "A='x' y\nB=2", map[string]string{"B": "2"}, 1},
		{"carriage returns", "A=1\r\nB='2'\r\n", map[string]string{"A": "1", "B": "2"}, 0},
		{"equals in value", "A=b=c", map[string]string{"A": "b=c"}, 0},
		{"too long", "A=" + strings.Repeat("$HOME", 100_000) + "\nB='" + strings.Repeat("\n", MaxVariable) + "'\nC=3\n", map[string]string{"C": "3"}, 2},
		{"as long as can be", "A=" + strings.Repeat("a", MaxVariable-2), map[string]string{"A": strings.Repeat("a", MaxVariable-2)}, 0},
		{"quote as blank value", "A=''\nB=\n", map[string]string{"A": "", "B": ""}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, problems := ParseFile(tt.in, daemon)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("variables (-want +got):\n%s", d)
			}
			if len(problems) != tt.problems {
				t.Errorf("got problems %q, want %d", problems, tt.problems)
			}
		})
	}
}

func TestParseFileNamesTheLine(t *testing.T) {
	t.Parallel()
	_, problems := ParseFile("A='1\n2'\n"+secrettest.New("a broken line")+"\n", of(nil))
	if len(problems) != 1 || !strings.HasPrefix(problems[0], "line 3:") {
		t.Errorf("got %q, want one problem about line 3", problems)
	}
	secrettest.Absent(t, "the problem", strings.Join(problems, "\n"))
}

func FuzzParseFile(f *testing.F) {
	for _, s := range []string{"A=1", "A='x\ny'\n", "A=\"\\n$B\"", "A='", "=\"", "\x00=1\n#", "A=\"\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data string) {
		vars, _ := ParseFile(data, of(map[string]string{"B": "v"}))
		for k, v := range vars {
			if k == "" || strings.ContainsAny(k, "=\x00 ") || strings.Contains(v, "\x00") {
				t.Errorf("unusable variable %q=%q", k, v)
			}
		}
	})
}

// FuzzSetEnv checks the round trip of what the SDKs write: single quotes, or double quotes with five escapes.
func FuzzSetEnv(f *testing.F) {
	f.Add("plain")
	f.Add("it's\n\"x\"\\")
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsAny(value, "\x00$") {
			return
		}
		entry := "K='" + value + "'\n"
		if strings.Contains(value, "'") {
			entry = `K="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(value) + "\"\n"
		}
		vars, problems := ParseFile("Z=1\n"+entry, of(nil))
		if vars["K"] != value || len(problems) > 0 {
			t.Errorf("entry %q gives %q, problems %q", entry, vars["K"], problems)
		}
	})
}

func TestExpandPath(t *testing.T) {
	t.Parallel()
	env := of(map[string]string{"A": "x", "E": "", "T": "~"})
	tests := []struct{ in, want, err string }{
		{"/a/$A/b", "/a/x/b", ""},
		{"${A}$A", "xx", ""},
		{"~", "/home/u", ""},
		{"~/d", "/home/u/d", ""},
		{"~user", "~user", ""},
		{"a~", "a~", ""},
		{"$T/z", "/home/u/z", ""},
		{"/$E/", "//", ""},
		{"/$1/${/$", "/$1/${/$", ""},
		{strings.Repeat("/home/${A}", 10_000), "", "path is longer than 65536 bytes"},
		{"/$B/${C}", "", "path references undefined environment variables: B,C"},
	}
	for _, tt := range tests {
		got, err := ExpandPath(tt.in, env, "/home/u")
		text := ""
		if err != nil {
			text = err.Error()
		}
		if got != tt.want || text != tt.err {
			t.Errorf("ExpandPath(%q) = %q, %q; want %q, %q", tt.in, got, text, tt.want, tt.err)
		}
	}
}

func TestVisibleAndMerge(t *testing.T) {
	t.Parallel()
	base := Visible([]string{"A=1", "EXECD_ACCESS_TOKEN=s", "JUPYTER_TOKEN=s", "OPENSANDBOX_LIFECYCLE={}", "OPENSANDBOX_ID=i", "B=2"})
	got := Merge(base, map[string]string{"B": "3", "C": "4"}, map[string]string{"C": "5"})
	slices.Sort(got)
	if d := cmp.Diff([]string{"A=1", "B=3", "C=5", "OPENSANDBOX_ID=i"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestLookPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"run": 0o755, "plain": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := of(map[string]string{"PATH": "relative:" + dir})
	tests := []struct {
		name, dir, want string
		err             error
	}{
		{"run", "", filepath.Join(dir, "run"), nil},
		{"./run", dir, "./run", nil},
		{filepath.Join(dir, "run"), "", filepath.Join(dir, "run"), nil},
		{"plain", "", "", fs.ErrPermission},
		{"sub", "", "", fs.ErrNotExist},
		{"./sub", dir, "", syscall.EISDIR},
		{"absent", "", "", fs.ErrNotExist},
		{"./absent", dir, "", fs.ErrNotExist},
		{"", "", "", fs.ErrNotExist},
	}
	for _, tt := range tests {
		got, err := LookPath(tt.name, tt.dir, path)
		if got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("LookPath(%q, %q) = %q, %v; want %q, %v", tt.name, tt.dir, got, err, tt.want, tt.err)
		}
	}
}

func TestEnsureFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "env")
	for range 2 {
		if err := EnsureFile(path); err != nil {
			t.Fatal(err)
		}
	}
	vars, problems, err := ReadFile(path, of(nil))
	if len(vars) != 0 || len(problems) != 0 || err != nil {
		t.Errorf("new file: got %v, %v, %v, want nothing", vars, problems, err)
	}
	if err := os.WriteFile(path, make([]byte, maxFile+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadFile(path, of(nil)); err == nil {
		t.Error("an oversized file was read")
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadFile(pipe, of(nil)); err == nil {
		t.Error("a pipe was read")
	}
}
