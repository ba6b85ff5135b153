//go:build !sabotage

package app

import "net/http"

// sabotaged returns the engine as it is: only the tests of what a killed process leaves build with the tag "sabotage".
func sabotaged(engine Docker, _ string) Docker { return engine }

// aroundTransport is nothing, as well.
func aroundTransport() func(http.RoundTripper) http.RoundTripper { return nil }
