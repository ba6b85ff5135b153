//go:build e2e && sabotage

package acceptance

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"opensandbox/libs/sabotage"
	"opensandbox/tests/process"
)

// matrix is a platform whose processes end at steps that they are told.
type matrix struct {
	*server
	t *testing.T
	// keeper is a sandbox that nothing may happen to, reached at url with header from before anything happened.
	keeper, url string
	header      []string
	// replace says that sandboxes are made such that they may be placed anew.
	replace bool
	// cases counts, for names that are used once.
	cases atomic.Int64
}

// background are steps that belong to no operation: they may come at any time.
var background = []sabotage.Step{sabotage.NodeRenewLease, sabotage.StoreMirrored, sabotage.NodeSetImages}

// misses reports whether a platform cannot have the operation.
func (op operation) misses(split bool) bool { return split && op.single || !split && op.split }

// operationsOf returns the operations that a platform can have.
func operationsOf(split bool) []operation {
	return slices.DeleteFunc(operations(), func(op operation) bool { return op.misses(split) })
}

// points returns those of an operation, in the order of its table.
func (op operation) points(split bool) []point {
	var all []point
	for _, s := range op.steps {
		kind := "server"
		if s.split && !split {
			continue
		}
		if split {
			kind = s.by
		}
		for _, m := range []sabotage.Moment{sabotage.Before, sabotage.After} {
			if s.only == "" || s.only == m {
				all = append(all, point{kind, s.step, m})
			}
		}
	}
	return all
}

// discover carries an operation out undisturbed, and holds what was reached against the table.
func (x *matrix) discover(op operation, split bool) {
	x.t.Helper()
	sub := x.subject(op)
	x.watch()
	x.begin(op, sub)
	want := map[point]bool{}
	for _, p := range op.points(split) {
		want[p] = true
	}
	for _, p := range x.missing(want) {
		x.t.Errorf("%s does not reach %v", op.name, p)
	}
	op.holds(x, sub)
	reached := x.reached()
	for p := range reached {
		if p.moment == sabotage.After && !reached[point{p.kind, p.step, sabotage.Before}] {
			continue // the end of what had begun before anybody watched
		}
		if !op.loose && !want[p] && !slices.Contains(background, p.step) {
			x.t.Errorf("%s reaches a point that its table does not have: %v", op.name, p)
		}
	}
	x.unwatch()
	x.end(op, sub)
}

// begin carries an operation out.
func (x *matrix) begin(op operation, sub *subject) {
	x.t.Helper()
	if op.process == nil {
		op.do(x, sub)
		return
	}
	for _, p := range x.programs {
		op.process(x, p, func() {})
	}
	x.goOn()
}

// missing waits until all the points are reached, and returns those that are not.
func (x *matrix) missing(want map[point]bool) []point {
	x.t.Helper()
	var missing []point
	for deadline := time.Now().Add(patience / 2); time.Now().Before(deadline); waitABit() {
		reached := x.reached()
		missing = slices.DeleteFunc(slices.Collect(maps.Keys(want)), func(p point) bool { return reached[p] })
		if len(missing) == 0 {
			break
		}
	}
	return missing
}

// subject makes what an operation is carried out on.
func (x *matrix) subject(op operation) *subject {
	x.t.Helper()
	sub := &subject{name: fmt.Sprintf("case-%d-%x", x.cases.Add(1), rand.Uint32())}
	if op.prepare != nil {
		op.prepare(x, sub)
	}
	return sub
}

// killAt carries an operation out while a process ends at a point, starts that again, and looks at what has become of everything.
func (x *matrix) killAt(op operation, p point) {
	x.t.Helper()
	defer x.tells(p)()
	sub, over := x.subject(op), make(chan struct{})
	order := func() { x.order(p.kind, sabotage.Order{Step: p.step, Moment: p.moment, Deed: sabotage.Kill}) }
	if op.process != nil {
		op.process(x, x.oneOf(p.kind), order)
		close(over)
	} else {
		order()
		go func() { defer close(over); op.do(x, sub) }()
	}
	if !x.carriedOut(p.kind) {
		x.t.Errorf("%s: %v is never reached", op.name, p)
		<-over
		return
	}
	x.ended(p.kind)
	if op.still != nil {
		op.still(sub)
	}
	x.goOn()
	<-over
	op.holds(x, sub)
	x.end(op, sub)
	x.untouched(fmt.Sprintf("%s, %v", op.name, p))
}

// end deletes what the operation has left, and waits until all is settled.
func (x *matrix) end(op operation, sub *subject) {
	x.t.Helper()
	for _, i := range x.items("metadata=case%3D" + sub.name) {
		x.do("DELETE", "/v1/sandboxes/"+i["id"].(string), nil)
	}
	if !op.lingers {
		x.settled(op.name)
	}
}

// untouched fails if the keeper was disturbed.
func (x *matrix) untouched(when string) {
	x.t.Helper()
	if out := output(x.stream(x.url, x.header, m{"command": "echo alive"}), "stdout"); out != "alive\n" {
		x.t.Errorf("%s: the sandbox that nobody touched says %q", when, out)
	}
}

// newMatrix makes a sabotaged platform, which is not started yet.
func newMatrix(t *testing.T, op operation, split bool) *matrix {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), base: fmt.Sprintf("http://127.0.0.1:%d", process.FreePort(t)), extra: op.extra}
	if s.programs = []*program{{name: "server", binary: binary(t)}}; split {
		s = newSplit(t, op.extra)
	}
	for _, p := range s.programs {
		p.env = append(p.env, op.env...)
	}
	s.sabotaged(t)
	t.Cleanup(func() { keepLogs(t, s) })
	return &matrix{server: s, t: t}
}

// keepLogs keeps what the processes of a test that has failed have written: its end alone seldom tells what began it.
func keepLogs(t *testing.T, s *server) {
	if !t.Failed() {
		return
	}
	dir, err := os.MkdirTemp("", "opensandbox-kill-matrix-*")
	if err != nil {
		t.Error(err)
		return
	}
	for _, p := range s.programs {
		text, err := os.ReadFile(p.log(s.dir))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, p.name+".log"), text, 0o600)
		}
		if err != nil {
			t.Log(err)
		}
	}
	t.Logf("the logs of all processes are in %s", dir)
}

// tells begins a case. What it returns is called at its end, and says which it was if it is the first that has failed.
func (x *matrix) tells(p point) func() {
	failed := x.t.Failed()
	return func() {
		x.t.Helper()
		if !failed && x.t.Failed() {
			x.t.Logf("the first failure was at %v", p)
		}
	}
}

// start starts all processes until the end of the test. They have taken the steps of their start when it returns: an agent takes some on its
// engine long after the API answers, which no operation may be blamed for.
func (x *matrix) start() {
	x.t.Helper()
	x.run()
	x.cleanUp()
	for _, p := range x.programs {
		x.eventually(p.name+" serves", func() bool { return x.serving(p, 0) })
	}
	x.keep()
}

// keep makes the sandbox that nothing may happen to.
func (x *matrix) keep() {
	x.eventually("a sandbox can be made", func() bool { // the agents may come last
		a := x.do("POST", "/v1/sandboxes", spec(m{"metadata": m{"role": "keeper"}}))
		x.keeper = a.text("id")
		return a.status == http.StatusAccepted
	})
	x.runs(x.keeper)
	x.url, x.header = x.endpoint(x.keeper, 44772)
}

// runs waits until a sandbox runs: the answer to a create can come before that on a machine that is busy.
func (x *matrix) runs(id string) {
	x.t.Helper()
	x.eventually("the sandbox "+id+" runs", func() bool { return x.state(id) == "Running" })
}

// TestKillMatrix ends the single binary right before and right after every step of every operation.
func TestKillMatrix(t *testing.T) { killMatrix(t, false) }

// TestSplitKillMatrix does the same with each of the split services. The router takes no step, which is seen as well.
func TestSplitKillMatrix(t *testing.T) { killMatrix(t, true) }

func killMatrix(t *testing.T, split bool) {
	for _, op := range operationsOf(split) {
		t.Run(op.name, func(t *testing.T) {
			t.Parallel()
			x := newMatrix(t, op, split)
			x.start()
			x.discover(op, split)
			for _, p := range op.points(split) {
				x.killAt(op, p)
			}
			if op.lingers {
				x.nothingOf(op)
			}
		})
	}
}

// TestKillMatrixOfTheFirstStart ends the single binary at each step of its very first start.
func TestKillMatrixOfTheFirstStart(t *testing.T) {
	op := firstStart()
	t.Run("undisturbed", func(t *testing.T) {
		x := newMatrix(t, op, false)
		x.watch()
		x.start()
		want := map[point]bool{}
		for _, p := range op.points(false) {
			want[p] = true
		}
		for _, p := range x.missing(want) {
			t.Errorf("the first start does not reach %v", p)
		}
	})
	for _, p := range op.points(false) {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			x := newMatrix(t, op, false)
			x.order(p.kind, sabotage.Order{Step: p.step, Moment: p.moment, Deed: sabotage.Kill})
			x.programs[0].run(t, x.dir, x.configFile())
			if !x.carriedOut(p.kind) {
				t.Errorf("%v is never reached", p)
			}
			x.ended(p.kind)
			x.goOn()
			x.cleanUp()
			x.keep()
			x.untouched("after the first start")
		})
	}
}

// nothingOf waits until all that an operation has left is gone by itself.
func (x *matrix) nothingOf(op operation) {
	x.t.Helper()
	const abandoned = 3 * time.Minute // a create that has failed is removed a minute after its api has died
	var left []string
	for deadline := time.Now().Add(abandoned); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		left = slices.DeleteFunc(append(ids(x.items("")), x.containers()...), func(id string) bool { return id == x.keeper })
		if len(left) == 0 {
			return
		}
	}
	x.t.Errorf("%s leaves %v", op.name, left)
}

// TestEveryStepIsInTheKillMatrix fails for a step that no operation reaches, and that is not excused.
func TestEveryStepIsInTheKillMatrix(t *testing.T) {
	t.Parallel()
	in := map[sabotage.Step]bool{}
	for _, op := range append(operations(), firstStart()) {
		for _, s := range op.steps {
			in[s.step] = true
		}
	}
	for _, step := range sabotage.Steps() {
		switch why := excused[step]; {
		case !in[step] && why == "":
			t.Errorf("no operation of the kill matrix has the step %s", step)
		case in[step] && why != "":
			t.Errorf("the step %s is excused (%s), and is in the kill matrix", step, why)
		}
	}
}
