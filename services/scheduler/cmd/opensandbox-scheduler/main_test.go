package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"opensandbox/libs/cli"
	"opensandbox/libs/secrettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// execute runs the program with a configuration file and no environment, and returns its exit code and what it printed.
func execute(ctx context.Context, t *testing.T, config string, args ...string) (code int, output string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	lookup := func(string) (string, bool) { return "", false }
	code = cli.Run(ctx, program(lookup, &out), cli.System{Args: append([]string{"--config", path}, args...), Lookup: lookup, Stdout: &out, Stderr: &out})
	return code, out.String()
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	valid := "[store]\ntype = \"redis\"\nredis_url = \"redis://:" + secrettest.New("the password of Redis") + "@127.0.0.1:1\"\n"
	for name, tc := range map[string]struct {
		config string
		flag   string
		code   int
		says   string
	}{
		"valid":             {valid, "--check-config", cli.ExitOK, "configuration is valid"},
		"printed":           {valid, "--print-config", cli.ExitOK, "redis_url"},
		"a store of others": {"", "--check-config", cli.ExitInvalid, "redis"},
		"not running":       {valid + "[server]\nadmin_listen = \"127.0.0.1:1\"\n", "--health", cli.ExitFailed, "not healthy"},
	} {
		code, output := execute(t.Context(), t, tc.config, tc.flag)
		if code != tc.code || !strings.Contains(output, tc.says) {
			t.Errorf("%s: exit code %d, want %d; output %q", name, code, tc.code, output)
		}
		secrettest.Absent(t, name, output)
	}
}
