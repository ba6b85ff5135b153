package simulation

import (
	"time"

	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/fault"
)

// disturb breaks things at random for a while. The first thing is always a crash.
func (p *plane) disturb(t *thread, times int) {
	for i := range times {
		t.sleep(p.between(100*time.Millisecond, 4*time.Second), nil)
		n := pick(p.world, p.nodes)
		kind := p.rng.IntN(14)
		if i == 0 {
			kind = 0
		}
		switch kind {
		case 0, 1:
			p.crash(n.agent, p.between(10*time.Millisecond, 5*time.Second))
		case 2:
			if !p.clockSteps {
				p.crashScheduler()
			}
		case 3, 4:
			p.crash(pick(p.world, p.apis).proc, p.between(10*time.Millisecond, 2*time.Second))
		case 5:
			p.stopEngine(n)
		case 6, 7:
			p.interfere(n)
		case 8, 9:
			p.failOnce(n)
		case 10:
			p.takePort(n)
		case 11:
			p.suspend(n)
		case 12:
			p.lossy = p.rng.Float64()
		case 13:
			if p.clockSteps {
				p.stepClock()
			}
		}
	}
}

func (p *plane) crashScheduler() {
	i := p.rng.IntN(len(p.schedulers))
	proc := p.schedulers[i]
	p.schedulers = append(p.schedulers[:i:i], p.schedulers[i+1:]...)
	p.crash(proc, p.between(10*time.Millisecond, 5*time.Second))
	if len(p.schedulers) == 0 { // its restart comes later; until then there is nothing else to crash
		p.schedulers = append(p.schedulers, proc)
	}
}

func (p *plane) stopEngine(n *simNode) {
	if n.real.Down() {
		return
	}
	p.say("chaos", "%s: engine stops", n.name)
	n.real.Stop()
	p.check.engine()
	p.later(p.between(100*time.Millisecond, 10*time.Second), func() {
		p.say("chaos", "%s: engine goes on", n.name)
		n.real.Go()
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
	methods := []fakeexec.Method{fakeexec.Create, fakeexec.Start, fakeexec.Inspect, fakeexec.List, fakeexec.Kill, fakeexec.Remove, fakeexec.Pause, fakeexec.Unpause, fakeexec.EnsureImage}
	m := pick(p.world, methods)
	err := errUnclassified
	if p.rng.IntN(2) == 0 {
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

// suspend stops an agent past its lease, and lets another one take its place meanwhile in half of the cases.
func (p *plane) suspend(n *simNode) {
	proc := n.agent
	if proc.crashed {
		return
	}
	proc.stoppedUntil = p.now.Add(p.between(5*time.Second, 25*time.Second))
	p.say("chaos", "SIGSTOP %s", proc.name)
	if p.rng.IntN(2) == 0 {
		proc.restart = nil
		p.later(p.between(time.Millisecond, 5*time.Second), func() {
			if n.agent == proc {
				p.startAgent(n)
			}
		})
	}
}

// stepClock sets the store's clock to another time, as an operator or a wrong time server does. It happens only in runs in which schedulers
// do not crash: one that starts has nothing to hold against the clock that it finds.
func (p *plane) stepClock() {
	p.storeSkew += p.between(-30*time.Second, 5*time.Minute)
	p.say("chaos", "the clock is set to %+v", p.storeSkew)
}
