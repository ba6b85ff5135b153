// Package usecase is what clients can do with sandboxes. It writes intents, waits for what agents report, and turns the outcome into
// an answer; it never talks to an engine.
package usecase

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Store is what the use cases need of the store.
type Store interface {
	sandbox.Intents
	sandbox.Queries
}

// Waiter waits for a record to reach a condition.
type Waiter interface {
	// Await calls done with the record, at once and after each change, until it is true, and returns that record. reached is false
	// when the time-out or a drain came first; the record is then the last one read. An error means that the record could not be
	// read, for an error of the kind fault.Unavailable not until the wait was over, or that ctx ended.
	Await(ctx context.Context, id sandbox.ID, timeout time.Duration, done func(*sandbox.Record) bool) (r sandbox.Record, reached bool, err error)
}

// Config of the use cases.
type Config struct {
	// CreateWait is how long a create waits for Running. It must stay under the 30 s that published clients wait.
	CreateWait time.Duration
	// ChangeWait is how long delete, pause and resume wait for the agent.
	ChangeWait time.Duration
	// AddressWait is how long an endpoint look-up waits for a sandbox that has no address yet.
	AddressWait time.Duration
	// MaxTimeout bounds the timeout of a create; 0 means no bound. Renewals are not bounded, as in OpenSandbox 1.1.1.
	MaxTimeout time.Duration
	// PublicHost is where clients reach published ports of nodes that have no host of their own.
	PublicHost string
	// External is the name of the server at which clients reach sandboxes through it, perhaps with a path; empty: the one that they used.
	External string
	// AllowedRuntimes are the isolation runtimes that a create may ask for.
	AllowedRuntimes []string
	// AllowedHostPaths are the directories of nodes below which a create may mount something.
	AllowedHostPaths []string
}

// Vault keeps what must not be readable in a store.
type Vault interface {
	// Seal encrypts a secret of a sandbox for the agents of the installation.
	Seal(id sandbox.ID, clear []byte) ([]byte, error)
	// Digest maps a text to one that tells nothing about it; equal texts give equal digests.
	Digest(text string) string
}

// Deps are the ports.
type Deps struct {
	Store  Store
	Waiter Waiter
	// Token returns the access token of an incarnation.
	Token func(id sandbox.ID, epoch uint64) string
	// NewID returns a new id; nil takes random UUIDs.
	NewID func() sandbox.ID
	// Reachability tells whether the node of a sandbox answers; nil means that it always does.
	Reachability func(ctx context.Context, nodeName string) sandbox.Reachability
	// Host returns where clients reach the leased ports of a node, or "" for PublicHost; nil means PublicHost for all. fault.Unavailable
	// when that is not known: an address on the wrong machine could be that of another sandbox.
	Host func(ctx context.Context, nodeName string) (string, error)
	// Origin returns the request that a context belongs to, which the records that it changes carry on; nil: none.
	Origin func(ctx context.Context) sandbox.Origin
	// Vault seals the credentials that creates bring; nil: they are refused.
	Vault Vault
	// Live looks at what engines have; nil when this server cannot.
	Live Live
	Log  *slog.Logger
}

// UseCases are safe for concurrent use.
type UseCases struct {
	cfg  Config
	deps Deps
}

// New returns the use cases.
func New(cfg Config, deps Deps) *UseCases {
	if deps.NewID == nil {
		deps.NewID = newID
	}
	if deps.Reachability == nil {
		deps.Reachability = func(context.Context, string) sandbox.Reachability { return sandbox.Reachable }
	}
	if deps.Host == nil {
		deps.Host = func(context.Context, string) (string, error) { return "", nil }
	}
	if deps.Origin == nil {
		deps.Origin = func(context.Context) sandbox.Origin { return sandbox.Origin{} }
	}
	return &UseCases{cfg: cfg, deps: deps}
}

// traced returns the context of a change of what is desired: the work for it belongs to the request.
func (u *UseCases) traced(ctx context.Context) context.Context {
	return sandbox.WithOrigin(ctx, u.deps.Origin(ctx))
}

// Ref names a sandbox for a tenant.
type Ref struct {
	Tenant string
	ID     sandbox.ID
}

// View is a record with the status that clients see.
type View struct {
	Record sandbox.Record
	Status sandbox.Status
	// Replayed says that an earlier create with the same key made the sandbox.
	Replayed bool
}

// Page is one page of a list.
type Page struct {
	Items                 []View
	Page, PageSize, Total int
}

func (u *UseCases) view(ctx context.Context, r sandbox.Record) View {
	reach := sandbox.Reachable
	if r.Placement.Node != "" {
		reach = u.deps.Reachability(ctx, r.Placement.Node)
	}
	return View{Record: r, Status: sandbox.View(&r, reach)}
}

// find returns a record that the tenant may see.
func (u *UseCases) find(ctx context.Context, ref Ref) (sandbox.Record, error) {
	r, err := u.deps.Store.Get(ctx, ref.ID)
	if err != nil {
		return sandbox.Record{}, err
	}
	if r.Tenant != ref.Tenant || !r.Visible() {
		return sandbox.Record{}, sandbox.ErrNotFound(ref.ID)
	}
	return r, nil
}

// Get returns one sandbox. fault.NotFound when there is none for the tenant.
func (u *UseCases) Get(ctx context.Context, ref Ref) (View, error) {
	r, err := u.find(ctx, ref)
	if err != nil {
		return View{}, err
	}
	return u.view(ctx, r), nil
}

// ListRequest selects sandboxes. Page counts from 1.
type ListRequest struct {
	Tenant         string
	States         []sandbox.State
	Metadata       map[string]string
	Page, PageSize int
}

// List returns a page of sandboxes, newest first.
func (u *UseCases) List(ctx context.Context, req ListRequest) (Page, error) {
	got, err := u.deps.Store.List(ctx, sandbox.Query{
		Tenant: req.Tenant, States: req.States, Metadata: req.Metadata,
		Offset: (req.Page - 1) * req.PageSize, Limit: req.PageSize,
	})
	if err != nil {
		return Page{}, err
	}
	p := Page{Page: req.Page, PageSize: req.PageSize, Total: got.Total, Items: make([]View, 0, len(got.Items))}
	for _, r := range got.Items {
		p.Items = append(p.Items, u.view(ctx, r))
	}
	return p, nil
}

// RenewRequest moves a deadline.
type RenewRequest struct {
	Ref
	ExpiresAt time.Time
}

// Renew moves the deadline, forwards or backwards, and returns it.
func (u *UseCases) Renew(ctx context.Context, req RenewRequest) (time.Time, error) {
	r, err := u.deps.Store.Renew(ctx, req.ID, req.Tenant, req.ExpiresAt)
	if err != nil {
		return time.Time{}, u.refused(ctx, req.Ref, err)
	}
	return r.Intent.ExpiresAt, nil
}

// refused returns what to answer when the store refused a change: a sandbox that the tenant does not see is not found, whatever was in
// the way. Only what failed costs this second look.
func (u *UseCases) refused(ctx context.Context, ref Ref, err error) error {
	if !sandbox.IsStopping(err) {
		return err
	}
	if _, unseen := u.find(ctx, ref); unseen != nil {
		return unseen
	}
	return err
}

// PatchRequest changes metadata; a nil value removes a key.
type PatchRequest struct {
	Ref
	Patch map[string]*string
}

// PatchMetadata merges a patch into the metadata.
func (u *UseCases) PatchMetadata(ctx context.Context, req PatchRequest) (View, error) {
	if err := sandbox.CheckMetadataPatch(req.Patch); err != nil {
		return View{}, err
	}
	r, err := u.deps.Store.PatchMetadata(ctx, req.ID, req.Tenant, req.Patch)
	if err != nil {
		return View{}, u.refused(ctx, req.Ref, err)
	}
	return u.view(ctx, r), nil
}

// newID returns a random UUID, version 4 (RFC 9562), in lower case.
func newID() sandbox.ID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return sandbox.ID(fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:]))
}

func unavailable(text string) *fault.Error {
	return fault.New(fault.Unavailable, text).RetryAfter(time.Second)
}

// unknown is the answer when the store went away in the middle of a change: whether it was made, or went on, cannot be said. The code of
// the store's own error stays.
func unknown(err error, text string) *fault.Error {
	if fault.CodeOf(err) == sandbox.CodeStoreFull { // that one can be said
		text = fault.TextOf(err)
	}
	return unavailable(text).WithCode(fault.CodeOf(err)).Because(err)
}
