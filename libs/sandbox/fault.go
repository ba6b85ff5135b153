package sandbox

import "opensandbox/libs/fault"

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
