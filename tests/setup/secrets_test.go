package setup

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestSuiteThatShowsASecretFails: in what it prints, what its tests log although they pass, and what its programs have left to be searched.
func TestSuiteThatShowsASecretFails(t *testing.T) {
	t.Parallel()
	const goTest = usesSecret + "mkdir -p a; cd a; printf 'module a\\n\\ngo 1.26.0\\n' >go.mod; printf %s\\\\n 'package a' 'import \"testing\"' " +
		"'func TestA(t *testing.T) { t.Log(\"TEXT\") }' >a_test.go; go_test -count=1 ./...\n"
	tests := map[string]struct {
		body string
		ok   bool
		says []string
	}{
		"shows nothing":     {usesSecret + "echo fine", true, []string{"fine\n", "None of 1 secrets"}},
		"prints it":         {usesSecret + "echo fine; echo key=0123456789-abcdef", false, []string{"output/printed shows the password of nobody (as it is) in line 2\n"}},
		"prints an error":   {usesSecret + "echo key=0123456789-abcdef >&2", false, []string{"output/printed shows the password of nobody"}},
		"in base64":         {usesSecret + "echo MDEyMzQ1Njc4OS1hYmNkZWY=", false, []string{"output/printed shows the password of nobody (as base64)"}},
		"a test logs it":    {strings.Replace(goTest, "TEXT", "0123456789-abcdef", 1), false, []string{"output/a.test.", "shows the password of nobody"}},
		"a test logs else":  {strings.Replace(goTest, "TEXT", "nothing", 1), true, []string{"ok  \ta\t", "None of 1 secrets"}},
		"leaves a log":      {usesSecret + "echo 0123456789-abcdef >$OPENSANDBOX_TEST_OUTPUT/server.log", false, []string{"output/server.log shows the password of nobody"}},
		"lists no secret":   {"echo fine", false, []string{"secrets: no such file"}},
		"prints nothing":    {usesSecret, false, []string{"output is empty"}},
		"fails and shows":   {usesSecret + "echo 0123456789-abcdef; exit 3", false, []string{"output/printed shows", "unit: FAILED (exit code 3)"}},
		"fails before both": {"exit 3", false, []string{"unit: FAILED (exit code 3)"}},
		"leaves a process":  {usesSecret + "echo fine; sleep 20 & echo $! >sleeper", true, []string{"fine\n", "None of 1 secrets"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := fakeTree(t)
			write(t, filepath.Join(tree, "scripts/suites/unit.sh"), "set -e\n"+tt.body+"\n", 0o755)
			temporary := filepath.Join(tree, "tmp")
			write(t, filepath.Join(temporary, "kept"), "", 0o644)
			text, err := command(t, tree, "-c", "TMPDIR="+temporary+" scripts/test.sh unit; status=$?; [ ! -e sleeper ] || kill $(cat sleeper); exit $status")
			if (err == nil) != tt.ok {
				t.Errorf("error %v, want ok %t", err, tt.ok)
			}
			for _, want := range tt.says {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in the text", want)
				}
			}
			left, _ := filepath.Glob(filepath.Join(temporary, "opensandbox.*"))
			if (len(left) > 0) != strings.Contains(text, "it is left in ") {
				t.Errorf("left behind: %q", left)
			}
			for _, dir := range left {
				if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
					t.Errorf("%s: %v, %v: it is for its owner only", dir, info.Mode(), err)
				}
			}
			if t.Failed() {
				t.Log(text)
			}
		})
	}
}

// TestSuiteEndsWithTheScript: a suite is told to end, and what it has to say about that is still printed.
func TestSuiteEndsWithTheScript(t *testing.T) {
	t.Parallel()
	tree := fakeTree(t)
	write(t, filepath.Join(tree, "scripts/suites/unit.sh"), "trap 'echo told; exit 1' TERM\necho begun\nwhile :; do sleep 0.1; done\n", 0o755)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	script := exec.CommandContext(ctx, "bash", "scripts/test.sh", "unit")
	script.Dir = tree
	printed, err := script.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := script.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(printed)
	for lines.Scan() && lines.Text() != "begun" {
	}
	if err := script.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	told := false
	for lines.Scan() { // up to the end of all that the script has started
		told = told || lines.Text() == "told"
	}
	if err := script.Wait(); !told || script.ProcessState.ExitCode() != 130 {
		t.Errorf("the suite was told: %t; the script ends with %v", told, err)
	}
}

// TestFailedTestsAreShown: of a package in which tests fail, what has passed is not shown, and all else is, the logs of processes first.
func TestFailedTestsAreShown(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body        string
		shown, kept []string
	}{
		"fails":  {"t.Log(\"of the failed\"); t.Run(\"good\", func(t *testing.T) { t.Log(\"of the good\") }); t.Fail()", []string{"of the failed", "--- FAIL: TestB"}, []string{"of the passed", "of the good"}},
		"logs":   {"t.Error(\"the cause\"); t.Log(\"log of api-0 (end):\\nlevel=INFO\"); t.Log(\"kept in a file\")", []string{"log of api-0", "level=INFO", "the cause", "kept in a file", "--- FAIL: TestB"}, []string{"of the passed"}},
		"panics": {"t.Log(\"of the failed\"); panic(\"out of order\")", []string{"of the failed", "panic: out of order", "goroutine "}, []string{"of the passed"}},
		"ends":   {"t.Log(\"of the failed\"); println(\"last words\"); os.Exit(4)", []string{"of the failed", "last words"}, []string{"of the passed"}},
	}
	lib, err := filepath.Abs("../../scripts/lib.sh")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree, kept := t.TempDir(), t.TempDir()
			write(t, filepath.Join(tree, "go.mod"), "module a\n\ngo 1.26.0\n", 0o644)
			write(t, filepath.Join(tree, "a_test.go"), "package a\n\nimport (\"os\"; \"testing\")\n\nvar _ = os.Exit\n\n"+
				"func TestA(t *testing.T) { t.Log(\"of the passed\") }\n\nfunc TestB(t *testing.T) { "+tt.body+" }\n", 0o644)
			text, err := command(t, tree, "-euo", "pipefail", "-c", "export OPENSANDBOX_TEST_OUTPUT="+kept+"; . "+lib+"; go_test -count=1 -vet=off ./...")
			files, _ := filepath.Glob(filepath.Join(kept, "a.test.*"))
			if err == nil || len(files) != 1 {
				t.Fatalf("error %v, kept %q", err, files)
			}
			all, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			rest := text
			for _, want := range tt.shown {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Errorf("no %q (after those before it) in:\n%s", want, text)
					continue
				}
				rest = after
			}
			for _, want := range tt.kept {
				if strings.Contains(text, want) || !strings.Contains(string(all), want) {
					t.Errorf("%q is to be kept, and not shown:\n%s", want, text)
				}
			}
		})
	}
}
