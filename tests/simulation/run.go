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
	// Sandboxes counts the records that were made.
	Sandboxes int
	// Digest is the same for the same seed.
	Digest uint64
	// Lateness is the longest time between a deadline and its decision.
	Lateness time.Duration
	// Err is the first broken promise, with the end of the trace.
	Err error
}

// Bounds of a run.
const (
	// creates is how many creates each client begins with.
	creates = 4
	// maxQuiet bounds the simulated time after the last fault in which everything must have ended.
	maxQuiet = 30 * time.Minute
	maxSteps = 400_000
)

// Run simulates one schedule.
func Run(seed uint64, v Variant) Result {
	p := newPlane(seed, v)
	clients := make([]*client, 2+p.rng.IntN(2))
	working := len(clients) + 1
	for i := range clients {
		clients[i] = &client{p: p, name: fmt.Sprintf("client-%d", i)}
		p.spawn(&process{name: clients[i].name}, "operate", func(t *thread) {
			clients[i].operate(t, creates, 6+p.rng.IntN(10))
			working--
		})
	}
	p.spawn(&process{name: "chaos"}, "disturb", func(t *thread) {
		p.disturb(t, 2+p.rng.IntN(8))
		working--
	})
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
	res := Result{Seed: seed, Steps: p.steps, Crashes: p.crashes, Sandboxes: len(p.check.last), Digest: p.digest, Lateness: p.check.lateness, Err: p.report()}
	p.drain()
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

// calm ends all faults. What crashed comes back by itself.
func (p *plane) calm() {
	p.say("chaos", "no more faults")
	for _, n := range p.nodes {
		n.real.Heal()
	}
	p.lossy = 0.05
	p.quiet = true
}

// empty reports whether nothing is left to be done.
func (p *plane) empty() bool {
	for _, n := range p.nodes {
		if len(n.real.Instances()) > 0 {
			return false
		}
	}
	for _, id := range p.check.ids() {
		if r, err := p.real.Get(background(), id); err == nil && !r.Ended() {
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
	return fmt.Errorf("%w\nreplay: go test -C tests ./simulation -run TestSchedules -seed %d -v\n%s", p.failure, p.seed, strings.Join(p.trace[max(0, len(p.trace)-traceLines):], "\n"))
}
