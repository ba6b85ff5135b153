package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/memstore"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	api "opensandbox/services/api/app"
)

// Variant breaks one rule on purpose, to show that the checks notice.
type Variant struct {
	Name string
	// Breaks is, for a broken variant, a regular expression that finds in the first line of a failure the promise that the missing rule keeps.
	Breaks string
	// Store and Engine wrap what the control plane uses; nil leaves it as it is.
	Store  func(w *world, real *memstore.Store) fullStore
	Engine func(real *fakeexec.Engine) simulatedEngine
	// OneLook removes what has no record at the first sight of it.
	OneLook bool
	// HastyLoss gives nodes up as soon as their lease says so, whether or not the store could be reached meanwhile.
	HastyLoss bool
	// NoCutOff leaves out that an agent that is cut off stops its sandboxes.
	NoCutOff bool
	// ForgetLease leaves out that an agent that is started anew knows when its node was last in touch with the store.
	ForgetLease bool
	// Rollback brings an earlier state of the store back once. No rule is broken by that; it is what a restored backup does.
	Rollback bool
	// Trace keeps the whole trace of a run.
	Trace bool
}

// plane is the control plane of one run: one store, nodes with an engine each, and processes.
type plane struct {
	*world
	real    *memstore.Store
	store   fullStore
	nodes   []*simNode
	variant Variant
	check   *checker
	quiet   bool
	// taken are ports that somebody else has bound.
	taken map[int]bool

	apis       []*apiProcess
	schedulers []*process
	operator   *process
}

// apiProcess is one api.
type apiProcess struct {
	proc *process
	link *link
	uses *api.UseCases
}

const (
	portMin, portMax = 40000, 40199
	retainFailed     = 20 * time.Second
	// nodeLostAfter is short, so that a run need not be long.
	nodeLostAfter = 30 * time.Second
	// cutOffAfter is the limit of an agent that is cut off, by its own clock.
	cutOffAfter = nodeLostAfter * 8 / 10
	// lossTime is the shortest time between the last renewal of a lease and the loss of the node.
	lossTime = node.LeaseTime + nodeLostAfter
)

func newPlane(seed uint64, v Variant) *plane {
	p := &plane{world: newWorld(seed), variant: v, taken: map[int]bool{}}
	p.keepTrace = v.Trace
	p.clockSteps = p.oneIn(4)
	p.real = memstore.New(memstore.WithClock(p.storeNow), memstore.WithSeed(seed))
	p.store = p.real
	if v.Store != nil {
		p.store = v.Store(p.world, p.real)
	}
	p.check = newChecker(p)
	for i := range pick(p.world, []int{1, 1, 2, 2, 2, 3, 3, 4}) {
		p.addNode(i)
	}
	for i := range 1 + p.rng.IntN(3) {
		p.startScheduler(fmt.Sprintf("scheduler-%d", i), &link{})
	}
	for i := range 1 + p.rng.IntN(2) {
		a := &apiProcess{link: &link{}}
		p.apis = append(p.apis, a)
		p.startAPI(a, fmt.Sprintf("api-%d", i))
	}
	p.operator = &process{name: "operator"}
	return p
}

// port is the store as processes see it.
func (p *plane) port() storePort { return storePort{p.world, p.store, p.check} }

func log() *slog.Logger { return slog.New(slog.DiscardHandler) }

func token(id sandbox.ID, epoch uint64) string { return fmt.Sprintf("%s/%d", id, epoch) }

func (p *plane) startAPI(a *apiProcess, name string) {
	a.proc = &process{name: name, link: a.link}
	a.proc.restart = func() { p.startAPI(a, name) }
	n := 0
	began := p.steps
	a.uses = api.NewUseCases(api.UseCaseConfig{CreateWait: 5 * time.Second, ChangeWait: 5 * time.Second, AddressWait: time.Second, PublicHost: "h"}, api.UseCaseDeps{
		Store: p.port(), Waiter: simWaiter{p}, Token: token, Vault: openVault{}, Log: log(),
		NewID: func() sandbox.ID { n++; return sandbox.ID(fmt.Sprintf("%s-%d-%d", name, began, n)) },
	})
}

// simWaiter waits like the real api does, in simulated time.
type simWaiter struct{ p *plane }

func (w simWaiter) Await(ctx context.Context, id sandbox.ID, timeout time.Duration, done func(*sandbox.Record) bool) (sandbox.Record, bool, error) {
	hint, cancel := w.p.store.Subscribe(sandbox.RecordTopic(id))
	defer cancel()
	limit := w.p.now.Add(timeout)
	var last sandbox.Record
	for {
		r, err := w.p.port().Get(ctx, id)
		switch {
		case err != nil && !away(err):
			return last, false, err
		case err == nil && done(&r):
			return r, true, nil
		case err == nil:
			last = r
		}
		if !w.p.now.Before(limit) {
			return last, false, err
		}
		w.p.current.sleep(min(250*time.Millisecond, limit.Sub(w.p.now)), hint)
	}
}
