//go:build e2e && sabotage

package acceptance

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sabotage"
)

// stoppedFor is how long a process stands still at its point: longer than the lease of a node.
const stoppedFor = node.LeaseTime + 5*time.Second

// TestStopMatrix stops the single binary with SIGSTOP at each point of the kill matrix, until its lease is long over, and lets it go on.
func TestStopMatrix(t *testing.T) { stopMatrix(t, false) }

// TestSplitStopMatrix does the same with one process of the split services, while the others go on.
func TestSplitStopMatrix(t *testing.T) { stopMatrix(t, true) }

// shares is how many points one platform has to itself: most of the time is waiting, which platforms do side by side, but each costs its start.
const shares = 6

func stopMatrix(t *testing.T, split bool) {
	for _, op := range operationsOf(split) {
		for points := range slices.Chunk(op.points(split), shares) {
			t.Run(fmt.Sprintf("%s/from %v", op.name, points[0]), func(t *testing.T) {
				t.Parallel()
				x := newMatrix(t, op, split)
				x.start()
				for _, p := range points {
					x.stopAt(op, p)
				}
				if op.lingers {
					x.nothingOf(op)
				}
			})
		}
	}
}

// TestStopMatrixOfTheFirstStart stops the single binary at each step of its very first start.
func TestStopMatrixOfTheFirstStart(t *testing.T) {
	op := firstStart()
	for _, p := range op.points(false) {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			x := newMatrix(t, op, false)
			x.order(p.kind, sabotage.Order{Step: p.step, Moment: p.moment, Deed: sabotage.Stop})
			x.programs[0].run(t, x.dir, x.configFile())
			if !x.carriedOut(p.kind) {
				t.Errorf("%v is never reached", p)
			}
			stopped := x.stopped(p.kind)
			time.Sleep(stoppedFor)
			stopped.resume(t)
			x.goOn()
			x.cleanUp()
			x.keep()
			x.untouched("after the first start")
		})
	}
}

// stopAt carries an operation out while a process stands still at a point for longer than a lease, and looks at what has become of everything.
func (x *matrix) stopAt(op operation, p point) {
	x.t.Helper()
	defer x.tells(p)()
	sub, stopped, over := x.standsStill(op, p)
	if stopped == nil {
		return
	}
	time.Sleep(stoppedFor)
	if op.still != nil {
		op.still(sub)
	}
	stopped.resume(x.t)
	<-over
	x.goOn()
	op.holds(x, sub)
	x.end(op, sub)
	x.untouched(fmt.Sprintf("%s, %v", op.name, p))
}

// standsStill carries an operation out until a process stands still at a point. over is closed when the operation has returned.
func (x *matrix) standsStill(op operation, p point) (sub *subject, stopped *program, over chan struct{}) {
	x.t.Helper()
	sub, over = x.subject(op), make(chan struct{})
	order := func() { x.order(p.kind, sabotage.Order{Step: p.step, Moment: p.moment, Deed: sabotage.Stop}) }
	go func() {
		defer close(over)
		if op.process != nil {
			op.process(x, x.oneOf(p.kind), order)
			return
		}
		order()
		op.do(x, sub)
	}()
	if !x.carriedOut(p.kind) {
		x.t.Errorf("%s: %v is never reached", op.name, p)
		<-over
		return sub, nil, over
	}
	return sub, x.stopped(p.kind), over
}

// lostAfter is the shortest time after which a node may be given up.
const lostAfter = "[scheduler]\nnode_lost_after_seconds = 30\n"

// TestSplitLossMatrix stops an agent at each of its points until its node has been given up and the sandbox has been placed anew on the other
// node, and lets it go on.
func TestSplitLossMatrix(t *testing.T) {
	for _, op := range operationsOf(true) {
		if op.process != nil {
			continue
		}
		op.extra += lostAfter
		ofAgents := slices.DeleteFunc(op.points(true), func(p point) bool { return p.kind != "agent" })
		for points := range slices.Chunk(ofAgents, shares) {
			t.Run(fmt.Sprintf("%s/from %v", op.name, points[0]), func(t *testing.T) {
				t.Parallel()
				x := newMatrix(t, op, true)
				x.replace = true
				x.start()
				for _, p := range points {
					x.loseAt(op, p)
				}
			})
		}
	}
}

// loseAt carries an operation out while an agent stands still at a point until its node has been given up.
func (x *matrix) loseAt(op operation, p point) {
	x.t.Helper()
	defer x.tells(p)()
	witness := x.witnesses()
	sub, stopped, over := x.standsStill(op, p)
	if stopped == nil {
		return
	}
	there := x.addressOf(stopped)
	lost := witness[there]
	x.eventually("the node does not answer", func() bool { return x.reason(lost) == "Running NODE_UNREACHABLE" })
	x.eventually("the node is given up", func() bool { return x.reason(lost) == "Failed NODE_LOST" })
	x.do("DELETE", "/v1/sandboxes/"+lost, nil)
	<-over
	mine := "metadata=case%3D" + sub.name
	x.eventually("all of the node was given up, and what was placed anew has started elsewhere", func() bool {
		return !slices.ContainsFunc(x.items(mine), func(i m) bool {
			status := i["status"].(m)
			return status["state"] == "Pending" || status["reason"] == "NODE_UNREACHABLE"
		})
	})
	stopped.resume(x.t)
	x.goOn()
	if holds := op.replaced; holds != nil {
		holds(x, sub)
	} else {
		op.holds(x, sub)
	}
	for _, i := range x.items(mine) {
		x.do("DELETE", "/v1/sandboxes/"+i["id"].(string), nil)
	}
	x.settled(op.name)
	for at, id := range witness {
		if at == there {
			continue
		}
		if out := output(x.shell(id, "echo alive"), "stdout"); out != "alive\n" {
			x.t.Errorf("%s, %v: the sandbox of the other node says %q", op.name, p, out)
		}
		x.keeper = id
	}
}

// witnesses returns a sandbox of each node that may not be placed anew, by the address of its ports.
func (x *matrix) witnesses() map[string]string {
	x.t.Helper()
	found := map[string]string{x.hostOf(x.keeper): x.keeper}
	for range 20 {
		id := x.create(m{"metadata": m{"role": "witness"}})
		x.runs(id)
		if at := x.hostOf(id); found[at] == "" {
			found[at] = id
			return found
		}
		x.do("DELETE", "/v1/sandboxes/"+id, nil)
	}
	x.t.Fatal("20 sandboxes are on the node of the first one")
	return nil
}

// addressOf returns where the ports of an agent's node are published.
func (x *matrix) addressOf(agent *program) string {
	if agent.name == "agent-1" {
		return x.split.secondAddress
	}
	return "127.0.0.1"
}
