package usecase

import (
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// seal puts the credentials of a create into what is inserted, so that nobody can read them there. The hash of an idempotency key is of a body
// with a password in it: it is made such that nobody can try passwords on it.
func (u *UseCases) seal(n *sandbox.New, c sandbox.Credentials) error {
	if !c.Set() {
		return nil
	}
	if u.deps.Vault == nil {
		return fault.New(fault.Invalid, "this server takes no credentials for registries").
			WithDetails(fault.Detail{Field: "image.auth", Problem: "not taken by this server"})
	}
	clear, err := c.Encode()
	if err != nil {
		return fault.New(fault.Internal, "the registry credentials cannot be kept")
	}
	if n.Secret, err = u.deps.Vault.Seal(n.ID, clear); err != nil {
		return fault.New(fault.Internal, "the registry credentials cannot be kept").Because(err)
	}
	n.Spec.Private = true
	if n.Key.Set() {
		n.Key.Hash = u.deps.Vault.Digest(n.Key.Hash)
	}
	return nil
}
