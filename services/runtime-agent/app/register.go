package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/recovery"
)

// registered is what the state directory keeps of the last registration that was made from it.
type registered struct {
	Node     string `json:"node"`
	EngineID string `json:"engineId"`
	Session  uint64 `json:"session"`
}

const registeredFile = "registered.json"

// register gives this process the node, or says what stands in the way and what to do about it.
func (a *Agent) register(ctx context.Context, facts executor.Facts) (node.Node, error) {
	// Before anything else is read or written by this node: a store that has gone back must not be believed.
	if _, err := a.recovery.Look(ctx); err != nil {
		return node.Node{}, err
	}
	all, err := a.deps.Store.Nodes(ctx)
	if err != nil {
		return node.Node{}, fmt.Errorf("read the nodes: %w", err)
	}
	if err := a.otherEngine(ctx, all); err != nil {
		return node.Node{}, err
	}
	r := registration(a.cfg, a.engineID, facts)
	r.TakeOver = a.mayTakeOver(all)
	if last, err := a.last(); err == nil && last.Node == a.cfg.Node {
		r.After = last.Session // a store that was lost would give it again
		i := slices.IndexFunc(all, func(n node.Node) bool { return n.Name == a.cfg.Node })
		if i >= 0 && all[i].Session < last.Session {
			if err := a.recovery.Contradicted(ctx, "it knows an earlier session of this node"); err != nil {
				return node.Node{}, err
			}
		}
	}
	n, err := guardedRegistry{a.deps.Store, a.recovery}.Register(ctx, r)
	if fault.CodeOf(err) == node.CodeTaken {
		return n, a.taken(all, err)
	}
	if err != nil {
		return n, fmt.Errorf("register node %q: %w", a.cfg.Node, err)
	}
	if err := a.remember(registered{a.cfg.Node, a.engineID, n.Session}); err != nil {
		a.deps.Log.WarnContext(ctx, "cannot note the registration; after a crash the next start has to wait until the lease is over", "error", err)
	}
	return n, nil
}

func registration(cfg Config, engine string, f executor.Facts) node.Registration {
	return node.Registration{
		Name: cfg.Node, EngineID: engine, Capacity: cfg.Capacity, MaxSandboxes: cfg.MaxSandboxes, PortMin: cfg.PortMin, PortMax: cfg.PortMax,
		Host: cfg.Host, Address: cfg.Address, Labels: cfg.Labels, Platform: f.Platform, Runtimes: f.Runtimes,
	}
}

// mayTakeOver reports whether a lease that still runs must be that of an agent which is dead.
//
// The lock on the state directory alone does not say so: an agent on another machine may have the same name and a state directory of its
// own. So the lease must have been taken for the engine that this agent drives, by the last registration that was made from this very
// directory. A store that belongs to this process alone leaves no room for another agent.
func (a *Agent) mayTakeOver(all []node.Node) bool {
	if a.cfg.NodeLostAfter == 0 {
		return true
	}
	last, err := a.last()
	if err != nil {
		a.deps.Log.Warn("the note of the last registration cannot be read; it is ignored", "error", err)
		return false
	}
	return slices.ContainsFunc(all, func(n node.Node) bool {
		return n.Name == a.cfg.Node && n.EngineID == a.engineID && last == registered{n.Name, n.EngineID, n.Session}
	})
}

// otherEngine refuses to give a node another engine while it has sandboxes: this agent would find none of them, and call them lost, while
// they may be running on the engine that they were made on.
func (a *Agent) otherEngine(ctx context.Context, all []node.Node) error {
	i := slices.IndexFunc(all, func(n node.Node) bool { return n.Name == a.cfg.Node })
	if a.cfg.NodeLostAfter == 0 || i < 0 || all[i].EngineID == "" || all[i].EngineID == a.engineID {
		return nil
	}
	records, err := a.deps.Store.OnNode(ctx, a.cfg.Node)
	if err != nil {
		return fmt.Errorf("read the sandboxes of node %q: %w", a.cfg.Node, err)
	}
	if len(records) == 0 {
		return nil
	}
	return fmt.Errorf("node %q has %d sandboxes on another container engine (%s) than the one that this agent drives (%s): "+
		"give this agent a name of its own (agent.node), or let it drive that engine, or give those sandboxes up first: opensandbox-agent remove --yes %s",
		a.cfg.Node, len(records), all[i].EngineID, a.engineID, a.cfg.Node)
}

// taken says what to do about another live agent.
func (a *Agent) taken(all []node.Node, err error) error {
	for _, n := range all {
		if n.EngineID == a.engineID && n.Name != a.cfg.Node {
			return fmt.Errorf("the container engine is driven by the agent of node %q already, and one engine never has two: stop that agent, "+
				"or let this one drive another engine (DOCKER_HOST); if it has died, try again in %s, when its lease is over: %w", n.Name, node.LeaseTime, err)
		}
	}
	return fmt.Errorf("there is a live agent of node %q already: give this one a name of its own (agent.node), or stop the other; "+
		"if it has died, try again in %s, when its lease is over: %w", a.cfg.Node, node.LeaseTime, err)
}

func (a *Agent) last() (registered, error) {
	var r registered
	b, err := os.ReadFile(filepath.Join(a.cfg.StateDir, registeredFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	return r, err
}

func (a *Agent) remember(r registered) error {
	return writeJSON(filepath.Join(a.cfg.StateDir, registeredFile), r)
}

// dismissed deals with the end of this process's right to the node, and says what has happened. What runs on a node that was removed is
// given up, and nobody else will stop it; what another agent of the node has taken over is that agent's.
func (a *Agent) dismissed(ctx context.Context, cause error) error {
	if !sandbox.IsStale(cause) {
		return fmt.Errorf("%w; it was removed and forgotten, or the store was lost. Start the agent again to register the node anew", cause)
	}
	if a.recovery.WentBack(ctx) {
		return fmt.Errorf("the store has gone back to an older state, and knows an earlier session of node %q; start the agent again to report to it: %w", a.cfg.Node, cause)
	}
	all, err := a.deps.Store.Nodes(ctx)
	if err != nil {
		return errors.Join(cause, err)
	}
	var mine node.Node
	for _, n := range all {
		if n.EngineID == a.engineID {
			return fmt.Errorf("another agent, of node %q, drives the container engine now: %w", n.Name, cause)
		}
		if n.Name == a.cfg.Node {
			mine = n
		}
	}
	if mine.Name == "" {
		return cause
	}
	a.lease.End()
	if err := a.conv.StopAll(ctx); err != nil { // and not CutOff, which leaves the work to one that has begun it
		return errors.Join(fmt.Errorf("node %q was removed, and its sandboxes could not be stopped", a.cfg.Node), err, cause)
	}
	return fmt.Errorf("node %q was removed or given another container engine; the sandboxes that ran here were stopped. "+
		"Start the agent again to make it an ordinary node: %w", a.cfg.Node, cause)
}

// guardedRegistry registers and renews only with a store that is not behind what the agent has seen of it.
type guardedRegistry struct {
	node.Registry
	guard *recovery.Guard
}

// Register implements node.Registry.
func (g guardedRegistry) Register(ctx context.Context, r node.Registration) (n node.Node, err error) {
	err = g.guard.Guarded(ctx, func(ctx context.Context) (err error) {
		n, err = g.Registry.Register(ctx, r)
		return err
	})
	return n, err
}

// RenewLease implements node.Registry.
func (g guardedRegistry) RenewLease(ctx context.Context, name string, session uint64) error {
	return g.guard.Guarded(ctx, func(ctx context.Context) error { return g.Registry.RenewLease(ctx, name, session) })
}
