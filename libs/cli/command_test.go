package cli_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"opensandbox/libs/cli"
	"opensandbox/libs/secrettest"
	"opensandbox/libs/settings"
)

func TestCommands(t *testing.T) {
	t.Parallel()
	path := write(t, "[server]\nport = 9000\n")
	wrong := write(t, "[server]\nport = 0\n")
	for name, c := range map[string]struct {
		args        []string
		code        int
		out, errors string
	}{
		"plain":                 {args: []string{"drain"}, out: "drain \"\" yes=false port=8080\n"},
		"operand":               {args: []string{"drain", "n1"}, out: "drain \"n1\" yes=false port=8080\n"},
		"flags first":           {args: []string{"remove", "--yes", "--config", path, "n1"}, out: "remove \"n1\" yes=true port=9000\n"},
		"flags last":            {args: []string{"remove", "n1", "--config=" + path, "--yes"}, out: "remove \"n1\" yes=true port=9000\n"},
		"help":                  {args: []string{"drain", "-h"}, out: "usage: opensandbox-server [--config PATH] [--check-config"},
		"help names commands":   {args: []string{"-h"}, out: "       opensandbox-server remove [--config PATH] [--yes] [NODE]\n"},
		"abbreviated flags":     {args: []string{"--co", path, "remove", "n1", "--y"}, out: "remove \"n1\" yes=true port=9000\n"},
		"two beginnings":        {args: []string{"feed", "--fi", "1"}, code: 2, errors: "--fi is the beginning of --fifth and --first; write one of them in full"},
		"one beginning":         {args: []string{"feed", "--fir", "1", "n1"}, out: "feed \"n1\" yes=false port=8080\n"},
		"two operands":          {args: []string{"drain", "a", "b"}, code: 2, errors: "drain takes at most one NODE"},
		"an empty operand":      {args: []string{"drain", ""}, code: 2, errors: "NODE must not be empty"},
		"no operand is taken":   {args: []string{"nodes", "a"}, code: 2, errors: "nodes takes no argument"},
		"yes is not known":      {args: []string{"drain", "--yes"}, code: 2, errors: "unknown flag --yes"},
		"misspelt flag":         {args: []string{"remove", "--yess"}, code: 2, errors: "unknown flag --yess; did you mean --yes?"},
		"value for yes":         {args: []string{"remove", "--yes=perhaps"}, code: 2, errors: "--yes takes no value"},
		"no path":               {args: []string{"drain", "--config"}, code: 2, errors: "--config needs a path"},
		"an empty path":         {args: []string{"drain", "--config", ""}, code: 2, errors: "--config needs a path"},
		"misspelt command":      {args: []string{"node"}, code: 2, errors: "unknown command; did you mean nodes?"},
		"no command":            {args: []string{secrettest.New("an argument that may be a secret")}, code: 2, errors: "unexpected argument or unknown command; expected one of drain, remove, nodes, feed, fail, misuse, completion"},
		"flags before commands": {args: []string{"--config", path, "drain"}, out: "drain \"\" yes=false port=9000\n"},
		"an action, a command":  {args: []string{"--version", "drain"}, code: 2, errors: "--version takes none"},
		"wrong configuration":   {args: []string{"drain", "--config", wrong}, code: 1, errors: "server.port = 0"},
		"fails":                 {args: []string{"fail"}, code: 1, errors: "opensandbox-server: no such node"},
		"misused":               {args: []string{"misuse"}, code: 2, errors: "opensandbox-server: node: say which"},
	} {
		var out, errs strings.Builder
		tell := func(name string) func(context.Context, settings.Settings, cli.Call) error {
			return func(_ context.Context, s settings.Settings, c cli.Call) error {
				_, err := fmt.Fprintf(c.Stdout, "%s %q yes=%v port=%d\n", name, c.Operand, c.Yes, s.Server.Port)
				return err
			}
		}
		p := cli.Program{Process: settings.ProcessServer, About: "Does things.", Commands: []cli.Command{
			{Name: "drain", Operand: "NODE", About: "stop placement", Run: tell("drain")},
			{Name: "remove", Operand: "NODE", Careful: true, About: "give up", Run: tell("remove")},
			{Name: "nodes", About: "list", Run: tell("nodes")},
			{Name: "feed", Operand: "NODE", Flags: []cli.Flag{{Name: "first", Value: "N"}, {Name: "fifth"}}, Run: tell("feed")},
			{Name: "fail", Run: func(context.Context, settings.Settings, cli.Call) error { return errors.New("no such node") }},
			{Name: "misuse", Run: func(context.Context, settings.Settings, cli.Call) error {
				return fmt.Errorf("node: %w", cli.Misused("say which"))
			}},
		}, Run: func(context.Context, settings.Settings) error { return errors.New("ran") }}
		home := t.TempDir()
		lookup := func(n string) (string, bool) { return home, n == "HOME" }
		code := cli.Run(t.Context(), p, cli.System{Args: c.args, Lookup: lookup, Stdout: &out, Stderr: &errs})
		if code != c.code || !strings.Contains(out.String(), c.out) || !strings.Contains(errs.String(), c.errors) || (c.out == "") != (out.Len() == 0) {
			t.Errorf("%s: exit code %d, want %d\nstdout: %s\nstderr: %s", name, code, c.code, out.String(), errs.String())
		}
		secrettest.Absent(t, name, errs.String())
	}
}
