//go:build sabotage

package app

import (
	"net/http"

	"opensandbox/libs/sabotage"
)

// sabotagedEngine is a Docker whose calls are steps that a test may end this process at.
type sabotagedEngine struct {
	sabotage.Engine
	inside Docker
}

// Close implements Docker.
func (e sabotagedEngine) Close() { e.inside.Close() }

func sabotaged(engine Docker, stateDir string) Docker {
	return sabotagedEngine{sabotage.FromEnvironment().Executor(sabotage.BrokenExecutor(engine, stateDir)), engine}
}

// aroundTransport makes steps of the calls of the engine's API, too.
func aroundTransport() func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		return sabotage.FromEnvironment().Transport(sabotage.BrokenTransport(next))
	}
}
