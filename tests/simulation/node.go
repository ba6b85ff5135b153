package simulation

import (
	"fmt"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
	agent "opensandbox/services/runtime-agent/app"
)

// simNode is a machine with its engine and its agent.
type simNode struct {
	name   string
	real   *fakeexec.Engine
	engine simulatedEngine
	agent  *process
	link   *link
	// capacity and most bound what is placed here.
	capacity sandbox.Resources
	most     int
	// dead machines never come back.
	dead bool
	// memory is what the state directory has; it outlives the agent.
	memory memory
	// renewed is when a renewal last took effect in the store.
	renewed time.Time
	// cutShort is when a recovery that began last made the node's lease end at that moment.
	cutShort time.Time
	// disk is the state directory of its agents.
	disk agent.Disk
	// seen counts the events that the agent was told of; happened tells it that there are new ones.
	seen     int
	happened chan struct{}
	// late are the containers that an agent has made after another one had taken its place.
	late map[executor.Ref]bool
}

func (p *plane) addNode(i int) {
	real := fakeexec.New(fmt.Sprintf("engine-%d", i), func() time.Time { return p.now })
	n := &simNode{name: fmt.Sprintf("node-%d", i), real: real, engine: real, link: &link{}, happened: make(chan struct{}, 1), late: map[executor.Ref]bool{}, memory: memory{notes: map[sandbox.ID]agent.Note{}},
		capacity: sandbox.Resources{CPU: int64(1000 + 1000*p.rng.IntN(5)), Memory: 1 << 30}, most: 2 + p.rng.IntN(6)}
	if p.variant.Engine != nil {
		n.engine = p.variant.Engine(real)
	}
	p.nodes = append(p.nodes, n)
	p.startAgent(n)
}

// live returns the nodes that are not dead.
func (p *plane) live() []*simNode {
	var out []*simNode
	for _, n := range p.nodes {
		if !n.dead {
			out = append(out, n)
		}
	}
	return out
}

func (p *plane) node(name string) *simNode {
	for _, n := range p.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// startAgent runs an agent: registration, then the work set, the steps, the comparison, the engine's events, the lease and the rule for
// being cut off.
func (p *plane) startAgent(n *simNode) {
	proc := &process{name: "agent-" + n.name, link: n.link, renewed: n.disk.Renewed}
	proc.restart = func() { p.startAgent(n) }
	n.agent, n.seen = proc, len(n.real.History())
	cfg := agent.Config{Node: n.name, PortMin: portMin, PortMax: portMax, RetainFailed: retainFailed, ReadyTimeout: 3 * time.Second,
		Capacity: n.capacity, MaxSandboxes: n.most, NodeLostAfter: nodeLostAfter}
	if p.variant.NoCutOff {
		cfg.NodeLostAfter = 0
	}
	deps := agent.Deps{Store: p.port(), Executor: p.enginePort(n), Token: token, Unseal: unsealed, Memory: &n.memory, Clock: func() time.Time { return p.now }, Log: log()}
	if p.variant.ForgetLease {
		n.disk.Renewed = time.Time{}
	}
	p.spawn(proc, "main", func(t *thread) {
		sent := p.now
		s, err := agent.NewStepper(background(), cfg, deps, &n.disk)
		for err != nil {
			p.say(proc.name, "cannot register: %v", err)
			t.sleep(time.Second, nil)
			sent = p.now
			s, err = agent.NewStepper(background(), cfg, deps, &n.disk)
		}
		proc.renewed = sent
		a := &agentLoops{p: p, n: n, proc: proc, s: s, queue: map[sandbox.ID]time.Time{}, busy: map[sandbox.ID]bool{}, nudge: make(chan struct{}, 1)}
		p.spawn(proc, "worker-1", a.work)
		p.spawn(proc, "worker-2", a.work)
		p.spawn(proc, "compare", a.compare)
		p.spawn(proc, "events", a.events)
		p.spawn(proc, "lease", a.lease)
		p.spawn(proc, "cut off", a.cutOff)
		p.spawn(proc, "recovery", a.recover)
		p.spawn(proc, "mirror", a.mirror)
		a.read(t)
	})
}

func (p *plane) enginePort(n *simNode) enginePort {
	made := func(r executor.Ref) {
		if n.agent != p.current.proc {
			n.late[r] = true
		}
	}
	return enginePort{p.world, n.engine, p.check.engine, made}
}

// agentLoops are the loops of one start of an agent.
type agentLoops struct {
	p    *plane
	n    *simNode
	proc *process
	s    *agent.Stepper
	// queue holds the ids that wait for a step; busy those in one.
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
	a.poke()
}

func (a *agentLoops) poke() {
	select {
	case a.nudge <- struct{}{}:
	default:
	}
}

func (a *agentLoops) read(t *thread) {
	hint, cancel := a.p.store.Subscribe(sandbox.WorkTopic(a.n.name))
	defer cancel()
	for {
		if tasks, err := a.p.port().Work(background(), a.n.name, 100); err == nil {
			for _, w := range tasks {
				if _, waits := a.queue[w.ID]; !waits {
					a.put(w.ID, a.p.now)
				}
			}
		}
		t.sleep(3*time.Second, hint)
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
	pause := 10 * time.Second
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
			t.rest(a.idle(), a.nudge)
			continue
		}
		delete(a.queue, id)
		a.busy[id] = true
		if _, more := a.next(); more {
			a.poke()
		}
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
	engine := a.p.enginePort(a.n)
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
		for _, e := range a.n.real.HistorySince(a.n.seen) {
			if a.p.rng.Float64() >= a.p.lossy {
				a.enqueue(e.ID)
			}
			a.n.seen++
		}
		t.rest(5*time.Second, a.n.happened)
	}
}

func (a *agentLoops) lease(t *thread) {
	rollCall, cancel := a.p.store.Subscribe(sandbox.TopicRollCall)
	defer cancel()
	for {
		t.sleep(5*time.Second, rollCall)
		sent := a.p.now
		err := a.s.Renew(background(), a.p.port())
		switch {
		case err == nil:
			if a.p.now.Sub(a.proc.renewed) >= cutOffAfter {
				a.proc.stopping = a.p.now.Add(slack) // what it has decided to do, it does
			}
			a.proc.renewed = sent
			a.s.Renewed(sent)
		case sandbox.IsStale(err), fault.Is(err, fault.NotFound):
			a.end(err)
		}
	}
}

// end stops the agent: another one has the node now, or the node was removed. In the second case its supervisor starts it again.
func (a *agentLoops) end(why error) {
	a.p.say(a.proc.name, "ending: %v", why)
	a.proc.crashed = true
	if a.n.agent == a.proc && !a.n.dead {
		a.p.later(a.p.between(time.Second, 5*time.Second), func() {
			if a.n.agent == a.proc && !a.n.dead {
				a.p.startAgent(a.n)
			}
		})
	}
	a.proc.restart = nil
}

func (a *agentLoops) cutOff(t *thread) {
	for {
		t.sleep(time.Second, nil)
		_ = a.s.CutOff(background(), a.p.now) // the engine is away; the next second tries again
	}
}
