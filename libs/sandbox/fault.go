package sandbox

import (
	"errors"
	"fmt"

	"opensandbox/libs/fault"
)

// Wire codes of OpenSandbox 1.1.1 that the domain itself decides about. They carry the prefix DOCKER on every runtime because
// clients compare them.
const (
	CodeNotFound          = "DOCKER::SANDBOX_NOT_FOUND"
	CodeInvalidExpiration = "DOCKER::INVALID_EXPIRATION"
	CodeNotRunning        = "DOCKER::SANDBOX_NOT_RUNNING"
	CodeNotPaused         = "DOCKER::SANDBOX_NOT_PAUSED"
	CodeInvalidParameter  = "SANDBOX::INVALID_PARAMETER"
	CodeInvalidLabel      = "SANDBOX::INVALID_METADATA_LABEL"
	// CodeStopping is ours: the sandbox is being removed and takes no changes any more.
	CodeStopping = "SANDBOX::STOPPING"
	// CodeStale is ours and internal: a write named an epoch, session or generation that is no longer the present one.
	CodeStale = "SANDBOX::STALE"
	// CodeNewerRecord is ours: a newer version of this program wrote the record, and this one does not understand it.
	CodeNewerRecord = "STORE::NEWER_RECORD"
	// CodeStoreFull is of a store without room for a write, nothing of which was made: fault.Unavailable.
	CodeStoreFull = "STORE::FULL"
)

var (
	errNotFound = fault.New(fault.NotFound, "sandbox not found").WithCode(CodeNotFound)
	errStopping = fault.New(fault.Conflict, "the sandbox is being removed").WithCode(CodeStopping)
	errStale    = fault.New(fault.Conflict, "the record has moved on").WithCode(CodeStale)
)

// ErrNotFound returns the error for an unknown id.
func ErrNotFound(id ID) error { return errNotFound.About(string(id)) }

// ErrStopping returns the error for a change to a sandbox that is Gone or has failed.
func ErrStopping(id ID) error { return errStopping.About(string(id)) }

// ErrStale returns the error for a write whose guard does not hold any more. The writer has to read again.
func ErrStale(id ID) error { return errStale.About(string(id)) }

// IsStale reports whether a guard did not hold.
func IsStale(err error) bool { return fault.CodeOf(err) == CodeStale }

// IsStopping reports whether the sandbox was Gone or had failed.
func IsStopping(err error) bool { return fault.CodeOf(err) == CodeStopping }

// IsUnread reports whether a record exists and cannot be read by this program, because a newer version wrote it. What belongs to it is not
// ours to judge.
func IsUnread(err error) bool { return fault.CodeOf(err) == CodeNewerRecord }

// Unread is the error of a method that returns many records when some of them cannot be read. The others are returned beside it, so that
// who knows what to do without the rest can do it.
type Unread struct {
	IDs []ID
	// Because is the error of the first, for which IsUnread holds.
	Because error
}

func (u *Unread) Error() string {
	return fmt.Sprintf("%d records cannot be read, the first is %s: %v", len(u.IDs), u.IDs[0], u.Because)
}

// Unwrap returns the error of the first.
func (u *Unread) Unwrap() error { return u.Because }

// UnreadOf returns the ids of the records that were not read, if err says no more than that: then what came with it is all the rest.
func UnreadOf(err error) ([]ID, bool) {
	u, ok := errors.AsType[*Unread](err)
	if !ok {
		return nil, false
	}
	return u.IDs, true
}
