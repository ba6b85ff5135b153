package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/memstore"
	"opensandbox/libs/sandbox"
	api "opensandbox/services/api/app"
	agent "opensandbox/services/runtime-agent/app"
	scheduler "opensandbox/services/scheduler/app"
)

// Variant breaks one rule on purpose, to show that the checks notice.
type Variant struct {
	Name string
	// Store and Engine wrap what the control plane uses; nil leaves it as it is.
	Store  func(real *memstore.Store) fullStore
	Engine func(real *fakeexec.Engine) simulatedEngine
	// OneLook removes what has no record at the first sight of it.
	OneLook bool
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

	apis       []*apiProcess
	schedulers []*process
}

// simNode is a node with its engine and its agent.
type simNode struct {
	name   string
	real   *fakeexec.Engine
	engine simulatedEngine
	agent  *process
	seen   int
	// queue holds the ids that wait for a step; busy those in one.
	queue map[sandbox.ID]time.Time
	busy  map[sandbox.ID]bool
}

// apiProcess is one api.
type apiProcess struct {
	proc *process
	uses *api.UseCases
}

const (
	portMin, portMax = 40000, 40199
	retainFailed     = 20 * time.Second
)

func newPlane(seed uint64, v Variant) *plane {
	p := &plane{world: newWorld(seed), variant: v}
	p.clockSteps = p.rng.IntN(4) == 0
	p.real = memstore.New(memstore.WithClock(p.storeNow), memstore.WithSeed(seed))
	p.store = p.real
	if v.Store != nil {
		p.store = v.Store(p.real)
	}
	p.check = newChecker(p)
	for i := range 1 + p.rng.IntN(2) {
		real := fakeexec.New(fmt.Sprintf("engine-%d", i), func() time.Time { return p.now })
		n := &simNode{name: fmt.Sprintf("node-%d", i), real: real, engine: real}
		if v.Engine != nil {
			n.engine = v.Engine(real)
		}
		p.nodes = append(p.nodes, n)
		p.startAgent(n)
	}
	for i := range 1 + p.rng.IntN(2) {
		p.startScheduler(fmt.Sprintf("scheduler-%d", i))
	}
	for i := range 1 + p.rng.IntN(2) {
		a := &apiProcess{}
		p.apis = append(p.apis, a)
		p.startAPI(a, fmt.Sprintf("api-%d", i))
	}
	return p
}

func (p *plane) port() storePort { return storePort{p.world, p.store, p.check.store} }

func log() *slog.Logger { return slog.New(slog.DiscardHandler) }

func token(id sandbox.ID, epoch uint64) string { return fmt.Sprintf("%s/%d", id, epoch) }

// startScheduler runs the loops of a scheduler, each with the shape of the real one.
func (p *plane) startScheduler(name string) {
	proc := &process{name: name}
	proc.restart = func() { p.startScheduler(name) }
	p.schedulers = append(p.schedulers, proc)
	s := scheduler.NewStepper(scheduler.Config{RetainFailed: retainFailed, PlacementWait: 500 * time.Millisecond, Ports: []int{api.ExecdPort, api.AppPort}},
		scheduler.Deps{Store: p.port(), Log: log()}, p.rng)
	clock := scheduler.NewSlewedClock(p.storeNow, func() time.Duration { return p.now.Sub(p.start) })
	p.loop(proc, "placement", sandbox.TopicPlacement, s.Place)
	p.loop(proc, "repair", sandbox.TopicDeadline, s.Repair)
	p.loop(proc, "deadlines", sandbox.TopicDeadline, func(ctx context.Context) (time.Time, error) {
		now, lag := clock.Now()
		wake, err := s.Expire(ctx, now)
		if !wake.IsZero() {
			wake = wake.Add(lag)
		}
		return wake, err
	})
}

func (p *plane) loop(proc *process, name string, topic sandbox.Topic, step func(context.Context) (time.Time, error)) {
	p.spawn(proc, name, func(t *thread) {
		hint, cancel := p.store.Subscribe(topic)
		defer cancel()
		for {
			wake, err := step(background())
			pause := time.Second
			if err == nil && !wake.IsZero() {
				pause = min(pause, wake.Sub(p.storeNow()))
			}
			t.sleep(pause, hint)
		}
	})
}

func (p *plane) startAPI(a *apiProcess, name string) {
	a.proc = &process{name: name}
	a.proc.restart = func() { p.startAPI(a, name) }
	n := 0
	a.uses = api.NewUseCases(api.UseCaseConfig{CreateWait: 5 * time.Second, ChangeWait: 5 * time.Second, AddressWait: time.Second, PublicHost: "h"}, api.UseCaseDeps{
		Store: p.port(), Waiter: simWaiter{p}, Token: token, Log: log(),
		NewID: func() sandbox.ID { n++; return sandbox.ID(fmt.Sprintf("%s-%d-%d", name, p.steps, n)) },
	})
}

// simWaiter waits like the real api does, in simulated time.
type simWaiter struct{ p *plane }

func (w simWaiter) Await(ctx context.Context, id sandbox.ID, timeout time.Duration, done func(*sandbox.Record) bool) (sandbox.Record, bool, error) {
	hint, cancel := w.p.store.Subscribe(sandbox.RecordTopic(id))
	defer cancel()
	limit := w.p.now.Add(timeout)
	for {
		r, err := w.p.port().Get(ctx, id)
		if err != nil {
			return r, false, err
		}
		if done(&r) {
			return r, true, nil
		}
		if !w.p.now.Before(limit) {
			return r, false, nil
		}
		w.p.current.sleep(min(250*time.Millisecond, limit.Sub(w.p.now)), hint)
	}
}

// startAgent runs an agent: registration, then the work set, the steps, the comparison, the engine's events and the lease.
func (p *plane) startAgent(n *simNode) {
	proc := &process{name: "agent-" + n.name}
	proc.restart = func() { p.startAgent(n) }
	n.agent = proc
	n.queue, n.busy, n.seen = map[sandbox.ID]time.Time{}, map[sandbox.ID]bool{}, len(n.real.History())
	queue, busy := n.queue, n.busy
	p.spawn(proc, "main", func(t *thread) {
		s, err := agent.NewStepper(background(), agent.Config{Node: n.name, PortMin: portMin, PortMax: portMax, RetainFailed: retainFailed, ReadyTimeout: 3 * time.Second},
			agent.Deps{Store: p.port(), Executor: enginePort{p.world, n.engine, p.check.engine}, Token: token, Log: log()})
		for err != nil {
			p.say(proc.name, "cannot register: %v", err)
			t.sleep(time.Second, nil)
			s, err = agent.NewStepper(background(), agent.Config{Node: n.name, PortMin: portMin, PortMax: portMax, RetainFailed: retainFailed, ReadyTimeout: 3 * time.Second},
				agent.Deps{Store: p.port(), Executor: enginePort{p.world, n.engine, p.check.engine}, Token: token, Log: log()})
		}
		a := &agentLoops{p: p, n: n, proc: proc, s: s, queue: queue, busy: busy, nudge: make(chan struct{}, 1)}
		p.spawn(proc, "worker-1", a.work)
		p.spawn(proc, "worker-2", a.work)
		p.spawn(proc, "compare", a.compare)
		p.spawn(proc, "events", a.events)
		p.spawn(proc, "lease", a.lease)
		a.read(t)
	})
}

// agentLoops are the loops of one start of an agent.
type agentLoops struct {
	p     *plane
	n     *simNode
	proc  *process
	s     *agent.Stepper
	queue map[sandbox.ID]time.Time
	busy  map[sandbox.ID]bool
	// nudge wakes a worker when something was queued.
	nudge chan struct{}
}

func (a *agentLoops) enqueue(ids ...sandbox.ID) {
	for _, id := range ids {
		if at, ok := a.queue[id]; !ok || at.After(a.p.now) {
			a.put(id, a.p.now)
		}
	}
}

// put queues an id and wakes a worker.
func (a *agentLoops) put(id sandbox.ID, at time.Time) {
	a.queue[id] = at
	select {
	case a.nudge <- struct{}{}:
	default:
	}
}

func (a *agentLoops) read(t *thread) {
	hint, cancel := a.p.store.Subscribe(sandbox.WorkTopic(a.n.name))
	defer cancel()
	for {
		if ids, err := a.p.port().Work(background(), a.n.name, 100); err == nil {
			for _, id := range ids {
				if _, waits := a.queue[id]; !waits {
					a.put(id, a.p.now)
				}
			}
		}
		t.sleep(time.Second, hint)
	}
}

// next takes the id that has waited longest, so that a run does not depend on the order of a map.
func (a *agentLoops) next() (sandbox.ID, bool) {
	var best sandbox.ID
	for id, at := range a.queue {
		if a.busy[id] || a.p.now.Before(at) {
			continue
		}
		if best == "" || at.Before(a.queue[best]) || (at.Equal(a.queue[best]) && id < best) {
			best = id
		}
	}
	return best, best != ""
}

// idle is how long a worker sleeps when nothing is due.
func (a *agentLoops) idle() time.Duration {
	pause := 250 * time.Millisecond
	for id, at := range a.queue {
		if !a.busy[id] {
			pause = min(pause, max(at.Sub(a.p.now), time.Millisecond))
		}
	}
	return pause
}

func (a *agentLoops) work(t *thread) {
	for {
		id, ok := a.next()
		if !ok {
			t.sleep(a.idle(), a.nudge)
			continue
		}
		delete(a.queue, id)
		a.busy[id] = true
		again, done, err := a.s.Step(background(), a.p.now, id)
		delete(a.busy, id)
		if err != nil {
			again, done = 250*time.Millisecond, false
		}
		if _, asked := a.queue[id]; !done && !asked {
			a.put(id, a.p.now.Add(again))
		}
		t.yield()
	}
}

func (a *agentLoops) compare(t *thread) {
	for {
		ids, again, err := a.s.Compare(background(), a.p.now)
		a.enqueue(ids...)
		pause := 60 * time.Second
		switch {
		case err != nil:
			pause = time.Second
		case !again.IsZero():
			pause = min(pause, again.Sub(a.p.now))
		}
		if a.p.variant.OneLook {
			a.removeStrangers()
			pause = 200 * time.Millisecond
		}
		if a.p.quiet {
			pause = min(pause, 5*time.Second)
		}
		t.sleep(pause, nil)
	}
}

// removeStrangers is what a careless agent would do: remove whatever its last reading of the store did not list.
func (a *agentLoops) removeStrangers() {
	records, err := a.p.port().OnNode(background(), a.n.name) // before the engine is listed: what is created in between looks unknown
	if err != nil {
		return
	}
	a.p.current.sleep(20*time.Millisecond, nil)
	known := map[executor.Ref]bool{}
	for _, r := range records {
		known[executor.Ref{ID: r.ID, Epoch: r.Placement.Epoch}] = true
	}
	engine := enginePort{a.p.world, a.n.engine, a.p.check.engine}
	all, err := engine.List(background())
	if err != nil {
		return
	}
	for _, in := range all {
		if !known[in.Ref] {
			_ = engine.Remove(background(), in.Ref) // the engine is away
		}
	}
}

// events tells the agent what happened on the engine; some events are lost.
func (a *agentLoops) events(t *thread) {
	for {
		h := a.n.real.History()
		for _, e := range h[min(a.n.seen, len(h)):] {
			if a.p.rng.Float64() >= a.p.lossy {
				a.enqueue(e.ID)
			}
		}
		a.n.seen = len(h)
		t.sleep(200*time.Millisecond, nil)
	}
}

func (a *agentLoops) lease(t *thread) {
	for {
		t.sleep(5*time.Second, nil)
		if err := a.p.port().RenewLease(background(), a.n.name, a.s.Session()); sandbox.IsStale(err) {
			a.proc.restart = nil // another agent has the node now
			a.proc.crashed = true
			a.p.say(a.proc.name, "taken over; ending")
		}
	}
}
