//go:build !sabotage

package process

import "opensandbox/libs/storemetrics"

// sabotaged returns the store as it is: only the tests of what a killed process leaves build with the tag "sabotage".
func (*Process) sabotaged(store storemetrics.Both) (storemetrics.Both, error) { return store, nil }
