package simulation

import (
	"time"

	"opensandbox/libs/executor"
)

// cutNode takes the way to the store away from a node for a while; its sandboxes run on.
func (p *plane) cutNode(n *simNode) {
	d := p.between(100*time.Millisecond, 12*time.Second)
	switch p.rng.IntN(3) {
	case 0: // past its lease, perhaps past the limit of the agent
		d = p.between(15*time.Second, 40*time.Second)
	case 1: // it is given up meanwhile
		d = p.between(lossTime, 80*time.Second)
		if p.oneIn(2) {
			p.restartsWhileCutOff(n)
		}
	}
	p.cut(n.name, n.link, d)
	p.mustStop(n)
}

// restartsWhileCutOff ends the agent of a node some time after the node was cut off; its supervisor starts it again.
func (p *plane) restartsWhileCutOff(n *simNode) {
	p.later(p.between(time.Second, 20*time.Second), func() {
		if n.link.down {
			p.crashAgent(n)
		}
	})
}

// cutProcess does the same to an api or a scheduler.
func (p *plane) cutProcess() {
	d := p.between(100*time.Millisecond, 20*time.Second)
	if p.oneIn(2) {
		s := pick(p.world, p.schedulers)
		p.cut(s.name, s.link, d)
		return
	}
	a := pick(p.world, p.apis)
	p.cut(a.proc.name, a.link, d)
}

// storeAway takes the store away from everybody.
func (p *plane) storeAway() {
	d := p.between(100*time.Millisecond, 8*time.Second)
	switch p.rng.IntN(6) {
	case 0, 1:
		d = p.between(10*time.Second, 35*time.Second)
	case 2:
		d = p.between(lossTime, 70*time.Second)
	}
	p.cut("everybody", &p.network, d)
	for _, n := range p.nodes {
		p.mustStop(n)
	}
}

func (p *plane) cut(who string, l *link, d time.Duration) {
	if l.down {
		return
	}
	p.say("chaos", "%s is cut off from the store for %v", who, d)
	p.set(l, true)
	p.later(d, func() {
		for _, n := range p.nodes {
			if n.link == l && n.dead {
				return
			}
		}
		p.say("chaos", "%s reaches the store again", who)
		p.set(l, false)
	})
}

// loseNode loses a machine for good: it is switched off, or cut off for ever. Not more than half of the nodes go, since schedulers do not
// believe that.
func (p *plane) loseNode(n *simNode) {
	dead := len(p.nodes) - len(p.live())
	if n.dead || (len(p.nodes) > 1 && 2*(dead+1) > len(p.nodes)) {
		return
	}
	n.dead = true
	p.set(n.link, true)
	if p.oneIn(2) {
		p.say("chaos", "%s is cut off for ever", n.name)
		p.mustStop(n)
		return
	}
	p.say("chaos", "%s loses its power", n.name)
	p.crash(n.agent, 0)
	n.agent.restart = nil
	n.real.Stop()
	p.check.engine()
}

// slack is what an agent gets beyond its limit to stop everything, with an engine that may refuse a few calls.
const slack = 5 * time.Second

// mustStop checks later that nothing runs any more on a node that has been cut off past the limit. A crash or a SIGSTOP excuses its agent only as
// long as there is none that goes on.
func (p *plane) mustStop(n *simNode) {
	from := p.now
	var look func()
	look = func() {
		if up := !p.network.down && !n.link.down; up || p.network.since.After(from) || n.link.since.After(from) || n.off() {
			return
		}
		if !p.stopped(n, from) {
			p.later(time.Second, look)
			return
		}
		for _, in := range n.real.Instances() {
			if in.Phase == executor.Running || in.Phase == executor.Paused {
				p.fail("%s/%d still runs on %s, which is cut off for more than %v", in.ID, in.Epoch, n.name, cutOffAfter)
			}
		}
	}
	p.later(cutOffAfter+slack, look)
}

// off reports whether the machine has lost its power.
func (n *simNode) off() bool { return n.dead && n.agent.crashed && n.agent.restart == nil }

// stopped reports whether the agent of a node that has been cut off since from must have stopped everything by now.
//
// An agent that has begun, or goes on, after the limit has the same time for it.
func (p *plane) stopped(n *simNode, from time.Time) bool {
	able := from.Add(cutOffAfter)
	for _, at := range []time.Time{n.agent.began, p.stoppedUntil(n.agent)} {
		if at.After(able) {
			able = at
		}
	}
	return !n.agent.crashed && p.now.Sub(able) >= slack
}

// drain lets the operator stop or allow placement on a node.
func (p *plane) drain(n *simNode) {
	on := p.oneIn(2)
	p.operate("drain", func() error { return p.port().SetDraining(background(), n.name, on) })
}

// remove lets the operator take a node off the platform: one that is dead, or one that is not, whose agent may be in the middle of something.
func (p *plane) remove(n *simNode) {
	for _, other := range p.nodes {
		if other.dead && p.oneIn(2) {
			n = other
		}
	}
	do := func() { p.operate("remove", func() error { return p.port().Remove(background(), n.name) }) }
	proc := n.agent
	if n.dead || p.oneIn(3) {
		do()
		return
	}
	proc.trap = func() {
		do()
		p.suspend(proc, p.between(2*time.Second, 10*time.Second))
	}
}

func (p *plane) operate(what string, do func() error) {
	p.spawn(p.operator, what, func(*thread) {
		p.say("operator", "%s: %v", what, do())
	})
}
