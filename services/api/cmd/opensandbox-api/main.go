// Command opensandbox-api serves the lifecycle API on a store that it shares with the other processes. Any number of replicas may run.
package main

import (
	"opensandbox/libs/cli"
	"opensandbox/libs/settings"
)

// version is stamped by the build.
var version = "0.0.0-dev"

func main() {
	cli.Main(cli.Program{
		Process: settings.ProcessAPI, Version: version,
		About: "Serves the OpenSandbox lifecycle API; any number of replicas may share a store.",
		Check: settings.Settings.Guard,
		Run:   serve,
	})
}
