package cli_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"opensandbox/libs/cli"
	"opensandbox/libs/secrettest"
	"opensandbox/libs/settings"
)

// server is the program that takes the place of that of OpenSandbox 1.1.1.
func server(run func(settings.Settings) error) cli.Program {
	return cli.Program{
		Process: settings.ProcessServer, Version: "1.2.3", Check: settings.Settings.Guard, Answers: map[string]string{"reload": "restart it"},
		Commands: []cli.Command{cli.InitConfig(), cli.MigrateSnapshots()},
		Run:      func(_ context.Context, s settings.Settings) error { return run(s) },
	}
}

// answer is what the server says to some arguments, with home for a home directory.
func answer(t *testing.T, home string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	lookup := func(name string) (string, bool) { return home, name == "HOME" && home != "" }
	code = cli.Run(t.Context(), server(func(settings.Settings) error { return errors.New("it ran") }), cli.System{Args: args, Lookup: lookup, Stdout: &out, Stderr: &errs})
	return code, out.String(), errs.String()
}

func TestInitConfig(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	deep := filepath.Join(home, "a", "b.toml")
	for _, args := range [][]string{{"init-config"}, {"init-config", "~/docker.toml", "--example", "docker"}, {"init-config", "--example=docker-zh", deep},
		{"--config", "/nowhere", "init-config", "~/k8s.toml", "--example", "k8s"}, {"init-config", "--force", "--example", "k8s-zh", "~/k8s.toml"}} {
		code, out, errs := answer(t, home, args...)
		path, ok := strings.CutPrefix(strings.TrimSpace(out), "wrote ")
		if code != 0 || !ok || errs != "" {
			t.Fatalf("%v: exit code %d, %s%s", args, code, out, errs)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
		if code, out, errs := answer(t, home, "--check-config", "--config", path); code != 0 || out != "configuration is valid\n" || strings.Count(errs, "warning") != 1 {
			t.Errorf("%v: exit code %d, %s%s", args, code, out, errs)
		}
	}
	if files, err := os.ReadDir(home); err != nil || len(files) != 4 {
		t.Errorf("files %v, %v", files, err)
	}
	code, out, errs := answer(t, home, "--config", filepath.Join(home, "k8s.toml"))
	if code != 1 || !strings.Contains(errs, `runtime.type = "kubernetes": is valid, but not available yet`) {
		t.Errorf("a start on Kubernetes: exit code %d, %s%s", code, out, errs)
	}
}

func TestInitConfigRefuses(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	path := filepath.Join(home, "x.toml")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	dangling := filepath.Join(home, "link")
	if err := os.Symlink("/nowhere/file", dangling); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args        []string
		home        string
		code        int
		out, errors string
	}{
		"exists":            {[]string{"init-config", path}, home, 1, "exists; --force writes over it", ""},
		"a link to nothing": {[]string{"init-config", dangling}, home, 1, "exists; --force writes over it", ""},
		"a directory":       {[]string{"init-config", home, "--force"}, home, 1, "is a directory", ""},
		"no such place":     {[]string{"init-config", "/dev/null/x.toml"}, home, 1, "/dev/null", ""},
		"no home":           {[]string{"init-config"}, "", 1, "HOME is not set", ""},
		"unknown kind":      {[]string{"init-config", "--example", "podman"}, home, 2, "", "--example: expected one of docker, docker-zh, k8s, k8s-zh"},
		"no kind":           {[]string{"init-config", "--example"}, home, 2, "", "--example needs a value"},
		"misspelt":          {[]string{"init-config", "--exampel", "docker"}, home, 2, "", "did you mean --example?"},
		"two paths":         {[]string{"init-config", "a", "b"}, home, 2, "", "at most one PATH"},
		"reload":            {[]string{"--reload"}, home, 2, "", "--reload: restart it"},
		"migrate-snapshots": {[]string{"migrate-snapshots", "--from", "x", "--to", "postgres://" + secrettest.New("the password of a database"), "--dry-run"}, home, 1, "", "there is no PostgreSQL store"},
		"help":              {[]string{"init-config", "-h"}, home, 0, "init-config [--example docker|docker-zh|k8s|k8s-zh] [--force] [PATH]", ""},
	} {
		code, out, errs := answer(t, c.home, c.args...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errors) {
			t.Errorf("%s: exit code %d, want %d\nstdout: %s\nstderr: %s", name, code, c.code, out, errs)
		}
		secrettest.Absent(t, name, out+errs)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
		t.Errorf("the file was changed: %q, %v", b, err)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, out, errs := answer(t, home, "completion", shell); code != 0 || !strings.Contains(out, "__complete") || errs != "" {
			t.Errorf("%s: exit code %d, %d bytes, %s", shell, code, len(out), errs)
		}
	}
	if code, _, errs := answer(t, home, "completion", "ksh"); code != 2 || !strings.Contains(errs, "expected one of bash, zsh") {
		t.Errorf("ksh: exit code %d, %s", code, errs)
	}
	for want, args := range map[string][]string{
		"init-config\t":       {""},
		"migrate-snapshots\t": {"mig"},
		"--check-config\t":    {"--ch"},
		"docker-zh\n":         {"init-config", "--example", "docker"},
		"--force":             {"init-config", "--fo"},
		"zsh\n":               {"completion", "z"},
	} {
		code, out, _ := answer(t, home, append([]string{"__complete"}, args...)...)
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%q: exit code %d, %q", args, code, out)
		}
	}
}

// TestQuestionAtTheTerminal starts without a key where somebody can be asked.
func TestQuestionAtTheTerminal(t *testing.T) {
	t.Parallel()
	file := write(t, "[docker]\nnetwork_mode = 'bridge'\n")
	start := func(ctx context.Context, stdin io.Reader, terminal bool) (int, []string, string) {
		var errs strings.Builder
		var warnings []string
		p := server(func(s settings.Settings) error { warnings = s.Warnings; return nil })
		code := cli.Run(ctx, p, cli.System{Args: []string{"--config", file}, Lookup: func(string) (string, bool) { return "", false },
			Stdin: stdin, Terminal: terminal, Stdout: io.Discard, Stderr: &errs})
		return code, warnings, errs.String()
	}
	if code, warnings, errs := start(t.Context(), strings.NewReader("YES\n"), true); code != 0 || len(warnings) != 1 || !strings.Contains(warnings[0], "no API key") || !strings.Contains(errs, "OPENSANDBOX_INSECURE_SERVER") {
		t.Errorf("YES: exit code %d, warnings %q, %s", code, warnings, errs)
	}
	for _, text := range []string{"yes\n", "", "no\n", "YES!\n"} {
		if code, _, errs := start(t.Context(), strings.NewReader(text), true); code != 1 || !strings.Contains(errs, "no API key is configured") {
			t.Errorf("%q: exit code %d, %s", text, code, errs)
		}
	}
	if code, _, errs := start(t.Context(), strings.NewReader("YES\n"), false); code != 1 || strings.Contains(errs, "Type YES") {
		t.Errorf("nobody sits there: exit code %d, %s", code, errs)
	}
	synctest.Test(t, func(t *testing.T) {
		silent, typist := io.Pipe()
		if code, _, errs := start(t.Context(), silent, true); code != 1 || !strings.Contains(errs, "no answer") {
			t.Errorf("silence: exit code %d, %s", code, errs)
		}
		_ = typist.Close() // ends the reader
	})
}
