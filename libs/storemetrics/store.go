package storemetrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Both is what every store of the platform implements.
type Both interface {
	sandbox.Store
	node.Registry
}

// Store is a measured store. It behaves as the one inside; what is added to the ports later passes through unmeasured.
type Store struct {
	*sandboxes
	*registry
}

var _ Both = Store{}

// New measures both ports of a store. reg and tracers may be nil.
func New(next Both, reg prometheus.Registerer, tracers trace.TracerProvider) (Store, error) {
	o, err := newObserver(reg, tracers)
	if err != nil {
		return Store{}, err
	}
	return Store{&sandboxes{next, o}, &registry{next, o}}, nil
}

// sandboxes is a measured sandbox.Store. Subscribe is not measured: it does not reach the store.
type sandboxes struct {
	sandbox.Store
	observe *observer
}

func (s *sandboxes) Insert(ctx context.Context, n sandbox.New) (sandbox.Record, error) {
	return read(ctx, s.observe, "insert", func(ctx context.Context) (sandbox.Record, error) { return s.Store.Insert(ctx, n) })
}

func (s *sandboxes) Accept(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return read(ctx, s.observe, "accept", func(ctx context.Context) (sandbox.Record, error) { return s.Store.Accept(ctx, id) })
}

func (s *sandboxes) SetDesired(ctx context.Context, id sandbox.ID, d sandbox.Desired, ifGeneration uint64) (sandbox.Record, error) {
	return read(ctx, s.observe, "set_desired", func(ctx context.Context) (sandbox.Record, error) { return s.Store.SetDesired(ctx, id, d, ifGeneration) })
}

func (s *sandboxes) SetGone(ctx context.Context, id sandbox.ID, reason string) (sandbox.Record, error) {
	return read(ctx, s.observe, "set_gone", func(ctx context.Context) (sandbox.Record, error) { return s.Store.SetGone(ctx, id, reason) })
}

func (s *sandboxes) Extend(ctx context.Context, id sandbox.ID, at time.Time) (sandbox.Record, error) {
	return read(ctx, s.observe, "extend", func(ctx context.Context) (sandbox.Record, error) { return s.Store.Extend(ctx, id, at) })
}

func (s *sandboxes) Renew(ctx context.Context, id sandbox.ID, tenant string, at time.Time) (sandbox.Record, error) {
	return read(ctx, s.observe, "renew", func(ctx context.Context) (sandbox.Record, error) { return s.Store.Renew(ctx, id, tenant, at) })
}

func (s *sandboxes) PatchMetadata(ctx context.Context, id sandbox.ID, tenant string, patch map[string]*string) (sandbox.Record, error) {
	return read(ctx, s.observe, "patch_metadata", func(ctx context.Context) (sandbox.Record, error) {
		return s.Store.PatchMetadata(ctx, id, tenant, patch)
	})
}

func (s *sandboxes) Unplaced(ctx context.Context, max int) ([]sandbox.Record, error) {
	return read(ctx, s.observe, "unplaced", func(ctx context.Context) ([]sandbox.Record, error) { return s.Store.Unplaced(ctx, max) })
}

func (s *sandboxes) CountUnplaced(ctx context.Context) (int, error) {
	return read(ctx, s.observe, "count_unplaced", s.Store.CountUnplaced)
}

func (s *sandboxes) Usage(ctx context.Context) (map[string]sandbox.Usage, error) {
	return read(ctx, s.observe, "usage", s.Store.Usage)
}

func (s *sandboxes) Place(ctx context.Context, p sandbox.PlaceRequest) (sandbox.Record, error) {
	return read(ctx, s.observe, "place", func(ctx context.Context) (sandbox.Record, error) { return s.Store.Place(ctx, p) })
}

func (s *sandboxes) FailUnplaced(ctx context.Context, id sandbox.ID, f sandbox.Failure) (sandbox.Record, error) {
	return read(ctx, s.observe, "fail_unplaced", func(ctx context.Context) (sandbox.Record, error) { return s.Store.FailUnplaced(ctx, id, f) })
}

func (s *sandboxes) Lose(ctx context.Context, l sandbox.Loss) (sandbox.Record, error) {
	return read(ctx, s.observe, "lose", func(ctx context.Context) (sandbox.Record, error) { return s.Store.Lose(ctx, l) })
}

func (s *sandboxes) ExpireDue(ctx context.Context, notAfter time.Time, max int) ([]sandbox.ID, error) {
	return read(ctx, s.observe, "expire_due", func(ctx context.Context) ([]sandbox.ID, error) { return s.Store.ExpireDue(ctx, notAfter, max) })
}

func (s *sandboxes) NextDeadline(ctx context.Context) (at time.Time, ok bool, err error) {
	err = call(ctx, s.observe, "next_deadline", func(ctx context.Context) error {
		at, ok, err = s.Store.NextDeadline(ctx)
		return err
	})
	return at, ok, err
}

func (s *sandboxes) Attention(ctx context.Context, max int) (due []sandbox.Record, next time.Time, err error) {
	err = call(ctx, s.observe, "attention", func(ctx context.Context) error {
		due, next, err = s.Store.Attention(ctx, max)
		return err
	})
	return due, next, err
}

func (s *sandboxes) Purge(ctx context.Context, age time.Duration, max int) (int, error) {
	return read(ctx, s.observe, "purge", func(ctx context.Context) (int, error) { return s.Store.Purge(ctx, age, max) })
}

func (s *sandboxes) Work(ctx context.Context, node string, max int) ([]sandbox.Task, error) {
	return read(ctx, s.observe, "work", func(ctx context.Context) ([]sandbox.Task, error) { return s.Store.Work(ctx, node, max) })
}

func (s *sandboxes) OnNode(ctx context.Context, node string) ([]sandbox.Record, error) {
	return read(ctx, s.observe, "on_node", func(ctx context.Context) ([]sandbox.Record, error) { return s.Store.OnNode(ctx, node) })
}

func (s *sandboxes) Report(ctx context.Context, r sandbox.Report) (sandbox.Record, error) {
	return read(ctx, s.observe, "report", func(ctx context.Context) (sandbox.Record, error) { return s.Store.Report(ctx, r) })
}

func (s *sandboxes) SwapPort(ctx context.Context, p sandbox.PortSwap) (sandbox.Record, error) {
	return read(ctx, s.observe, "swap_port", func(ctx context.Context) (sandbox.Record, error) { return s.Store.SwapPort(ctx, p) })
}

func (s *sandboxes) Cleaned(ctx context.Context, c sandbox.Cleaned) error {
	return call(ctx, s.observe, "cleaned", func(ctx context.Context) error { return s.Store.Cleaned(ctx, c) })
}

func (s *sandboxes) Unmirrored(ctx context.Context, node string, max int) ([]sandbox.Record, error) {
	return read(ctx, s.observe, "unmirrored", func(ctx context.Context) ([]sandbox.Record, error) { return s.Store.Unmirrored(ctx, node, max) })
}

func (s *sandboxes) Mirrored(ctx context.Context, node string, versions map[sandbox.ID]uint64) error {
	return call(ctx, s.observe, "mirrored", func(ctx context.Context) error { return s.Store.Mirrored(ctx, node, versions) })
}

func (s *sandboxes) Secret(ctx context.Context, id sandbox.ID) ([]byte, error) {
	return read(ctx, s.observe, "secret", func(ctx context.Context) ([]byte, error) { return s.Store.Secret(ctx, id) })
}

func (s *sandboxes) Get(ctx context.Context, id sandbox.ID) (sandbox.Record, error) {
	return read(ctx, s.observe, "get", func(ctx context.Context) (sandbox.Record, error) { return s.Store.Get(ctx, id) })
}

func (s *sandboxes) List(ctx context.Context, q sandbox.Query) (sandbox.Page, error) {
	return read(ctx, s.observe, "list", func(ctx context.Context) (sandbox.Page, error) { return s.Store.List(ctx, q) })
}

func (s *sandboxes) Recovery(ctx context.Context) (sandbox.Recovery, error) {
	return read(ctx, s.observe, "recovery", s.Store.Recovery)
}

func (s *sandboxes) GetWithRecovery(ctx context.Context, id sandbox.ID) (r sandbox.Record, now sandbox.Recovery, err error) {
	r, err = read(ctx, s.observe, "get", func(ctx context.Context) (r sandbox.Record, err error) {
		r, now, err = s.Store.GetWithRecovery(ctx, id)
		return r, err
	})
	return r, now, err
}

func (s *sandboxes) Recover(ctx context.Context, c sandbox.Claim) (sandbox.Recovery, error) {
	return read(ctx, s.observe, "recover", func(ctx context.Context) (sandbox.Recovery, error) { return s.Store.Recover(ctx, c) })
}

func (s *sandboxes) Sight(ctx context.Context, g sandbox.Sighting) (sandbox.Record, error) {
	return read(ctx, s.observe, "sight", func(ctx context.Context) (sandbox.Record, error) { return s.Store.Sight(ctx, g) })
}

func (s *sandboxes) Reported(ctx context.Context, node string, session uint64) (sandbox.Recovery, error) {
	return read(ctx, s.observe, "reported", func(ctx context.Context) (sandbox.Recovery, error) { return s.Store.Reported(ctx, node, session) })
}

func (s *sandboxes) Settle(ctx context.Context) (sandbox.Recovery, error) {
	return read(ctx, s.observe, "settle", s.Store.Settle)
}

func (s *sandboxes) CallRoll(ctx context.Context) error {
	return call(ctx, s.observe, "call_roll", s.Store.CallRoll)
}

func (s *sandboxes) Incarnation(ctx context.Context) (time.Time, error) {
	return read(ctx, s.observe, "incarnation", s.Store.Incarnation)
}

func (s *sandboxes) Now(ctx context.Context) (time.Time, error) {
	return read(ctx, s.observe, "now", s.Store.Now)
}

// registry is a measured node.Registry.
type registry struct {
	node.Registry
	observe *observer
}

func (n *registry) Register(ctx context.Context, r node.Registration) (node.Node, error) {
	return read(ctx, n.observe, "register", func(ctx context.Context) (node.Node, error) { return n.Registry.Register(ctx, r) })
}

func (n *registry) RenewLease(ctx context.Context, name string, session uint64) error {
	return call(ctx, n.observe, "renew_lease", func(ctx context.Context) error { return n.Registry.RenewLease(ctx, name, session) })
}

func (n *registry) Release(ctx context.Context, name string, session uint64) error {
	return call(ctx, n.observe, "release", func(ctx context.Context) error { return n.Registry.Release(ctx, name, session) })
}

func (n *registry) SetDraining(ctx context.Context, name string, draining bool) error {
	return call(ctx, n.observe, "set_draining", func(ctx context.Context) error { return n.Registry.SetDraining(ctx, name, draining) })
}

func (n *registry) SetImages(ctx context.Context, name string, session uint64, images []string) error {
	return call(ctx, n.observe, "set_images", func(ctx context.Context) error { return n.Registry.SetImages(ctx, name, session, images) })
}

func (n *registry) Remove(ctx context.Context, name string) error {
	return call(ctx, n.observe, "remove_node", func(ctx context.Context) error { return n.Registry.Remove(ctx, name) })
}

func (n *registry) Forget(ctx context.Context, name string) error {
	return call(ctx, n.observe, "forget_node", func(ctx context.Context) error { return n.Registry.Forget(ctx, name) })
}

func (n *registry) Nodes(ctx context.Context) ([]node.Node, error) {
	return read(ctx, n.observe, "nodes", n.Registry.Nodes)
}
