// Command opensandbox-router carries user traffic to the ports of sandboxes, on all nodes of an installation.
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
		Process: settings.ProcessRouter, Version: version,
		About: "Forwards HTTP, WebSocket and event streams at /{id}/{port}/… to the ports of sandboxes.",
		Run:   func(ctx context.Context, s settings.Settings) error { return serve(ctx, s, lookup, stderr) },
	}
}
