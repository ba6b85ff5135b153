package sandbox

import (
	"context"
	"slices"
	"time"

	"opensandbox/libs/fault"
)

// This file is about a store that was lost, restored from a backup, or failed over to an older state. Who notices says so by Recover; from
// then on nothing ends that only the store's word condemns, until the agents have said by Sight what there really is.

// Mark tells how far a store has come.
type Mark struct {
	// Incarnation is when the store was made or last recovered.
	Incarnation time.Time `json:"incarnation"`
	// Changes counts the steps that wrote something. It may rise by more than one.
	Changes uint64 `json:"changes"`
}

// Behind reports whether a store with this mark is another than the one that once showed known, or an older state of it. The zero mark knows
// nothing, and nothing is behind it.
func (m Mark) Behind(known Mark) bool {
	if known == (Mark{}) {
		return false
	}
	return !m.Incarnation.Equal(known.Incarnation) || m.Changes < known.Changes
}

// Reaches reports whether a store that shows this mark has come as far as known, or has been recovered since. Answers of a store may arrive
// out of order; of two marks the one that reaches the other is later.
func (m Mark) Reaches(known Mark) bool {
	return m.Incarnation.After(known.Incarnation) || (m.Incarnation.Equal(known.Incarnation) && m.Changes >= known.Changes)
}

// Recovery is a store's mark and how far its last recovery has come.
type Recovery struct {
	Mark Mark `json:"mark"`
	// Since is when the recovery began that is going on; zero: none is.
	Since time.Time `json:"since,omitzero"`
	// Unreported are the nodes, sorted, that have not said yet what they have. Nodes that are away may stay here when the recovery is over.
	Unreported []string `json:"unreported,omitempty"`
}

// Times of a recovery.
const (
	// RecoverFor is how long a recovery takes at least: an agent that lives looks at the store several times meanwhile.
	RecoverFor = 15 * time.Second
	// RecoverAtMost is how long it waits for a node that is live and does not report.
	RecoverAtMost = 60 * time.Second
	// RecoveredLife is what is left at least of the life of a sandbox that is seen in a recovery.
	RecoveredLife = 60 * time.Second
)

// Claim says that a store is behind.
type Claim struct {
	// Known is the mark that the store has shown earlier.
	Known Mark
	// Node is the node of the agent that says so; empty for another process.
	Node string
	// Unknown says that the node has a container which is older than the store and which the store does not know: the node is heard again,
	// also if the store is not behind.
	Unknown bool
}

// Going reports whether a recovery is going on.
func (r *Recovery) Going() bool { return !r.Since.IsZero() }

// Awaits reports whether a node has not yet said what it has.
func (r *Recovery) Awaits(node string) bool { return slices.Contains(r.Unreported, node) }

// Claim begins a recovery if the store is behind what the claim knows, with a new incarnation; nodes are all that the store knows of. One
// that is going on already takes the claim in: a recovery that the claimant has not seen needs no other. It reports whether it changed
// anything.
func (r *Recovery) Claim(c Claim, nodes []string, now time.Time) bool {
	behind := r.Mark.Behind(c.Known)
	if !behind && (!c.Unknown || c.Node == "") {
		return false
	}
	if behind && (!r.Going() || !r.Mark.Incarnation.After(c.Known.Incarnation)) {
		now = now.UTC().Truncate(time.Microsecond)
		r.Since = now
		for _, earlier := range []time.Time{r.Mark.Incarnation, c.Known.Incarnation} {
			if !now.After(earlier) {
				now = earlier.Add(time.Microsecond)
			}
		}
		r.Mark.Incarnation = now
		r.await(nodes...)
	}
	if c.Node != "" {
		r.await(c.Node)
	}
	r.Mark.Changes = max(r.Mark.Changes, c.Known.Changes) + 1
	return true
}

func (r *Recovery) await(nodes ...string) {
	r.Unreported = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(r.Unreported), nodes...))))
}

// Reported notes that a node has said all that it has.
func (r *Recovery) Reported(node string) {
	r.Unreported = slices.DeleteFunc(slices.Clone(r.Unreported), func(n string) bool { return n == node })
}

// Settle ends the recovery if it is time to; live says of a node whether its agent is alive. It reports whether it did.
func (r *Recovery) Settle(live func(node string) bool, now time.Time) bool {
	switch age := now.Sub(r.Since); {
	case !r.Going(), age >= 0 && age < RecoverFor: // a clock that was set back must not make it endless
		return false
	case age < RecoverAtMost && slices.ContainsFunc(r.Unreported, live):
		return false
	}
	r.Since = time.Time{}
	return true
}

// Wire codes of steps that a store refuses because its own word is not enough.
const (
	// CodeRecovering: the store is being recovered.
	CodeRecovering = "STORE::RECOVERING"
	// CodeWentBack: the store is behind what the caller has seen of it; see WithMark.
	CodeWentBack = "STORE::WENT_BACK"
)

// MayEnd returns nil if what the store says may end a sandbox or move it: no recovery is going on, and the store is not behind what the caller
// has seen of it. Otherwise it returns fault.Unavailable with one of the codes above.
func (r *Recovery) MayEnd(ctx context.Context) error {
	if r.Going() {
		return fault.New(fault.Unavailable, "the store is being recovered").WithCode(CodeRecovering)
	}
	return r.Current(ctx)
}

// Current is MayEnd for what goes on during a recovery: placements, registrations and the renewals of leases.
func (r *Recovery) Current(ctx context.Context) error {
	if r.Mark.Behind(MarkOf(ctx)) {
		return fault.New(fault.Unavailable, "the store has gone back to an older state").WithCode(CodeWentBack)
	}
	return nil
}

// MayFail is MayEnd for a record that waits for a node. One that waits since before the recovery may have a container.
func (r *Recovery) MayFail(ctx context.Context, waiting *Record) error {
	if waiting.Predates(r.Mark.Incarnation) {
		return r.MayEnd(ctx)
	}
	return r.Current(ctx)
}

type markKey struct{}

// WithMark returns ctx with the highest mark that the caller has seen of the store. Place, FailUnplaced, Lose, ExpireDue and Purge are refused
// under it, in the step itself, by a store that is behind, and so are the registration of a node and the renewal of its lease: looking first would leave a
// moment in which the store can go back.
func WithMark(ctx context.Context, known Mark) context.Context {
	return context.WithValue(ctx, markKey{}, known)
}

// MarkOf returns what WithMark was given, or the zero mark.
func MarkOf(ctx context.Context) Mark {
	m, _ := ctx.Value(markKey{}).(Mark)
	return m
}

// Predates reports whether the record waits for its first Running since before an incarnation of the store: what became of that wait is not
// known, so it is not placed or made again.
func (r *Record) Predates(incarnation time.Time) bool {
	since := r.CreatedAt
	if again := r.Placement.Epoch > 1 || (r.Placement.Node == "" && r.Placement.Epoch > 0); again && r.Observed.At.After(since) {
		since = r.Observed.At // its node was lost, and it waits for another since then
	}
	return since.Before(incarnation) && !r.StartedIn(r.Placement.Epoch)
}

// NotBefore moves the creation of a new record to the incarnation of its store: no record is older than its store, also if the clock was set
// back.
func (r *Record) NotBefore(incarnation time.Time) {
	if r.CreatedAt.Before(incarnation) {
		r.CreatedAt = incarnation.UTC()
	}
}

// StartedIn reports whether the sandbox has been Running in an epoch.
func (r *Record) StartedIn(epoch uint64) bool { return r.Observed.Started && r.Observed.Epoch == epoch }

// RecoveredMessage is the text of a create that has failed with ReasonStoreRecovered.
const RecoveredMessage = "the store was lost or went back while the sandbox was being created; create it again"

// Sighting is a container that an agent has, with what it knows of the record that belongs to it.
type Sighting struct {
	ID             ID
	Node           string
	Epoch, Session uint64
	Tenant         string
	CreatedAt      time.Time
	Spec           Spec
	// Intent is the last one that the agent has noted. Without a note it is Running, generation 1, with the first deadline.
	Intent Intent
	// Version is that of the record when Intent was noted; 0: it was not.
	Version uint64
	// Ports and Reserved are what the placement holds.
	Ports    map[int]int
	Reserved Resources
	// Started says that the container has been started. A create that has not come so far has failed. Ran says that it was noted as Running;
	// without that the agent finds out whether it is.
	Started, Ran bool
	// Paused says that its processes are frozen.
	Paused    bool
	Addresses Addresses
	// RetainFor is how long a failed create is shown, from now on.
	RetainFor time.Duration
}

// SightedRecord returns the record of a sandbox that the store does not know.
func SightedRecord(s Sighting, now time.Time) Record {
	r := Record{ID: s.ID, Tenant: s.Tenant, CreatedAt: s.CreatedAt.UTC().Truncate(time.Microsecond), Spec: s.Spec, Version: 1}
	r.Intent = Intent{Desired: DesiredRunning, Generation: 1, Accepted: true, ExpiresAt: s.Intent.ExpiresAt, Metadata: s.Intent.Metadata}
	s.Version = max(s.Version, 1)
	s.apply(&r, true, now)
	r.Version = 1
	return r
}

// Sight takes in a container of a record that the store has. A record that has ended or is of a newer epoch stays as it is; so does one that
// is Gone, a failed create, or runs elsewhere, under the same epoch. Otherwise what the sighting knows better goes over to the record; what is
// Gone or a failed create stays that.
func (r *Record) Sight(s Sighting, now time.Time) {
	same := s.Epoch == r.Placement.Epoch
	switch {
	case r.Ended() || s.Epoch < r.Placement.Epoch:
		return
	case same && (r.Gone() || r.FailedCreate()):
		return
	case same && r.Placement.Node != s.Node && r.StartedIn(s.Epoch):
		return
	}
	s.apply(r, !same || r.Placement.Node != s.Node, now)
}

// apply brings a record forward to what was seen. moved says that the placement is another than the record's.
func (s *Sighting) apply(r *Record, moved bool, now time.Time) {
	now = now.UTC().Truncate(time.Microsecond)
	failed := r.FailedCreate()
	if s.Version > r.Version || moved {
		s.intend(r)
	}
	// Of two deadlines the later one holds, whatever the versions: the record may have been changed since the store went back.
	if noted := s.Intent.ExpiresAt; s.Version > 0 && !r.Intent.ExpiresAt.IsZero() && noted.After(r.Intent.ExpiresAt) {
		r.Intent.ExpiresAt = noted.UTC().Truncate(time.Microsecond)
	}
	if soon := now.Add(RecoveredLife); !r.Intent.ExpiresAt.IsZero() && r.Intent.ExpiresAt.Before(soon) {
		r.Intent.ExpiresAt = soon
	}
	if moved {
		r.Placement = Placement{Node: s.Node, Epoch: s.Epoch, Ports: s.Ports, Reserved: s.Reserved}
		if failed { // for good: it is placed so that its node removes what it has
			r.Observed.Epoch, r.Observed.Generation = s.Epoch, r.Intent.Generation
			return
		}
		r.Observed, r.RetainUntil = Observed{}, time.Time{}
	}
	switch {
	case r.StartedIn(r.Placement.Epoch), s.Started && !s.Ran:
		// What has changed since, the agent finds when it compares. A create that is on its way it brings to its end.
	case s.Ran:
		r.Observed = s.observed(r, now)
	case !r.Gone():
		r.Observed = Observed{State: StateFailed, Reason: ReasonStoreRecovered, Message: RecoveredMessage,
			Generation: r.Intent.Generation, Epoch: s.Epoch, Session: s.Session, At: now}
		r.RetainUntil = now.Add(s.RetainFor)
	}
}

// intend takes over the intent that the agent has noted, but for the deadline.
func (s *Sighting) intend(r *Record) {
	if s.Version == 0 || r.Gone() {
		return
	}
	if s.Intent.Generation > r.Intent.Generation || s.Intent.Desired == DesiredGone {
		r.Intent.Desired, r.Intent.Reason = s.Intent.Desired, s.Intent.Reason
		r.Intent.Generation = max(s.Intent.Generation, r.Intent.Generation)
		if r.Gone() && r.Intent.Reason == "" {
			r.Intent.Reason = ReasonDeleted
		}
	}
	r.Intent.Metadata = s.Intent.Metadata
}

// observed is what was seen of a container that has been started.
func (s *Sighting) observed(r *Record, now time.Time) Observed {
	o := Observed{State: StateRunning, Reason: ReasonRunning, Generation: r.Intent.Generation, Epoch: s.Epoch, Session: s.Session,
		Started: true, Addresses: s.Addresses, At: now}
	reached := DesiredRunning
	if s.Paused {
		o.State, o.Reason, reached = StatePaused, ReasonPaused, DesiredPaused
	}
	if r.Intent.Desired != reached {
		o.Generation-- // generations begin with 1
	}
	return o
}

// Recoveries is how a store is brought up to what really is after it was lost or went back. Every method is one guarded step of the store.
type Recoveries interface {
	// Recovery returns the mark and the state of the last recovery. A store that has lost even its mark shows the zero incarnation.
	Recovery(ctx context.Context) (Recovery, error)
	// GetWithRecovery is Get and then Recovery, in one round trip.
	GetWithRecovery(ctx context.Context, id ID) (Record, Recovery, error)
	// Recover takes in a claim; see Recovery.Claim. A claim that is not behind changes nothing. When a recovery begins, a lease that has run out
	// counts as one that runs out now: how long its node has really been away is not known.
	Recover(ctx context.Context, c Claim) (Recovery, error)
	// Sight takes in a container of a node that has not reported yet: its record is made if it is missing, else brought forward; see
	// Record.Sight. ErrStale when the session is not the present one, or the node has reported.
	Sight(ctx context.Context, s Sighting) (Record, error)
	// Reported says that the agent of a node has sighted all that it has. ErrStale when the session is not the present one.
	Reported(ctx context.Context, node string, session uint64) (Recovery, error)
	// Settle ends the recovery if it is time to; see Recovery.Settle.
	Settle(ctx context.Context) (Recovery, error)
	// CallRoll gives a hint to TopicRollCall. It changes nothing.
	CallRoll(ctx context.Context) error
}
