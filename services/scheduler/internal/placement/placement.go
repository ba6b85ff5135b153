// Package placement gives sandboxes that need a node to one.
package placement

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Store is what placement needs of the store.
type Store interface {
	sandbox.Placements
	Nodes(ctx context.Context) ([]node.Node, error)
	Now(ctx context.Context) (time.Time, error)
}

// Config of placement.
type Config struct {
	// Wait is how long a sandbox may wait for room before its create fails.
	Wait time.Duration
	// RetainFailed is how long a failed create is shown.
	RetainFailed time.Duration
	// Ports are the container ports that each sandbox gets a port of the node for.
	Ports []int
	// DefaultRequest is reserved for a sandbox that asks for no reservation.
	DefaultRequest sandbox.Resources
}

// Candidates is how many nodes the store is asked to try for one sandbox.
const Candidates = 8

const (
	batch = 100
	// retry is the pause before a sandbox that found no room is tried again.
	retry = 250 * time.Millisecond
)

// Placer is a step function. Step must not be called concurrently.
type Placer struct {
	store Store
	cfg   Config
	log   *slog.Logger
	rand  *rand.Rand
}

// New returns a Placer. random decides between equal nodes.
func New(store Store, cfg Config, random *rand.Rand, log *slog.Logger) *Placer {
	return &Placer{store: store, cfg: cfg, rand: random, log: log}
}

// Step places what is unplaced and returns when to try again what found no room; zero when everything found some.
func (p *Placer) Step(ctx context.Context) (time.Time, error) {
	records, err := p.store.Unplaced(ctx, batch)
	if err != nil || len(records) == 0 {
		return time.Time{}, err
	}
	nodes, err := p.store.Nodes(ctx)
	if err != nil {
		return time.Time{}, err
	}
	now, err := p.store.Now(ctx)
	if err != nil {
		return time.Time{}, err
	}
	candidates := p.rank(nodes, now)
	var wake time.Time
	for i := range records {
		waiting, err := p.place(ctx, &records[i], candidates, now)
		if err != nil {
			return time.Time{}, err
		}
		if waiting {
			wake = now.Add(retry)
		}
	}
	if len(records) == batch && wake.IsZero() {
		wake = now
	}
	return wake, nil
}

func (p *Placer) place(ctx context.Context, r *sandbox.Record, candidates []sandbox.Candidate, now time.Time) (waiting bool, err error) {
	reserve := r.Spec.Requests
	if reserve == (sandbox.Resources{}) {
		reserve = p.cfg.DefaultRequest
	}
	_, err = p.store.Place(ctx, sandbox.PlaceRequest{ID: r.ID, Candidates: candidates, Ports: p.cfg.Ports, Reserve: reserve})
	switch {
	case err == nil, sandbox.IsStale(err), fault.Is(err, fault.NotFound):
		return false, nil // placed, by us or by another scheduler, or not wanted any more
	case fault.CodeOf(err) != sandbox.ReasonNoCapacity:
		return false, err
	case now.Before(r.CreatedAt.Add(p.cfg.Wait)):
		return true, nil
	}
	p.log.WarnContext(ctx, "no node has room", "sandbox", r.ID, "why", fault.TextOf(err))
	_, err = p.store.FailUnplaced(ctx, r.ID, sandbox.Failure{Reason: sandbox.ReasonNoCapacity, Message: fault.TextOf(err), RetainFor: p.cfg.RetainFailed})
	if sandbox.IsStale(err) || fault.Is(err, fault.NotFound) {
		err = nil
	}
	return false, err
}

// rank returns the nodes that may take a sandbox, in an order that spreads load.
func (p *Placer) rank(nodes []node.Node, now time.Time) []sandbox.Candidate {
	var out []sandbox.Candidate
	for _, n := range nodes {
		if n.Draining || !n.Live(now) {
			continue
		}
		out = append(out, sandbox.Candidate{Node: n.Name, Capacity: n.Capacity, MaxSandboxes: n.MaxSandboxes, PortMin: n.PortMin, PortMax: n.PortMax})
	}
	p.rand.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:min(len(out), Candidates)]
}
