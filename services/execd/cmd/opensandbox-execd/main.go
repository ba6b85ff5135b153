// Command opensandbox-execd is the daemon inside every sandbox, and its init process.
package main

import (
	"os"

	"opensandbox/services/execd/internal/daemon"
)

func main() {
	os.Exit(daemon.Run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
