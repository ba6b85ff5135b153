package session

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/fault"
	"opensandbox/services/execd/internal/command"
	"opensandbox/services/execd/internal/environ"
	"opensandbox/services/execd/internal/reap"
	"opensandbox/services/execd/internal/reap/reaptest"
)

// reaper is the only one of the test process: it collects every child.
var reaper *reap.Reaper

func TestMain(m *testing.M) {
	reaper = reap.New()
	reaptest.Main(m, reaper)
}

// shells are the kinds of shell that images have, by the name under which PATH finds them.
var shells = map[string]string{"bash": "bash", "dash": "sh", "busybox": "sh"}

// fixture has sessions whose PATH finds exactly one shell.
type fixture struct {
	*Manager
	t   *testing.T
	dir string
}

func with(t *testing.T, shell string, more map[string]string) *fixture {
	t.Helper()
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if shell != "" {
		program, err := exec.LookPath(shell)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(program, filepath.Join(bin, shells[shell])); err != nil {
			t.Fatal(err)
		}
	}
	env := environ.Merge([]string{"PATH=" + bin, "HOME=" + dir, "FROM=daemon", "not-a-name=1"}, more)
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	cmds := command.New(command.Config{Starter: reaper, Env: env, OutputDirs: []string{filepath.Join(dir, "out")}, Log: log})
	t.Cleanup(cmds.Close)
	return &fixture{New(cmds, log), t, dir}
}

func (f *fixture) session() string {
	f.t.Helper()
	id, err := f.Create(&CreateRequest{Cwd: f.dir})
	if err != nil {
		f.t.Fatal(err)
	}
	return id
}

// run runs a script that must start, and returns what it printed with its exit code.
func (f *fixture) run(id, script string) (string, int) {
	f.t.Helper()
	r := &recorder{}
	res, err := f.Run(f.t.Context(), id, &RunRequest{Command: script}, r)
	if err != nil || res.StartErr != nil {
		f.t.Fatalf("%q: %v %v", script, err, res.StartErr)
	}
	if r.id != id {
		f.t.Errorf("the run told the id %q, want that of the session", r.id)
	}
	return r.out.String(), res.Code
}

func (f *fixture) prints(id, script, want string) {
	f.t.Helper()
	if got, code := f.run(id, script); got != want || code != 0 {
		f.t.Errorf("%q printed %q and ended with %d, want %q", script, got, code, want)
	}
}

// recorder keeps what a run says.
type recorder struct {
	mu  sync.Mutex
	id  string
	out bytes.Buffer
}

func (r *recorder) Started(id string) { r.id = id }

func (r *recorder) Output(_ string, lines [][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range lines {
		r.out.Write(l)
	}
	return nil
}

// hard are values that quoting gets wrong easily.
var hard = []string{
	"", " ", "a b", "it's", `"`, `\`, `\n`, "a\nb\n", "$HOME `id` $(id)", "\t\r", "ä€😀", "\x01\x7f", "\xff\xfe", "!! *?[a]", "a=b;c", "-x", "'\\''", "$'x'", "\u0085",
}

func TestStateGoesOn(t *testing.T) {
	t.Parallel()
	for shell := range shells {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			f := with(t, shell, map[string]string{"_HIDDEN": "1"})
			id := f.session()
			f.prints(id, `printf '%s-%s\n' "$FROM" "$PWD"`, "daemon-"+f.dir+"\n")
			f.prints(id, "export A='1\n2' B; cd /; unset FROM; unexported=1", "")
			f.prints(id, `printf '%s|%s|%s|%s|%s' "$A" "${FROM-none}" "$PWD" "${unexported-none}" "${B-none}"`, "1\n2|none|/|none|none")
			f.prints(id, "cd -", f.dir+"\n")
			f.prints(id, "pwd", f.dir+"\n")
			if got, code := f.run(id, "export C=3; exit 7"); got != "" || code != 7 {
				t.Errorf("exit 7: %q and %d", got, code)
			}
			f.prints(id, "echo $C", "3\n")
			f.prints(id, "trap 'echo bye' EXIT; export D=4", "bye\n")
			f.prints(id, "echo $D", "4\n")
			for i, v := range hard {
				r := &recorder{}
				if _, err := f.Run(t.Context(), id, &RunRequest{Command: "export HARD", Envs: map[string]string{"HARD": v}}, r); err != nil || r.out.Len() > 0 {
					t.Fatalf("%q: %v %q", v, err, r.out.String())
				}
				if got, _ := f.run(id, `printf %s "$HARD"`); got != v {
					t.Errorf("value %d %q comes back as %q", i, v, got)
				}
			}
		})
	}
}

func TestFunctionsGoOnInBash(t *testing.T) {
	t.Parallel()
	f := with(t, "bash", nil)
	id := f.session()
	f.prints(id, "greet() { local n=$1; cat() { :; }; echo \"hello $n\"; }; export -f greet; plain() { echo plain; }", "")
	f.prints(id, `greet you; plain; bash -c 'greet child; type plain >/dev/null 2>&1 || echo none'`, "hello you\nplain\nhello child\nnone\n")
	f.prints(id, "unset -f greet", "")
	f.prints(id, "type -t greet || echo gone", "gone\n")
}

// Whatever a script does to its shell, its output is its own and what it leaves is kept.
func TestScriptsCannotDisturbWhatIsKept(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"options":        "set -e; export K=1; set -u; set -C; set -f",
		"failure":        "set -e; export K=1; false",
		"trace":          "export K=1; { set -x; } 2>/dev/null",
		"traps":          "trap 'echo debug' DEBUG ERR RETURN >/dev/null; export K=1; trap - DEBUG",
		"functions":      "export K=1; printf() { :; }; export() { :; }; declare() { :; }; pwd() { :; }",
		"files":          "export K=1; exec 3>/dev/null 9>&1",
		"output":         "export K=1; exec >/dev/null 2>&1",
		"no more words":  "export K=1; exit",
		"subshell":       "export K=1; (exit 3); (export K=2)",
		"background":     "export K=1; sleep 0.01 &",
		"syntax":         "export K=1\nif",
		"here document":  "export K=1\ncat <<E >/dev/null\nx",
		"comment":        "export K=1 # comment",
		"shebang":        "#!/bin/bash\nexport K=1",
		"positional":     "export K=1; set -- a b; shift",
		"return":         "f() { return 3; }; export K=1; f",
		"old state text": "export K=1; printf '/nowhere\\0declare -x K=\"9\"\\0\\0'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := with(t, "bash", map[string]string{"PATH": os.Getenv("PATH")})
			id := f.session()
			got, _ := f.run(id, script)
			speaks := []string{"syntax", "here document", "old state text", "traps"}
			if !slices.Contains(speaks, name) && got != "" {
				t.Errorf("printed %q", got)
			}
			f.prints(id, `echo "$K $PWD $- $#"`, "1 "+f.dir+" hBc 0\n")
		})
	}
}

func TestStateIsNotKept(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"killed":        "export K=1; kill -9 $$",
		"replaced":      "export K=1; exec true",
		"forged":        "export K=1; echo rubbish >/proc/self/fd/102",
		"not text":      "export K=1; head -c 5000000 /dev/zero >/proc/self/fd/102",
		"much too long": "for i in $(seq 20); do export \"K$i=$(printf %100000d 1)\"; done; export K=1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := with(t, "bash", map[string]string{"PATH": os.Getenv("PATH")})
			id := f.session()
			f.run(id, script)
			f.prints(id, `echo "${K-none} ${K1-none} $PWD"`, "none none "+f.dir+"\n")
		})
	}
}

func TestTooLongVariableIsLeftOut(t *testing.T) {
	t.Parallel()
	f := with(t, "bash", nil)
	id := f.session()
	f.prints(id, `export LONG=$(printf %200000d 1) K=1`, "")
	f.prints(id, `echo "${#LONG} $K"`, "0 1\n")
}

func TestMessagesNameTheLinesOfTheScript(t *testing.T) {
	t.Parallel()
	f := with(t, "bash", nil)
	if got, code := f.run(f.session(), "\n\nnosuch"); got != "bash: line 3: nosuch: command not found\n" || code != 127 {
		t.Errorf("got %q and %d", got, code)
	}
}

func TestDirectories(t *testing.T) {
	t.Parallel()
	f := with(t, "dash", map[string]string{"SUB": "a b"})
	id, err := f.Create(&CreateRequest{Cwd: "~/made/$SUB"})
	if err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(f.dir, "made", "a b")
	f.prints(id, "pwd", made+"\n")
	in := func(cwd string) (string, error) {
		r := &recorder{}
		_, err := f.Run(t.Context(), id, &RunRequest{Command: "pwd", Cwd: cwd}, r)
		return r.out.String(), err
	}
	for _, c := range [][2]string{{"..", filepath.Join(f.dir, "made")}, {"$HOME", f.dir}, {"", f.dir}, {made, made}} {
		if got, err := in(c[0]); err != nil || got != c[1]+"\n" {
			t.Errorf("cwd %q: %q %v, want %q", c[0], got, err, c[1])
		}
	}
	for _, cwd := range []string{"/no/such", "$UNDEFINED", "/dev/null", "a\x00b"} {
		if got, err := in(cwd); fault.KindOf(err) != fault.Invalid || got != "" {
			t.Errorf("cwd %q: %q %v, want a refusal", cwd, got, err)
		}
	}
	if err := os.RemoveAll(made); err != nil {
		t.Fatal(err)
	}
	if _, err := in(""); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "name another one") {
		t.Errorf("a session without its directory: %v", err)
	}
	if got, err := in("/"); err != nil || got != "/\n" {
		t.Errorf("and elsewhere: %q %v", got, err)
	}
	if _, err := f.Create(&CreateRequest{Cwd: "/dev/null/x"}); fault.KindOf(err) != fault.Internal {
		t.Errorf("a directory that cannot be made: %v", err)
	}
}

func TestNoShell(t *testing.T) {
	t.Parallel()
	f := with(t, "", nil)
	if _, err := f.Create(&CreateRequest{}); err == nil || !strings.Contains(err.Error(), "no shell") {
		t.Errorf("got %v, want an error that says so", err)
	}
}

// TestRunOfNobodyIsNotBegun: nothing runs for a client that has left already.
func TestRunOfNobodyIsNotBegun(t *testing.T) {
	t.Parallel()
	f := with(t, "dash", nil)
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r := &recorder{}
	_, err := f.Run(ctx, f.session(), &RunRequest{Command: "echo > began"}, r)
	if err == nil || !strings.Contains(err.Error(), "before it began") || r.id != "" {
		t.Errorf("error %v, told %q", err, r.id)
	}
	if _, err := os.Stat(filepath.Join(f.dir, "began")); err == nil {
		t.Error("the run was begun")
	}
}

func TestTooManySessions(t *testing.T) {
	t.Parallel()
	f := with(t, "dash", nil)
	for range Max {
		f.session()
	}
	if _, err := f.Create(&CreateRequest{}); err == nil {
		t.Error("one more was made")
	}
	for id := range f.sessions {
		if err := f.Delete(id); err != nil {
			t.Error(err)
		}
		break
	}
	f.session()
}

func TestExports(t *testing.T) {
	t.Parallel()
	tests := map[string][]string{
		"":                                       nil,
		"declare -x A=\"b\"\n":                   {"A=b"},
		"declare -x NOVALUE\nexport ALSO\n":      nil,
		"export A='b'\"'\"'c'\nexport B=x\\ y\n": {"A=b'c", "B=x y"},
		`declare -x A="\$\` + "`" + `\"\\\n` + "\\\nx\"":                               {"A=$`\"\\\\nx"},
		`declare -x A=$'\a\101\x41\u00e4\U0001f600\cA\'\q\?'`:                          {"A=\aAAä😀\x01'\\q?"},
		"declare -ax L=([0]=\"a\" [1]=\"b\nc\")\ndeclare -irx N=\"5\"\ntypeset -x T=1": {"N=5", "T=1"},
		"export A='1';export B='2'":                                                    {"A=1", "B=2"},
	}
	for in, want := range tests {
		got, err := exports(in)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("exports(%q): %v (-want +got):\n%s", in, err, d)
		}
	}
	for _, in := range []string{"A=1", "export A='", `export A="`, "export A=$'", "rm -rf x"} {
		if got, err := exports(in); err == nil {
			t.Errorf("exports(%q) = %q, want an error", in, got)
		}
	}
}

// FuzzExports reads back what it quotes itself, in each of the ways of a shell.
func FuzzExports(f *testing.F) {
	for _, v := range hard {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if env, err := exports(v); err == nil {
			for _, kv := range env {
				if !strings.Contains(kv, "=") || strings.Contains(kv, "\x00") {
					t.Errorf("%q gives the variable %q", v, kv)
				}
			}
		}
		v = strings.ReplaceAll(v, "\x00", "")
		escaped := strings.NewReplacer("\\", "\\\\", "$", "\\$", "`", "\\`", `"`, `\"`).Replace(v)
		ansi := strings.NewReplacer("\\", "\\\\", "'", "\\'", "\n", "\\n").Replace(v)
		for _, q := range []string{"'" + strings.ReplaceAll(v, "'", `'"'"'`) + "'", `"` + escaped + `"`, "$'" + ansi + "'"} {
			got, err := exports("export A=" + q + "\nexport B=1\n")
			if d := cmp.Diff([]string{"A=" + v, "B=1"}, got); d != "" || err != nil {
				t.Errorf("%q quoted as %q: %v (-want +got):\n%s", v, q, err, d)
			}
		}
	})
}

// FuzzLeft takes what any script might write in place of what its shell leaves.
func FuzzLeft(f *testing.F) {
	f.Add([]byte("/tmp\n\x00declare -x A=\"b\"\n\x00f () \n{ \n    :\n}\n\x00"))
	f.Add([]byte("\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, left []byte) {
		got, err := state{dir: "/before"}.after(left)
		if err != nil {
			return
		}
		if !filepath.IsAbs(got.dir) || strings.Contains(got.dir, "\x00") {
			t.Errorf("directory %q", got.dir)
		}
		for _, kv := range got.env {
			if name, _, ok := strings.Cut(kv, "="); !ok || !validName(name) || strings.Contains(kv, "\x00") {
				t.Errorf("variable %q", kv)
			}
		}
	})
}

// FuzzScript has real shells quote what they leave. The text only ever stands in quotes, so that nothing of it is run.
func FuzzScript(f *testing.F) {
	for _, v := range hard {
		f.Add(v)
	}
	fixtures := map[string]*Manager{}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	for shell, name := range shells {
		program, err := exec.LookPath(shell)
		if err != nil {
			f.Fatal(err)
		}
		bin := f.TempDir()
		if err := os.Symlink(program, filepath.Join(bin, name)); err != nil {
			f.Fatal(err)
		}
		cmds := command.New(command.Config{Starter: reaper, Env: []string{"PATH=" + bin}, Log: log})
		f.Cleanup(cmds.Close)
		fixtures[shell] = New(cmds, log)
	}
	f.Fuzz(func(t *testing.T, v string) {
		v = strings.ReplaceAll(v, "\x00", "")
		script := "export V='" + strings.ReplaceAll(v, "'", `'"'"'`) + "'; printf %s \"$V\""
		if len(script) > 100<<10 {
			return
		}
		for shell, m := range fixtures {
			id, err := m.Create(&CreateRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{script, `printf %s "$V"`} {
				r := &recorder{}
				if _, err := m.Run(t.Context(), id, &RunRequest{Command: text}, r); err != nil || r.out.String() != v {
					t.Errorf("%s: %q gives %q %v, want %q", shell, text, r.out.String(), err, v)
				}
			}
			if err := m.Delete(id); err != nil {
				t.Error(err)
			}
		}
	})
}
