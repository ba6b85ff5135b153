//go:build sabotage

package process

import (
	"opensandbox/libs/sabotage"
	"opensandbox/libs/storemetrics"
)

// sabotaged returns the store with the steps that a test may end this process at, and without a promise that it breaks.
func sabotaged(store storemetrics.Both) storemetrics.Both {
	return sabotage.FromEnvironment().Store(sabotage.Broken(store))
}
