package simulation

import (
	"time"

	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/fault"
)

// disturb breaks things at random for a while. The first thing is always a crash.
func (p *plane) disturb(t *thread, times int) {
	// How often each is listed is its weight.
	faults := []func(*simNode){
		p.crashAgent, p.crashAgent, func(*simNode) { p.crashScheduler() }, func(*simNode) { p.crashAPI() }, func(*simNode) { p.crashAPI() },
		p.stopEngine, p.interfere, p.interfere, p.failOnce, p.failOnce, p.takePort, p.suspendAgent, p.suspendAgent, func(*simNode) { p.suspendScheduler() },
		func(*simNode) { p.lossy = p.rng.Float64() }, func(*simNode) { p.stepClock() },
	}
	if p.oneIn(2) {
		faults = append(faults, p.cutNode, p.cutNode, p.cutNode, func(*simNode) { p.cutProcess() }, func(*simNode) { p.storeAway() }, func(*simNode) { p.storeAway() },
			p.loseNode, p.loseNode, p.drain, p.drain, p.remove, p.remove, p.remove, p.remove)
	}
	for i := range times {
		t.sleep(p.between(100*time.Millisecond, 4*time.Second), nil)
		nodes := p.live()
		if len(nodes) == 0 {
			nodes = p.nodes
		}
		n := pick(p.world, nodes)
		if i == 0 {
			p.crashAgent(n)
			continue
		}
		pick(p.world, faults)(n)
	}
}

func (p *plane) crashAgent(n *simNode) {
	p.crash(n.agent, p.between(10*time.Millisecond, 5*time.Second))
}

func (p *plane) crashAPI() {
	p.crash(pick(p.world, p.apis).proc, p.between(10*time.Millisecond, 2*time.Second))
}

// crashScheduler leaves the schedulers alone in runs in which the clock is set: one that starts has nothing to hold against the clock that
// it finds.
func (p *plane) crashScheduler() {
	if p.clockSteps {
		return
	}
	i := p.rng.IntN(len(p.schedulers))
	proc := p.schedulers[i]
	p.schedulers = append(p.schedulers[:i:i], p.schedulers[i+1:]...)
	p.crash(proc, p.between(10*time.Millisecond, 5*time.Second))
	if len(p.schedulers) == 0 { // its restart comes later; until then there is nothing else to crash
		p.schedulers = append(p.schedulers, proc)
	}
}

func (p *plane) stopEngine(n *simNode) {
	if n.dead || n.real.Down() {
		return
	}
	p.say("chaos", "%s: engine stops", n.name)
	n.real.Stop()
	p.check.engine()
	p.later(p.between(100*time.Millisecond, 10*time.Second), func() {
		if !n.dead {
			p.say("chaos", "%s: engine goes on", n.name)
			n.real.Go()
		}
	})
}

// interfere does by hand what operators and programs do to containers.
func (p *plane) interfere(n *simNode) {
	all := n.real.Instances()
	if len(all) == 0 {
		return
	}
	in := pick(p.world, all)
	switch p.rng.IntN(3) {
	case 0:
		p.say("chaos", "%s: %s removed by hand: %v", n.name, in.ID, n.real.RemoveByHand(in.ID))
		// A container that somebody removed before its record was Running is made again, which is not a second start of the same one.
		delete(p.check.starts, in.Ref)
	case 1:
		p.say("chaos", "%s: %s paused by hand: %v", n.name, in.ID, n.real.PauseByHand(in.ID))
	case 2:
		p.say("chaos", "%s: %s ends by itself: %v", n.name, in.ID, n.real.Exit(in.ID, p.rng.IntN(3)))
	}
	p.check.engine()
}

func (p *plane) failOnce(n *simNode) {
	methods := []fakeexec.Method{fakeexec.Create, fakeexec.Start, fakeexec.Inspect, fakeexec.List, fakeexec.Kill, fakeexec.Remove, fakeexec.Pause, fakeexec.Unpause, fakeexec.EnsureImage,
		fakeexec.AfterVolumes}
	m := pick(p.world, methods)
	err := errUnclassified
	if p.oneIn(2) {
		err = fault.New(fault.Unavailable, "the engine does not answer this one")
	}
	p.say("chaos", "%s: next %s fails: %v", n.name, m, err)
	n.real.FailNext(m, err)
}

func (p *plane) takePort(n *simNode) {
	for range 30 {
		port := portMin + p.rng.IntN(portMax-portMin+1)
		n.real.ForeignPort(port)
		p.taken[port] = true
	}
	p.say("chaos", "%s: somebody takes ports", n.name)
}

// suspendAgent stops an agent past its lease, now or between something that it does and telling of it. In some cases another one takes its
// place meanwhile; in others the node is given up before it goes on.
func (p *plane) suspendAgent(n *simNode) {
	proc := n.agent
	do := func() { p.suspend(proc, p.between(5*time.Second, 25*time.Second)) }
	switch p.rng.IntN(3) {
	case 0:
		do = func() { p.suspend(proc, p.between(30*time.Second, 80*time.Second)) }
	case 1:
		do = func() { p.supersede(n, proc) }
		if p.oneIn(2) {
			p.failOnce(n)
		}
	}
	if p.oneIn(3) {
		do()
		return
	}
	proc.trap = do
}

// supersede stops an agent and starts another one in its place. It goes on before the limit of an agent that is cut off: a lock on the
// machine keeps two agents from one engine, and one that goes on after that limit stops everything.
func (p *plane) supersede(n *simNode, proc *process) {
	if n.agent != proc || n.dead {
		return
	}
	p.suspend(proc, p.between(5*time.Second, 15*time.Second))
	proc.restart = nil
	p.later(p.between(time.Millisecond, 5*time.Second), func() {
		if n.agent == proc && !n.dead {
			p.startAgent(n)
		}
	})
}

// suspendScheduler leaves the schedulers alone where crashScheduler does: one that has not looked at its clock for long may be ahead by a tenth
// of that.
func (p *plane) suspendScheduler() {
	if p.clockSteps {
		return
	}
	p.suspend(pick(p.world, p.schedulers), p.between(time.Second, time.Minute))
}

func (p *plane) suspend(proc *process, d time.Duration) {
	if proc.crashed {
		return
	}
	p.say("chaos", "SIGSTOP %s for %v", proc.name, d)
	proc.stoppedUntil = p.elapsed + d
	if proc.stopping.After(p.now) { // in the middle of that, too
		proc.stopping = proc.stopping.Add(d)
	}
}

// stepClock sets the store's clock to another time, as an operator or a wrong time server does. It stays there for as long as a scheduler may
// not look: one that is set back and forward again in between has never been back for that scheduler, and what was created meanwhile ends
// sooner by what it was set back.
func (p *plane) stepClock() {
	if !p.clockSteps || p.stepped > 0 && p.elapsed-p.stepped < unlooked {
		return
	}
	p.stepped = p.elapsed
	p.storeSkew += p.between(-30*time.Second, 5*time.Minute)
	p.say("chaos", "the clock is set to %+v", p.storeSkew)
}

// calm ends all faults. What crashed comes back by itself; dead nodes do not.
func (p *plane) calm() {
	p.say("chaos", "no more faults")
	p.set(&p.network, false)
	for _, n := range p.nodes {
		n.agent.trap = nil
		if !n.dead {
			n.real.Heal()
			p.set(n.link, false)
		}
	}
	for _, s := range p.schedulers {
		p.set(s.link, false)
	}
	for _, a := range p.apis {
		p.set(a.link, false)
	}
	p.lossy = 0.05
	p.quiet = true
}
