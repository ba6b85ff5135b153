package sandbox

import "opensandbox/libs/fault"

// Key names a create across its repetitions. The zero value names none.
type Key struct {
	// Name is the client's, unique within its tenant.
	Name string
	// Hash identifies what was asked for, so that a name is not used for two things.
	Hash string
}

// Set reports whether there is a key.
func (k Key) Set() bool { return k.Name != "" }

// Wire codes of keys that cannot be used.
const (
	CodeKeyReused = "IDEMPOTENCY_KEY_REUSED"
	CodeKeySpent  = "IDEMPOTENCY_KEY_SPENT"
)

// ErrKeyReused returns the error for a key that was used for another request.
func ErrKeyReused() error {
	return fault.New(fault.Conflict, "this Idempotency-Key was used for another request body; use a new key for a new request").WithCode(CodeKeyReused)
}

// ErrKeySpent returns the error for a key whose sandbox is gone.
func ErrKeySpent(id ID) error {
	return fault.New(fault.Conflict, "the sandbox that this Idempotency-Key made is gone; use a new key for a new sandbox").WithCode(CodeKeySpent).About(string(id))
}

// Repeats decides about a create whose key leads to r. hash is the one that the key was stored with. It returns true when r is the answer:
// it is being made, it is there, or it has failed in a way that would repeat itself. false without an error means that the key is free:
// the create came to nothing for a reason that passes, and nothing of it is left. Deleted and expired records spend the key.
func (r *Record) Repeats(k Key, hash string) (bool, error) {
	switch {
	case k.Hash != hash:
		return false, ErrKeyReused()
	case r.Ended() && r.Intent.Reason == ReasonCreateFailed && passing(r.Observed.Reason):
		return false, nil
	case r.Gone() && r.Intent.Reason != ReasonCreateFailed:
		return false, ErrKeySpent(r.ID)
	}
	return true, nil
}

// passing reports whether a create that failed for this reason can succeed when it is repeated: it is answered with 503.
func passing(reason string) bool {
	switch reason {
	case ReasonNoCapacity, ReasonEngineUnavailable, ReasonEngineRestarted, ReasonNodeLost, ReasonNodeCutOff, ReasonStoreRecovered, ReasonPortsInUse:
		return true
	}
	return false
}
