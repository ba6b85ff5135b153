// Package node is the registry of the machines (or clusters) that run sandboxes: who they are, what they can hold, and whether
// their agent is alive.
package node

import (
	"context"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Node is one runtime with its agent.
type Node struct {
	// Name is unique in the installation, and so is EngineID: two agents never drive one engine.
	Name     string `json:"name"`
	EngineID string `json:"engineId"`
	// Session counts the starts of the agent; observations of an older one are refused.
	Session uint64 `json:"session"`
	// LeaseUntil is when the node counts as unreachable unless its agent renews.
	LeaseUntil time.Time `json:"leaseUntil"`
	// Draining nodes get no new sandboxes.
	Draining bool `json:"draining,omitempty"`
	// Capacity bounds the reservations; a zero field means no bound.
	Capacity sandbox.Resources `json:"capacity,omitzero"`
	// MaxSandboxes bounds the number of sandboxes; 0 means no bound.
	MaxSandboxes int `json:"maxSandboxes,omitempty"`
	// PortMin and PortMax bound the ports that may be leased, both inclusive.
	PortMin int `json:"portMin"`
	PortMax int `json:"portMax"`
	// Host is the address at which clients reach the leased ports; empty means the host of the server.
	Host string `json:"host,omitempty"`
}

// Live reports whether the agent's lease is running at now.
func (n *Node) Live(now time.Time) bool { return now.Before(n.LeaseUntil) }

// LeaseTime is how long a registration or renewal lasts. Agents renew every third of it.
const LeaseTime = 15 * time.Second

// Registration is what an agent says of itself at its start.
type Registration struct {
	Name, EngineID   string
	Capacity         sandbox.Resources
	MaxSandboxes     int
	PortMin, PortMax int
	Host             string
	// TakeOver says that the caller holds the lock on the node's state directory, so that an earlier agent of that node must be
	// dead although its lease may still run.
	TakeOver bool
}

// CodeTaken is the wire code of a registration that another live agent stands in the way of.
const CodeTaken = "NODE::TAKEN"

// ErrTaken returns the error for a name or an engine that another live agent holds.
func ErrTaken(what, name string) error {
	return fault.Newf(fault.Conflict, "%s %q is in use by another live agent", what, name).WithCode(CodeTaken)
}

// Registry is implemented by the stores. All methods may be called concurrently.
type Registry interface {
	// Register gives the node a new session, higher than any before, and a lease. ErrTaken when another live agent holds the
	// name (unless TakeOver) or the engine under another name.
	Register(ctx context.Context, r Registration) (Node, error)
	// RenewLease extends the lease, also one that has run out. sandbox.ErrStale when the session is not the present one,
	// fault.NotFound for an unknown node. (Not called Renew: one store implements this port and sandbox.Intents.)
	RenewLease(ctx context.Context, name string, session uint64) error
	// Release ends the lease at once, for an orderly stop. A stale session changes nothing.
	Release(ctx context.Context, name string, session uint64) error
	// SetDraining stops or allows placement on the node.
	SetDraining(ctx context.Context, name string, draining bool) error
	// Nodes returns all nodes, by name.
	Nodes(ctx context.Context) ([]Node, error)
}
