// Command opensandbox-scheduler gives sandboxes to nodes, ends them in time, and repairs what other processes left undone. Any number of it
// may run.
package main

import (
	"context"
	"io"
	"os"

	"opensandbox/libs/cli"
	"opensandbox/libs/settings"
)

// version is stamped by the build.
var version = "0.0.0-dev"

func main() { cli.Main(program(os.LookupEnv, os.Stderr)) }

func program(lookup func(string) (string, bool), stderr io.Writer) cli.Program {
	return cli.Program{
		Process: settings.ProcessScheduler, Version: version,
		About: "Gives sandboxes to nodes, ends them in time, and repairs what other processes left undone. Any number of it may run.",
		Run:   func(ctx context.Context, s settings.Settings) error { return serve(ctx, s, lookup, stderr) },
	}
}
