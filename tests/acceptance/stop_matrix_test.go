//go:build e2e && sabotage

package acceptance

import (
	"fmt"
	"testing"
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sabotage"
)

// stoppedFor is how long a process stands still at its point: longer than the lease of a node.
const stoppedFor = node.LeaseTime + 5*time.Second

// TestStopMatrix stops the single binary with SIGSTOP at each point of the kill matrix, until its lease is long over, and lets it go on.
func TestStopMatrix(t *testing.T) {
	for _, op := range operationsOf(false) {
		for _, p := range op.points(false) {
			t.Run(fmt.Sprintf("%s/%v", op.name, p), func(t *testing.T) {
				t.Parallel()
				x := newMatrix(t, op, false)
				x.start()
				x.stopAt(op, p)
			})
		}
	}
}

// TestSplitStopMatrix does the same with one process of the split services, while the others go on.
func TestSplitStopMatrix(t *testing.T) {
	for _, op := range operationsOf(true) {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			x := newMatrix(t, op, true)
			x.start()
			for _, p := range op.points(true) {
				x.stopAt(op, p)
			}
		})
	}
}

// stopAt carries an operation out while a process stands still at a point for longer than a lease, and looks at what has become of everything.
func (x *matrix) stopAt(op operation, p point) {
	x.t.Helper()
	sub, over := x.subject(op), make(chan struct{})
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
		return
	}
	stopped := x.stopped(p.kind)
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
