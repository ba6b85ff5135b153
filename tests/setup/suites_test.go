package setup

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// suites are the names that scripts/test.sh runs, in its order.
var suites = []string{"setup", "lint", "unit", "simulate", "fuzz", "integration", "e2e", "faults"}

func TestSuites(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args   []string
		broken string // this suite fails
		ok     bool
		ran    string
		says   []string
	}{
		"all":         {nil, "", true, strings.Join(suites, "\n"), []string{"\n8 passed, 0 failed\n"}},
		"some":        {[]string{"unit", "lint"}, "", true, "lint\nunit", []string{"\n2 passed, 0 failed\n"}},
		"first fails": {nil, "setup", false, "setup", []string{"first failure: setup", "\n0 passed, 1 failed\n"}},
		"middle fails": {
			nil, "unit", false, "setup\nlint\nunit",
			[]string{"=== unit: FAILED (exit code 3)", "simulate     not run\n", "first failure: unit", "\n2 passed, 1 failed\n"},
		},
		"unknown": {[]string{"chaos"}, "", false, "", []string{"unknown suite chaos"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := fakeTree(t)
			for _, suite := range suites {
				body := "echo " + suite + " | tee -a ran\n" + usesSecret
				if suite == tt.broken {
					body += "exit 3\n"
				}
				write(t, filepath.Join(tree, "scripts/suites", suite+".sh"), body, 0o755)
			}
			text, err := command(t, tree, append([]string{filepath.Join(tree, "scripts/test.sh")}, tt.args...)...)
			ran, _ := os.ReadFile(filepath.Join(tree, "ran"))
			if got := strings.TrimSpace(string(ran)); (err == nil) != tt.ok || got != tt.ran {
				t.Errorf("error %v, ran %q, want ok %t and %q; text:\n%s", err, got, tt.ok, tt.ran, text)
			}
			for _, want := range tt.says {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in:\n%s", want, text)
				}
			}
		})
	}
}

// TestSuiteLimits: a suite ends at its own limit, and at the end of the time that all have together, and it is said which it was.
func TestSuiteLimits(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		minute string // seconds, as scripts/test.sh counts them
		time   string // for all suites
		says   []string
	}{
		"its own": {"1", "", []string{"=== lint (limit:  0 min 05 s)\n", "=== lint: FAILED (over its limit)", "\n1 passed, 1 failed\n"}},
		"of all": {
			"60", "5",
			[]string{"=== lint (left of the time of all suites: ", "=== lint: FAILED (over the time of all suites)", "\n1 passed, 1 failed\n"},
		},
		"nothing left": {
			"60", "0",
			[]string{"setup        not run: the time of all suites is over\nlint         not run\n", "first failure: setup", "\n0 passed, 1 failed\n"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := fakeTree(t)
			script := filepath.Join(tree, "scripts/test.sh")
			content, err := os.ReadFile(script)
			if err != nil {
				t.Fatal(err)
			}
			write(t, script, strings.Replace(string(content), "minute=60", "minute="+tt.minute, 1), 0o755)
			write(t, filepath.Join(tree, "scripts/suites/setup.sh"), "", 0o755)
			write(t, filepath.Join(tree, "scripts/suites/lint.sh"), "sleep 600\n", 0o755)
			text, err := command(t, tree, "-c", "TEST_TIME="+tt.time+" "+script)
			if err == nil {
				t.Error("passed")
			}
			for _, want := range tt.says {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in:\n%s", want, text)
				}
			}
		})
	}
}

// usesSecret is what a suite does whose tests use a secret, and do not show it.
const usesSecret = ". scripts/lib.sh\nsecret 'the password of nobody' 0123456789-abcdef\n"

// fakeTree returns a folder with the scripts that run suites and what searches their output, and no suites.
func fakeTree(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	write(t, filepath.Join(tree, "libs/go.mod"), "module opensandbox/libs\n\ngo 1.26.0\n", 0o644)
	write(t, filepath.Join(tree, "tests/go.mod"),
		"module opensandbox/tests\n\ngo 1.26.0\n\nrequire opensandbox/libs v0.0.0\n\nreplace opensandbox/libs => ../libs\n", 0o644)
	for _, file := range []string{
		"scripts/test.sh", "scripts/lib.sh", "scripts/test-binary.sh",
		"libs/secrettest/secrettest.go", "libs/secrettest/search.go", "tests/cmd/find-secrets/main.go",
	} {
		content, err := os.ReadFile(filepath.Join("../..", file))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(tree, file), string(content), 0o755)
	}
	return tree
}

// TestGoTestRefusesToPassEmpty: a suite in which nothing ran has shown nothing.
func TestGoTestRefusesToPassEmpty(t *testing.T) {
	t.Parallel()
	const (
		passing = "package a\n\nimport \"testing\"\n\nfunc TestA(*testing.T) {}\n"
		failing = "package a\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) { t.Fail() }\n"
		empty   = "package a\n"
	)
	tests := map[string]struct {
		test string
		args string
		ok   bool
		says string
	}{
		"passes":         {passing, "./...", true, "ok "},
		"fails":          {failing, "./...", false, "FAIL"},
		"no test files":  {"", "./...", false, "no test ran"},
		"no tests":       {empty, "./...", false, "no test ran"},
		"filtered out":   {passing, "-run TestB ./...", false, "no test ran"},
		"missing folder": {passing, "./missing/...", false, "missing"},
	}
	lib, err := filepath.Abs("../../scripts/lib.sh")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := t.TempDir()
			write(t, filepath.Join(tree, "go.mod"), "module a\n\ngo 1.26.0\n", 0o644)
			write(t, filepath.Join(tree, "a.go"), "package a\n", 0o644)
			if tt.test != "" {
				write(t, filepath.Join(tree, "a_test.go"), tt.test, 0o644)
			}
			for _, kept := range []string{"", t.TempDir()} { // not within a suite, and within one
				text, err := command(t, tree, "-euo", "pipefail", "-c", "export OPENSANDBOX_TEST_OUTPUT="+kept+"; . "+lib+"; go_test -count=1 "+tt.args+"; echo reached")
				if (err == nil) != tt.ok || strings.Contains(text, "reached") != tt.ok || !strings.Contains(text, tt.says) {
					t.Errorf("error %v, want ok %t and %q in:\n%s", err, tt.ok, tt.says, text)
				}
			}
		})
	}
}

// command runs bash in dir and returns what it prints.
func command(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	text, err := cmd.CombinedOutput()
	return string(text), err
}
