//go:build sabotage

package process

import (
	"opensandbox/libs/sabotage"
	"opensandbox/libs/storemetrics"
)

// sabotaged returns the store with the steps that a test may end this process at.
func sabotaged(store storemetrics.Both) storemetrics.Both {
	return sabotage.FromEnvironment().Store(store)
}
