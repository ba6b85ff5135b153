// Command opensandbox-agent drives one container engine to what the shared store says. One runs for each engine.
package main

import (
	"opensandbox/libs/cli"
	"opensandbox/libs/settings"
)

// version is stamped by the build.
var version = "0.0.0-dev"

func main() {
	cli.Main(cli.Program{
		Process: settings.ProcessAgent, Version: version,
		About: "Drives one container engine to what the shared store says. One runs for each engine.",
		Run:   serve,
		Commands: []cli.Command{
			{Name: "nodes", About: "list all nodes", Run: withStore(list)},
			{Name: "drain", Operand: "NODE", About: "give a node (default: this one) no new sandboxes; those that it has stay", Run: withStore(drain(true))},
			{Name: "undrain", Operand: "NODE", About: "give a drained node new sandboxes again", Run: withStore(drain(false))},
			{Name: "remove", Operand: "NODE", Careful: true, About: "give up a node that does not come back, with all its sandboxes", Run: withStore(remove)},
		},
	})
}
