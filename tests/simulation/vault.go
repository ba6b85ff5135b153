package simulation

import (
	"fmt"

	"opensandbox/libs/sandbox"
)

// openVault stands for the sealing of an installation: what it seals can be opened for one sandbox only, and a run with the same seed is the same.
type openVault struct{}

// Seal puts the id in front.
func (openVault) Seal(id sandbox.ID, clear []byte) ([]byte, error) {
	return append([]byte(string(id)+"\n"), clear...), nil
}

// Digest is what it is of.
func (openVault) Digest(text string) string { return text }

func unsealed(id sandbox.ID, sealed []byte) ([]byte, error) {
	before := string(id) + "\n"
	if len(sealed) < len(before) || string(sealed[:len(before)]) != before {
		return nil, fmt.Errorf("the secret of %s is that of another sandbox", id)
	}
	return sealed[len(before):], nil
}
