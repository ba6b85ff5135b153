// Package sandbox is the domain: what a sandbox is, the states it goes through, who may change which part of its record, and
// the ports through which records are read and written.
//
// It does not know HTTP, SQL, Redis or Docker, and it never asks for the time: the time is an argument.
package sandbox

import (
	"maps"
	"slices"
	"time"
)

// ID names a sandbox for ever: a random UUID in lower case with hyphens. It is never used again for another sandbox.
type ID string

// Record is the truth about one sandbox. A container, a host port or a reservation without a record is garbage.
//
// Each part has its own writers, and a write changes only its own part:
// ID to Spec are set by Insert and never change; Intent belongs to the api and the scheduler; Placement to the scheduler
// (ports also to the agent's port swap, Released to Cleaned); Observed to the agent of Placement.Node, and to the scheduler
// while there is no node.
type Record struct {
	ID        ID        `json:"id"`
	Tenant    string    `json:"tenant,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	Spec      Spec      `json:"spec"`

	Intent    Intent    `json:"intent"`
	Placement Placement `json:"placement"`
	Observed  Observed  `json:"observed"`

	// RetainUntil is when a failed create stops being shown; zero while it has not failed.
	RetainUntil time.Time `json:"retainUntil,omitzero"`
	// EndedAt is when the record was ended: Gone and holding nothing. Ended records are kept for diagnostics only.
	EndedAt time.Time `json:"endedAt,omitzero"`
	// Keyed says that an idempotency key leads to this record, which is therefore kept for KeepKey at least.
	Keyed bool `json:"keyed,omitempty"`
	// Version counts the changes of the record. It orders notices; it is not a guard, so that a progress message and a renewal
	// never collide.
	Version uint64 `json:"version"`
}

// Spec is what the client asked for, after validation. It never changes.
type Spec struct {
	// Image is the reference to run, as the client wrote it.
	Image string `json:"image"`
	// Private says that the client gave credentials for the image's registry, which are kept beside the record; see Secrets.
	Private bool `json:"private,omitempty"`
	// Entrypoint is the command with its arguments; never empty.
	Entrypoint []string `json:"entrypoint"`
	// Env is the environment of the sandbox, laid over the image's.
	Env map[string]string `json:"env,omitempty"`
	// Unset are names that the environment of all sandboxes of the operator may have, and this one shall not.
	Unset []string `json:"unset,omitempty"`
	// Limits bound what the sandbox may use; a zero field means no limit.
	Limits Resources `json:"limits,omitzero"`
	// GPUs is how many the sandbox gets; AllGPUs means all of the node.
	GPUs int `json:"gpus,omitempty"`
	// Volumes are mounted into the sandbox.
	Volumes []Volume `json:"volumes,omitempty"`
	// Requests is what placement reserves on the node.
	Requests Resources `json:"requests,omitzero"`
	// Extensions are the entries that are handed back to clients ("opensandbox.extensions.…").
	Extensions map[string]string `json:"extensions,omitempty"`
	// Timeout is the requested life time; 0 means until it is deleted.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Needs is what a node must have to get the sandbox.
	Needs Needs `json:"needs,omitzero"`
	// Replace makes the sandbox anew, from its image, when its node is lost; else it is Failed then.
	Replace bool `json:"replace,omitempty"`
	// RenewOnAccess is by how much each access through a proxy or router extends the deadline; 0 means that access does not.
	RenewOnAccess time.Duration `json:"renewOnAccess,omitempty"`
}

// AllGPUs asks for every GPU of the node.
const AllGPUs = -1

// Needs bounds where a sandbox may be placed. Empty fields ask for nothing.
type Needs struct {
	// Platform is os/arch, such as linux/arm64.
	Platform string `json:"platform,omitempty"`
	// Runtime is the isolation runtime of the engine, such as runsc.
	Runtime string `json:"runtime,omitempty"`
	// Labels must all be labels of the node.
	Labels map[string]string `json:"labels,omitempty"`
}

// Resources is an amount of processor and memory.
type Resources struct {
	// CPU is in milli-CPUs: 1000 is one core.
	CPU int64 `json:"cpu,omitempty"`
	// Memory is in bytes.
	Memory int64 `json:"memory,omitempty"`
}

// Desired is what the client wants the sandbox to be.
type Desired string

// The desired states. Gone is absorbing.
const (
	DesiredRunning Desired = "running"
	DesiredPaused  Desired = "paused"
	DesiredGone    Desired = "gone"
)

// Why a record was set Gone. The first reason wins.
const (
	ReasonDeleted      = "DELETED"
	ReasonExpired      = "EXPIRED"
	ReasonCreateFailed = "CREATE_FAILED"
)

// AnyTenant stands for the platform itself, which may change every record. No tenant has this name.
const AnyTenant = "*"

// Intent is what shall be.
type Intent struct {
	Desired Desired `json:"desired"`
	// Reason says why Desired is Gone.
	Reason string `json:"reason,omitempty"`
	// Generation counts the changes of Desired, from 1 at insert. Renewals and metadata patches leave it.
	Generation uint64 `json:"generation"`
	// Accepted says that a client holds the id: a failed create that nobody knows of is forgotten, one that somebody knows of is
	// shown.
	Accepted bool `json:"accepted,omitempty"`
	// ExpiresAt is the deadline; zero means none.
	ExpiresAt time.Time `json:"expiresAt,omitzero"`
	// Metadata are the client's labels.
	Metadata map[string]string `json:"metadata,omitempty"`
	// Origin is the request that last changed Desired: the work for it belongs there. Its fields are written beside those above, and a program
	// that knows only some of them reads the rest of the record all the same.
	Origin
}

// Placement is where it shall be.
type Placement struct {
	// Node is the name of the node; empty while unplaced.
	Node string `json:"node,omitempty"`
	// Epoch counts placements of the id, from 1. It is the fence between placements: what carries an older one is garbage.
	Epoch uint64 `json:"epoch,omitempty"`
	// Ports maps a container port to the leased port of the node.
	Ports map[int]int `json:"ports,omitempty"`
	// Reserved is what placement took from the node's capacity.
	Reserved Resources `json:"reserved,omitzero"`
	// Released says that the agent has removed all that it made for this epoch and that the amounts are free again.
	Released bool `json:"released,omitempty"`
}

// Observed is what is, in the words of the one who looked last.
type Observed struct {
	State   State  `json:"state,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Generation is the last one that the agent has finished with, well or badly. Progress messages leave it.
	Generation uint64 `json:"generation,omitempty"`
	// Epoch and Session say which placement was observed, and by which start of the agent.
	Epoch   uint64 `json:"epoch,omitempty"`
	Session uint64 `json:"session,omitempty"`
	// Started says that the sandbox has been Running in this epoch. A failure before that is a failed create.
	Started bool `json:"started,omitempty"`
	// ExitCode is the entry point's exit status once it has ended.
	ExitCode *int `json:"exitCode,omitempty"`
	// Addresses are how the sandbox is reached; known from the first Running of the epoch on.
	Addresses Addresses `json:"addresses,omitzero"`
	// At is the store's time of the last change of State.
	At time.Time `json:"at,omitzero"`
}

// Addresses are how a sandbox is reached.
type Addresses struct {
	// ContainerIP is the address on the node's own network; reachable from the node only.
	ContainerIP string `json:"containerIP,omitempty"`
	// Ports maps a container port to the port that the node really published.
	Ports map[int]int `json:"ports,omitempty"`
	// OnHost says that the sandbox uses the network of its node: each of its ports is the same port of the node.
	OnHost bool `json:"onHost,omitempty"`
}

// Clone returns a copy that shares nothing with r that a caller could change.
func (r Record) Clone() Record {
	r.Spec.Entrypoint = slices.Clone(r.Spec.Entrypoint)
	r.Spec.Env = maps.Clone(r.Spec.Env)
	r.Spec.Unset = slices.Clone(r.Spec.Unset)
	r.Spec.Volumes = slices.Clone(r.Spec.Volumes)
	for i, v := range r.Spec.Volumes {
		if v.Claim != nil {
			claim := *v.Claim
			r.Spec.Volumes[i].Claim = &claim
		}
	}
	r.Spec.Extensions = maps.Clone(r.Spec.Extensions)
	r.Spec.Needs.Labels = maps.Clone(r.Spec.Needs.Labels)
	r.Intent.Metadata = maps.Clone(r.Intent.Metadata)
	r.Placement.Ports = maps.Clone(r.Placement.Ports)
	r.Observed.Addresses.Ports = maps.Clone(r.Observed.Addresses.Ports)
	if r.Observed.ExitCode != nil {
		code := *r.Observed.ExitCode
		r.Observed.ExitCode = &code
	}
	return r
}

// Gone reports whether the sandbox shall not be.
func (r *Record) Gone() bool { return r.Intent.Desired == DesiredGone }

// Ended reports whether nothing is left of the sandbox but this record.
func (r *Record) Ended() bool { return !r.EndedAt.IsZero() }

// Placed reports whether a node is responsible for the sandbox now.
func (r *Record) Placed() bool { return r.Placement.Node != "" && !r.Placement.Released }

// FailedCreate reports whether the sandbox failed before it was Running. That is absorbing, as Gone is.
func (r *Record) FailedCreate() bool {
	return r.Observed.State == StateFailed && !r.Observed.Started && r.Observed.Epoch == r.Placement.Epoch
}

// Finished reports whether the present generation has been dealt with, well or badly.
func (r *Record) Finished() bool {
	return r.Observed.Generation >= r.Intent.Generation && r.Observed.Epoch == r.Placement.Epoch
}

// Over reports whether the entry point has ended, or the create has failed: nothing can be paused or resumed any more.
func (r *Record) Over() bool {
	return r.Observed.State == StateFailed || r.Observed.State == StateTerminated
}

// NeedsWork reports whether the agent of Placement.Node has something to do. Stores keep an index of it, written with the
// record, so that no message has to be remembered.
func (r *Record) NeedsWork() bool {
	return r.Placed() && !r.Ended() && (r.Gone() || r.FailedCreate() || !r.Finished())
}

// Unplaced reports whether the scheduler has to find a node. What is over, or failed because its node was lost, needs none.
func (r *Record) Unplaced() bool {
	return r.Placement.Node == "" && !r.Gone() && !r.Ended() && !(r.Over() && r.Observed.Epoch == r.Placement.Epoch)
}

// Visible reports whether clients see the record: not once it has ended, and not when it failed before anyone had its id.
func (r *Record) Visible() bool {
	return !r.Ended() && (r.Intent.Accepted || (!r.Gone() && !r.FailedCreate()))
}

// OwnedBy reports whether a tenant, or AnyTenant, may see and change the record.
func (r *Record) OwnedBy(tenant string) bool { return tenant == AnyTenant || r.Tenant == tenant }

// KeepKey is how long an idempotency key leads to the record that it made.
const KeepKey = 24 * time.Hour

// ForgetFrom returns from when on an ended record may be forgotten, the time that it is kept for diagnostics aside; zero for one
// that has not ended.
func (r *Record) ForgetFrom() time.Time {
	if until := r.CreatedAt.Add(KeepKey); r.Keyed && r.Ended() && until.After(r.EndedAt) {
		return until
	}
	return r.EndedAt
}

// Due reports whether the deadline has passed at now.
func (r *Record) Due(now time.Time) bool {
	return !r.Intent.ExpiresAt.IsZero() && !now.Before(r.Intent.ExpiresAt) && !r.Gone()
}

// Delays after which the scheduler does what an api that died has left undone.
const (
	// WithdrawAfter is the age at which the scheduler withdraws an intent that the agent failed to carry out.
	WithdrawAfter = 30 * time.Second
	// AbandonAfter is the age at which a failed create that no client knows of is removed.
	AbandonAfter = 60 * time.Second
)

// AttentionAt returns when the scheduler has to look at the record again for another reason than placement or its deadline;
// zero means never.
func (r *Record) AttentionAt() time.Time {
	switch {
	case r.Ended() || r.Gone():
		return time.Time{}
	case r.FailedCreate() && !r.Intent.Accepted:
		return r.Observed.At.Add(AbandonAfter)
	case r.FailedCreate():
		return r.RetainUntil
	case r.Withdrawable():
		return r.Observed.At.Add(WithdrawAfter)
	}
	return time.Time{}
}

// Withdrawable reports whether the agent has finished the present generation without reaching what was desired, so that the
// intent has to be taken back: a failed pause or resume.
func (r *Record) Withdrawable() bool {
	if r.Gone() || !r.Finished() || !r.Observed.Started {
		return false
	}
	return (r.Intent.Desired == DesiredPaused && r.Observed.State == StateRunning) ||
		(r.Intent.Desired == DesiredRunning && r.Observed.State == StatePaused)
}
