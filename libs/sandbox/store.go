package sandbox

import (
	"context"
	"time"
)

// New is a create: everything that a record starts with.
type New struct {
	ID       ID
	Tenant   string
	Spec     Spec
	Metadata map[string]string
	// Accepted is true when the client gets the id without waiting.
	Accepted bool
	// Key, if it is set, makes repeated creates give one record.
	Key Key
	// Secret are the sealed credentials of the image's registry, for a Spec that is Private; nil: none. It is kept beside the record.
	Secret []byte
}

// Usage is what is held on a node.
type Usage struct {
	// Count is the number of placed sandboxes, as Candidate.MaxSandboxes bounds it.
	Count int
	// Reserved is the sum of the reservations that still hold.
	Reserved Resources
}

// Failure is why no node was found.
type Failure struct {
	Reason, Message string
	// RetainFor is how long the failed record is shown to a client that holds its id.
	RetainFor time.Duration
}

// Candidate is a node that the scheduler would choose, with the limits that the store checks again while it reserves.
// A zero limit means none.
type Candidate struct {
	Node     string
	Capacity Resources
	// MaxSandboxes bounds the number of placed sandboxes.
	MaxSandboxes int
	// PortMin and PortMax bound the leased ports, both inclusive.
	PortMin, PortMax int
}

// PlaceRequest asks for the first candidate that fits.
type PlaceRequest struct {
	ID         ID
	Candidates []Candidate
	// Ports are the container ports that need a port of the node.
	Ports []int
	// Reserve is taken from the node's capacity.
	Reserve Resources
	// Seen, if not nil, is the record as the caller has read it. It decides nothing; it can spare the store reading it once more.
	Seen *Record
}

// Report is what an agent saw of a sandbox.
type Report struct {
	ID      ID
	Node    string
	Epoch   uint64
	Session uint64
	// Generation is the one that the agent has finished with; a progress message repeats the last one.
	Generation uint64
	State      State
	Reason     string
	Message    string
	// Seen is as in PlaceRequest.
	Seen *Record
	// Started says that the entry point has run, for an end that came before anyone saw it running.
	Started bool
	// OfCreate says that it is the create that has failed. Such a report is refused when the sandbox has been Running in the epoch.
	OfCreate bool
	ExitCode *int
	// Addresses, if empty, leave the known ones.
	Addresses Addresses
	// RetainFor is how long a failed create is shown, from now on.
	RetainFor time.Duration
}

// PortSwap asks for another port of the node in place of one that turned out to be taken by somebody else.
type PortSwap struct {
	ID            ID
	Node          string
	Epoch         uint64
	Session       uint64
	ContainerPort int
	// Taken is the leased port that could not be bound. It is not leased again for PortQuarantine.
	Taken int
	// PortMin and PortMax bound the new port, both inclusive.
	PortMin, PortMax int
}

// PortQuarantine is how long a port that somebody else has bound is not leased.
const PortQuarantine = 10 * time.Minute

// Cleaned says that an agent has removed all that it made for one epoch of a sandbox.
type Cleaned struct {
	ID      ID
	Node    string
	Epoch   uint64
	Session uint64
}

// Query selects records for a list. Order: newest first, then by id descending.
type Query struct {
	Tenant string
	// States, if not empty, are alternatives.
	States []State
	// Metadata must all match.
	Metadata map[string]string
	// Offset and Limit select the page; Limit is 1 or more.
	Offset, Limit int
}

// Page is one page of a list.
type Page struct {
	Items []Record
	// Total counts all records that match.
	Total int
}

// Intents is how the api changes what shall be. Every method is one guarded step of the store, takes effect wholly or not at
// all, and may be called concurrently from any number of processes. Unknown ids give ErrNotFound.
type Intents interface {
	// Insert adds a record at the store's time. fault.Conflict when the id exists. If n.Key leads to a record (see Repeats), nothing
	// is added and that record is returned: its id is not n.ID. ErrKeyReused and ErrKeySpent for a key that cannot be used.
	Insert(ctx context.Context, n New) (Record, error)
	// Accept notes that a client is about to get the id. ErrStopping if the record is Gone or a failed create.
	Accept(ctx context.Context, id ID) (Record, error)
	// SetDesired sets Running or Paused. ErrStopping if Gone or over, ErrStale if the generation is another.
	SetDesired(ctx context.Context, id ID, d Desired, ifGeneration uint64) (Record, error)
	// SetGone sets Gone, or leaves it; a record that holds nothing is ended. It never fails on a record that exists.
	SetGone(ctx context.Context, id ID, reason string) (Record, error)
	// Renew moves the deadline to at. ErrNotFound also for the record of another tenant; AnyTenant has them all.
	Renew(ctx context.Context, id ID, tenant string, at time.Time) (Record, error)
	// Extend moves the deadline of a record of whatever tenant to at, but never to an earlier time: a renewal that came in between holds.
	Extend(ctx context.Context, id ID, at time.Time) (Record, error)
	// PatchMetadata merges; nil removes a key. Tenants are looked at as by Renew.
	PatchMetadata(ctx context.Context, id ID, tenant string, patch map[string]*string) (Record, error)
}

// Losses is how the scheduler gives up sandboxes whose node does not come back.
type Losses interface {
	// Lose takes a sandbox from its node, raises the epoch and frees what it held there, all in one step; see Record.Lose for what
	// becomes of it. ErrStale when the placement is another, or when the node's lease is running or is another one than l.LeaseUntil,
	// unless the node has been removed.
	// fault.Unavailable while the store is being recovered; see Recovery.MayEnd.
	Lose(ctx context.Context, l Loss) (Record, error)
}

// Loss says which placement is lost.
type Loss struct {
	ID    ID
	Node  string
	Epoch uint64
	// LeaseUntil is the end of the node's lease that was found to be over for too long. A node that has renewed since then, even for a short
	// time, keeps its sandboxes. It does not matter for a removed node.
	LeaseUntil time.Time
	// RetainFor is how long a failed create is shown, from now on.
	RetainFor time.Duration
}

// Placements is how the scheduler gives sandboxes to nodes.
type Placements interface {
	// Unplaced returns up to max records that need a node, oldest first.
	Unplaced(ctx context.Context, max int) ([]Record, error)
	// CountUnplaced returns how many records need a node, without reading them.
	CountUnplaced(ctx context.Context) (int, error)
	// Usage returns what is held on each node, by name; a node that is missing holds nothing. It helps to choose candidates and decides
	// nothing: Place checks again.
	Usage(ctx context.Context) (map[string]Usage, error)
	// Place reserves amounts and ports on the first candidate that fits and gives the sandbox to it, all in one step. Candidates
	// that are unknown, draining or without a live lease do not fit. ErrStale if the record is not unplaced; fault.Unavailable
	// with ReasonNoCapacity as code when nothing fits, with a text that says what was short. A record that predates the incarnation of the
	// store is stale, too. fault.Unavailable also when the store is behind; see WithMark.
	Place(ctx context.Context, p PlaceRequest) (Record, error)
	// FailUnplaced gives up. ErrStale if the record is not unplaced; fault.Unavailable if the store is behind, or the record waits since before
	// a recovery that goes on.
	FailUnplaced(ctx context.Context, id ID, f Failure) (Record, error)
}

// Deadlines is what makes sandboxes end in time, and what repairs the work of processes that died. ExpireDue and Purge give
// fault.Unavailable while the store is being recovered; see Recovery.MayEnd.
type Deadlines interface {
	// ExpireDue sets up to max records Gone(expired) that are due by the earlier of notAfter and the store's clock, and returns
	// them. Calling it twice, or from two places, is harmless.
	ExpireDue(ctx context.Context, notAfter time.Time, max int) ([]ID, error)
	// NextDeadline returns the earliest deadline of a record that is not Gone.
	NextDeadline(ctx context.Context) (at time.Time, ok bool, err error)
	// Attention returns up to max records whose AttentionAt has come by the store's clock, and the next such time (zero: none).
	Attention(ctx context.Context, max int) (due []Record, next time.Time, err error)
	// Purge forgets up to max ended records whose ForgetFrom is before the store's time minus age, and returns how many.
	Purge(ctx context.Context, age time.Duration, max int) (int, error)
}

// Task is a sandbox that the agent of its node has something to do for.
type Task struct {
	ID ID
	// Since grows whenever something else is asked for: a reader that has seen the record since it learned of this number has nothing new
	// to learn. It is not 0.
	Since uint64
}

// Observations is how the agent of a node learns what to do and says what it did. Methods that name a session give ErrStale when
// it is not the node's present one.
type Observations interface {
	// Work returns what up to max sandboxes on the node need work for, oldest change first.
	Work(ctx context.Context, node string, max int) ([]Task, error)
	// OnNode returns all records that are placed on the node and not released. Those that it can read come with an Unread error if there are
	// others: who must have all of them fails, and who compares leaves alone what belongs to the rest.
	OnNode(ctx context.Context, node string) ([]Record, error)
	// Report takes in what the agent saw.
	Report(ctx context.Context, r Report) (Record, error)
	// SwapPort leases another port. fault.Unavailable with ReasonNoCapacity as code when none is free.
	SwapPort(ctx context.Context, s PortSwap) (Record, error)
	// Cleaned frees all amounts and ports of (id, epoch), also of an older epoch, and ends the record if it is Gone and the epoch
	// is the present one. Repeating it, or naming an unknown id, is harmless.
	Cleaned(ctx context.Context, c Cleaned) error
	// Unmirrored returns up to max records of the node that changed since Mirrored was told their version.
	Unmirrored(ctx context.Context, node string, max int) ([]Record, error)
	// Mirrored notes that these versions have reached the node's disk.
	Mirrored(ctx context.Context, node string, versions map[ID]uint64) error
}

// Queries reads. Records are copies: callers may change them.
type Queries interface {
	// Get returns a record by id for the system, ended ones too. ErrNotFound otherwise.
	Get(ctx context.Context, id ID) (Record, error)
	// List returns visible records.
	List(ctx context.Context, q Query) (Page, error)
	// Incarnation returns when this store was made: what is older than it and has no record may belong to an earlier one.
	Incarnation(ctx context.Context) (time.Time, error)
	// Now returns the store's time.
	Now(ctx context.Context) (time.Time, error)
}

// Topic names what a hint is about.
type Topic string

// The topics that do not depend on a record or node.
const (
	// TopicPlacement: a record needs a node.
	TopicPlacement Topic = "placement"
	// TopicDeadline: the earliest deadline or attention time may have moved forward.
	TopicDeadline Topic = "deadline"
	// TopicRollCall: a scheduler has started, and does not know how far the store had come. Agents renew their lease at once, which shows that
	// the store is not behind what they know.
	TopicRollCall Topic = "roll call"
)

// RecordTopic is about the state of one sandbox. A new record, its first placement, renewals and metadata patches are not hinted.
func RecordTopic(id ID) Topic { return Topic("record:" + string(id)) }

// WorkTopic is about new work on a node.
func WorkTopic(node string) Topic { return Topic("work:" + node) }

// Hints tells that something may have changed. Hints are sent after the commit, are coalesced, and may be lost or spurious: a
// subscriber subscribes, then reads, and reads again from time to time without any hint.
type Hints interface {
	// Subscribe returns a channel that gets a value after a change of topic. cancel frees it and must be called.
	Subscribe(t Topic) (changed <-chan struct{}, cancel func())
}

// Store is all of it, for those who build or test a store.
type Store interface {
	Intents
	Placements
	Losses
	Deadlines
	Observations
	Secrets
	Queries
	Recoveries
	Hints
}
