package sandbox

import (
	"maps"
	"time"

	"opensandbox/libs/fault"
)

// This file is the guarded half of every write. A store reads a record, calls one of these, and saves record and indexes in one
// step, so that all stores decide alike. Each names the fields it depends on and changes only its own; none asks for the time.

// NewRecord returns the record of a create: Pending, unplaced, generation 1. now is the store's time, o the request.
func NewRecord(n New, now time.Time, o Origin) Record {
	now = now.UTC().Truncate(time.Microsecond)
	r := Record{
		ID: n.ID, Tenant: n.Tenant, CreatedAt: now, Spec: n.Spec, Version: 1, Keyed: n.Key.Set(),
		Intent: Intent{Desired: DesiredRunning, Generation: 1, Accepted: n.Accepted, Metadata: maps.Clone(n.Metadata), Origin: o},
	}
	if n.Spec.Timeout > 0 {
		r.Intent.ExpiresAt = now.Add(n.Spec.Timeout)
	}
	return r
}

// Accept notes that a client is about to get the id. Depends on: not Gone, not a failed create.
func (r *Record) Accept() error {
	if r.Gone() || r.Ended() || r.FailedCreate() {
		return ErrStopping(r.ID)
	}
	r.Intent.Accepted = true
	return nil
}

// SetDesired changes what the sandbox shall be to Running or Paused. Depends on: not Gone, not over, and the generation that the
// writer decided upon. o is the request.
func (r *Record) SetDesired(d Desired, ifGeneration uint64, o Origin) error {
	if r.Gone() || r.Ended() || r.Over() {
		return ErrStopping(r.ID)
	}
	if r.Intent.Generation != ifGeneration {
		return ErrStale(r.ID)
	}
	if r.Intent.Desired == d {
		return nil
	}
	r.Intent.Desired, r.Intent.Origin = d, o
	r.Intent.Generation++
	return nil
}

// SetGone ends the wish for the sandbox. The first reason wins; calling it again changes nothing. A record that holds nothing is
// ended at once. o is the request.
func (r *Record) SetGone(reason string, now time.Time, o Origin) {
	if !r.Gone() {
		r.Intent.Desired, r.Intent.Reason, r.Intent.Origin = DesiredGone, reason, o
		r.Intent.Generation++
	}
	if !r.Placed() && !r.Ended() {
		r.EndedAt = now.UTC().Truncate(time.Microsecond)
	}
}

// Renew moves the deadline, forwards or backwards. Depends on: not Gone, not a failed create, has a deadline, and at after now.
func (r *Record) Renew(at, now time.Time) error {
	if r.Gone() || r.Ended() || r.FailedCreate() {
		return ErrStopping(r.ID)
	}
	if !at.After(now) {
		return fault.New(fault.Invalid, "expiresAt must be in the future").WithCode(CodeInvalidExpiration)
	}
	if at.UTC().Year() > 9999 {
		// RFC 3339 has four digits for the year: a later time could be neither stored nor answered.
		return fault.New(fault.Invalid, "expiresAt must be before the year 10000").WithCode(CodeInvalidExpiration)
	}
	if r.Intent.ExpiresAt.IsZero() {
		return fault.New(fault.Conflict, "the sandbox has no expiration to renew: it was created without a timeout").WithCode(CodeInvalidExpiration)
	}
	r.Intent.ExpiresAt = at.UTC().Truncate(time.Microsecond)
	return nil
}

// Extend is Renew, but it leaves a deadline that is later than at.
func (r *Record) Extend(at, now time.Time) error {
	before := r.Intent.ExpiresAt
	if err := r.Renew(at, now); err != nil {
		return err
	}
	if r.Intent.ExpiresAt.Before(before) {
		r.Intent.ExpiresAt = before
	}
	return nil
}

// PatchMetadata lays patch over the metadata; a nil value removes the key. Depends on: not Gone, not ended.
func (r *Record) PatchMetadata(patch map[string]*string) error {
	if r.Gone() || r.Ended() {
		return ErrStopping(r.ID)
	}
	merged := maps.Clone(r.Intent.Metadata)
	if merged == nil {
		merged = make(map[string]string, len(patch))
	}
	for k, v := range patch {
		if v == nil {
			delete(merged, k)
			continue
		}
		merged[k] = *v
	}
	if err := CheckMetadataSize(merged); err != nil {
		return err
	}
	r.Intent.Metadata = merged
	return nil
}

// Expire sets the sandbox Gone if its deadline is not after now. It reports whether it did.
func (r *Record) Expire(now time.Time) bool {
	if !r.Due(now) || r.Ended() {
		return false
	}
	r.SetGone(ReasonExpired, now, Origin{})
	return true
}

// Place gives the sandbox to a node under a new epoch. Depends on: unplaced. The store has checked the node, taken the amounts
// and leased the ports in the same step.
func (r *Record) Place(node string, ports map[int]int, reserved Resources) error {
	if !r.Unplaced() {
		return ErrStale(r.ID)
	}
	r.Placement = Placement{Node: node, Epoch: r.Placement.Epoch + 1, Ports: ports, Reserved: reserved}
	return nil
}

// FailUnplaced ends the search for a node. Depends on: unplaced.
func (r *Record) FailUnplaced(f Failure, now time.Time) error {
	if !r.Unplaced() {
		return ErrStale(r.ID)
	}
	now = now.UTC().Truncate(time.Microsecond)
	r.Observed = Observed{
		State: StateFailed, Reason: f.Reason, Message: f.Message,
		Generation: r.Intent.Generation, Epoch: r.Placement.Epoch, At: now,
	}
	r.RetainUntil = now.Add(f.RetainFor)
	return nil
}

// Lose gives up the present placement, whose node does not come back, under a new epoch: whatever that node still runs is older from
// now on. A Gone sandbox is ended. One that was over stays what it was. One with Spec.Replace waits for a node again, Running whatever
// it was before. Any other has failed. Depends on: the placement. The store has checked the node and frees what was held. A record that is
// older than the incarnation of the store can have had epochs that the store has lost: its next one is above all of those.
func (r *Record) Lose(l Loss, incarnation, now time.Time) error {
	if r.Ended() || !r.Placed() || r.Placement.Node != l.Node || r.Placement.Epoch != l.Epoch {
		return ErrStale(r.ID)
	}
	now = now.UTC().Truncate(time.Microsecond)
	over := r.Over() && r.Observed.Epoch == l.Epoch
	started := r.Observed.Started && r.Observed.Epoch == l.Epoch
	r.Placement = Placement{Epoch: l.Epoch + 1}
	if r.CreatedAt.Before(incarnation) {
		r.Placement.Epoch = max(r.Placement.Epoch, uint64(incarnation.UnixMicro()))
	}
	if over {
		r.Observed.Epoch, r.Observed.Generation, r.Observed.Addresses = r.Placement.Epoch, r.Intent.Generation, Addresses{}
	}
	switch {
	case r.Gone():
		r.EndedAt = now
	case over:
	case r.Spec.Replace:
		if r.Intent.Desired == DesiredPaused {
			r.Intent.Desired = DesiredRunning
			r.Intent.Generation++
		}
		r.Observed = Observed{At: now}
		if now.Before(incarnation) {
			r.Observed.At = incarnation.UTC() // it waits since then, whatever the clock says; see Predates
		}
	default:
		r.Observed = Observed{
			State: StateFailed, Reason: ReasonNodeLost, Message: "node " + l.Node + " was lost, and the sandbox with it",
			Generation: r.Intent.Generation, Epoch: r.Placement.Epoch, Started: started, At: now,
		}
		if !started {
			r.RetainUntil = now.Add(l.RetainFor)
		}
	}
	return nil
}

// Observe takes in what an agent saw. Depends on: the node, its epoch, a generation that does not go back, and neither a failed
// create nor the end before it; for a create that has failed, on that it never was Running. The store has checked the session.
func (r *Record) Observe(rep Report, now time.Time) error {
	switch {
	case r.Ended() || !r.Placed() || r.Placement.Node != rep.Node || r.Placement.Epoch != rep.Epoch:
		return ErrStale(r.ID)
	case r.FailedCreate():
		return ErrStale(r.ID)
	case rep.Generation < r.Observed.Generation && r.Observed.Epoch == rep.Epoch, rep.Generation > r.Intent.Generation:
		return ErrStale(r.ID)
	case r.Observed.Epoch == rep.Epoch && r.Over() && rep.State != r.Observed.State:
		// An entry point that has ended stays ended: containers are never started a second time.
		return ErrStale(r.ID)
	case r.Observed.Epoch == rep.Epoch && rep.State == StatePending && r.Observed.State != "" && r.Observed.State != StatePending:
		// What has been more than Pending is never Pending again in the same epoch.
		return ErrStale(r.ID)
	case rep.OfCreate && r.StartedIn(rep.Epoch):
		// Judged by what a store that went back had said, before a sighting brought the record forward: the sandbox runs.
		return ErrStale(r.ID)
	}
	now = now.UTC().Truncate(time.Microsecond)
	next := Observed{
		State: rep.State, Reason: rep.Reason, Message: rep.Message, Generation: rep.Generation, Epoch: rep.Epoch,
		Session: rep.Session, ExitCode: rep.ExitCode, Addresses: rep.Addresses, At: now,
		Started: rep.Started || rep.State == StateRunning || (r.Observed.Epoch == rep.Epoch && r.Observed.Started),
	}
	if r.Observed.Epoch == rep.Epoch {
		if next.State == r.Observed.State && !r.Observed.At.IsZero() {
			next.At = r.Observed.At
		}
		if rep.Addresses.ContainerIP == "" && rep.Addresses.Ports == nil {
			next.Addresses = r.Observed.Addresses
		}
	}
	r.Observed = next
	if r.FailedCreate() {
		r.Observed.Generation = r.Intent.Generation
		r.RetainUntil = now.Add(rep.RetainFor)
	}
	return nil
}

// HoldsReservation reports whether the sandbox still counts for its node's processor and memory: an entry point that has ended
// frees both, while ports and the count stay taken until the container is removed.
func (r *Record) HoldsReservation() bool {
	return r.Placed() && !(r.Observed.Epoch == r.Placement.Epoch && r.Over())
}

// SwapPort replaces the lease of a container port. Depends on: the node and its epoch, not started yet, and old being the present
// lease.
func (r *Record) SwapPort(s PortSwap, fresh int) error {
	if r.Ended() || !r.Placed() || r.Placement.Node != s.Node || r.Placement.Epoch != s.Epoch || r.Placement.Ports[s.ContainerPort] != s.Taken {
		return ErrStale(r.ID)
	}
	if r.Observed.Started && r.Observed.Epoch == s.Epoch {
		return ErrStale(r.ID)
	}
	ports := maps.Clone(r.Placement.Ports)
	ports[s.ContainerPort] = fresh
	r.Placement.Ports = ports
	return nil
}

// Clean notes that the agent has removed all that it made for epoch, and ends the record if it is Gone. It reports whether the
// record changed; an older epoch changes nothing here, although the store frees what that epoch held.
func (r *Record) Clean(node string, epoch uint64, now time.Time) bool {
	if r.Ended() || r.Placement.Node != node || r.Placement.Epoch != epoch || r.Placement.Released {
		return false
	}
	if !r.Gone() && !r.FailedCreate() {
		return false
	}
	r.Placement.Released = true
	r.Placement.Ports = nil
	if r.Gone() {
		r.EndedAt = now.UTC().Truncate(time.Microsecond)
	}
	return true
}
