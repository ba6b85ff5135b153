// Command opensandbox-server is the whole platform for one machine in one process: api, scheduler, agent and router, on SQLite unless told
// otherwise.
package main

import (
	"opensandbox/libs/cli"
	"opensandbox/libs/settings"
)

// version is stamped by the build.
var version = "0.0.0-dev"

func main() {
	cli.Main(cli.Program{
		Process: settings.ProcessServer, Version: version,
		About: "Serves the OpenSandbox lifecycle API, and the traffic to sandboxes, for one machine with a Docker engine.",
		Check: settings.Settings.Guard, Run: serve,
		Answers: map[string]string{
			"reload": "there is no code to load again; restart the process, which loses no sandbox and keeps no client waiting for long",
		},
		Commands: []cli.Command{cli.InitConfig(), cli.MigrateSnapshots()},
	})
}
