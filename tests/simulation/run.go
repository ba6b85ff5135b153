package simulation

import (
	"fmt"
	"strings"
	"time"
)

// Result is what a run showed.
type Result struct {
	Seed    uint64
	Steps   int
	Crashes int
	// Sandboxes counts the records that were made, Lost those that were given up with their node, and Replaced those that got another one.
	Sandboxes, Lost, Replaced int
	// Digest is the same for the same seed.
	Digest uint64
	// Lateness is the longest time between a deadline and its decision.
	Lateness time.Duration
	// Trace is what happened, if the variant asked for it.
	Trace []string
	// Err is the first broken promise, with the end of the trace.
	Err error
}

// Bounds of a run.
const (
	// mostCreates and mostChanges bound what each client does.
	mostCreates, mostChanges = 4, 12
	// maxQuiet bounds the simulated time after the last fault in which everything must have ended.
	maxQuiet = 30 * time.Minute
	maxSteps = 400_000
	// goBack is in how many runs the store goes back once.
	goBack = 8
)

// Run simulates one schedule.
func Run(seed uint64, v Variant) Result {
	p := newPlane(seed, v)
	// Few clients make short runs, of which there can be more.
	clients := make([]*client, pick(p.world, []int{1, 1, 2, 3}))
	working := len(clients) + 1
	for i := range clients {
		clients[i] = &client{p: p, name: fmt.Sprintf("client-%d", i)}
		p.spawn(&process{name: clients[i].name}, "operate", func(t *thread) {
			clients[i].operate(t, 1+p.rng.IntN(mostCreates), 2+p.rng.IntN(mostChanges-1))
			working--
		})
	}
	p.spawn(&process{name: "chaos"}, "disturb", func(t *thread) {
		p.disturb(t, 2+p.rng.IntN(8))
		working--
	})
	if p.oneIn(goBack) || v.Rollback {
		working++
		p.spawn(&process{name: "backup"}, "restore", func(t *thread) {
			p.rollBack(t)
			t.sleep(2*time.Minute, nil) // who is to clean up must know what there is
			working--
		})
	}
	p.until(func() bool { return working == 0 }, time.Hour)
	p.calm()
	cleaning, all := len(clients), p.rng.IntN(2) == 0
	for _, c := range clients {
		p.spawn(&process{name: c.name}, "clean", func(t *thread) { c.clean(t, all); cleaning-- })
	}
	p.until(func() bool { return cleaning == 0 && p.empty() }, maxQuiet)
	if p.failure == nil {
		p.check.atEnd()
	}
	res := Result{Seed: seed, Steps: p.steps, Crashes: p.crashes, Sandboxes: len(p.check.last), Lost: p.check.gaveUp, Replaced: p.check.replaced,
		Digest: p.digest, Lateness: p.check.lateness, Err: p.report()}
	if v.Trace {
		res.Trace = p.trace
	}
	p.world.drain()
	return res
}

// until lets the plane run until a condition holds, a promise is broken or the simulated time is over.
func (p *plane) until(done func() bool, limit time.Duration) {
	end := p.now.Add(limit)
	for p.failure == nil && !done() && p.now.Before(end) {
		if p.steps > maxSteps {
			p.fail("no end after %d steps", p.steps)
		}
		p.step()
	}
}

// rollBack brings the state of the store back that it had a while ago, as a restored backup or a failover to a late replica does.
func (p *plane) rollBack(t *thread) {
	t.sleep(p.between(2*time.Second, 15*time.Second), nil)
	backup, at := p.real.Snapshot(), p.now
	t.sleep(p.between(100*time.Millisecond, 10*time.Second), nil)
	p.say("chaos", "the store goes back to what it was")
	p.check.rollingBack(p.now.Sub(at))
	p.real.Restore(backup)
	p.check.rolledBack()
}

// empty reports whether nothing is left to be done.
func (p *plane) empty() bool {
	for id := range p.check.last {
		if r := p.check.last[id]; r.ID != "" && !r.Ended() {
			return false
		}
	}
	for _, n := range p.live() {
		if len(n.real.Instances())+len(n.real.Volumes()) > 0 {
			return false
		}
	}
	return true
}

// traceLines is how much of the trace a failure shows.
const traceLines = 60

func (p *plane) report() error {
	if p.failure == nil {
		return nil
	}
	how := ""
	if p.variant.Rollback {
		how = " -rollback"
	}
	return fmt.Errorf("%w\nreplay: go test -C tests ./simulation -run TestSchedules -seed %d%s -v\n%s", p.failure, p.seed, how, strings.Join(p.trace[max(0, len(p.trace)-traceLines):], "\n"))
}
