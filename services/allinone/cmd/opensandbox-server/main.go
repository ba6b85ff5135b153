// Command opensandbox-server is the whole platform for one machine in one process: api, scheduler and agent on a SQLite store.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is stamped by the build.
var version = "0.0.0-dev"

const usage = `usage: opensandbox-server [--config PATH] [--version] [-h]

Serves the OpenSandbox lifecycle API for one machine with a Docker engine.

  --config PATH   TOML file; default: $SANDBOX_CONFIG_PATH, else ~/.sandbox.toml, else built-in defaults
  --version       print the version and exit
  -h, --help      print this text and exit

Environment: OPENSANDBOX_SERVER_API_KEY replaces server.api_key; OPENSANDBOX_INSECURE_SERVER=YES allows to serve without a
key; DOCKER_HOST and the other variables of Docker's clients name the engine.
`

// Exit codes: those of OpenSandbox 1.1.1.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("opensandbox-server", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	path := flags.String("config", "", "")
	showVersion := flags.Bool("version", false, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "opensandbox-server: %v\n\n%s", err, usage)
		return exitUsage
	case flags.NArg() > 0:
		fmt.Fprintf(stderr, "opensandbox-server: unexpected argument %q\n\n%s", flags.Arg(0), usage)
		return exitUsage
	case *showVersion:
		fmt.Fprintln(stdout, version)
		return 0
	}
	if err := serve(ctx, *path, lookup, stderr); err != nil {
		fmt.Fprintf(stderr, "opensandbox-server: %v\n", err)
		return exitFailed
	}
	return 0
}
