// Package node is the registry of the machines (or clusters) that run sandboxes: who they are, what they can hold, and whether
// their agent is alive.
package node

import (
	"context"
	"maps"
	"slices"
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
	// Address is host:port of the agent's internal HTTP API; empty when it has none.
	Address string `json:"address,omitempty"`
	// Platform is os/arch of the engine; Runtimes are its isolation runtimes.
	Platform string   `json:"platform,omitempty"`
	Runtimes []string `json:"runtimes,omitempty"`
	// Labels are facts about the node that a sandbox may ask for.
	Labels map[string]string `json:"labels,omitempty"`
	// Images are the image references that the engine had when the agent last said so, sorted. They only make a node preferred.
	Images []string `json:"images,omitempty"`
	// Removed nodes do not come back: their sandboxes are given up at once. A new registration makes the node an ordinary one again.
	Removed bool `json:"removed,omitempty"`
}

// Registered returns what a registration makes of a node. session is higher than any before that the store knows of; a drain outlives the
// agent.
func Registered(r Registration, session uint64, draining bool, now time.Time) Node {
	session = max(session, r.After+1)
	return Node{
		Name: r.Name, EngineID: r.EngineID, Session: session, LeaseUntil: now.Add(LeaseTime), Draining: draining,
		Capacity: r.Capacity, MaxSandboxes: r.MaxSandboxes, PortMin: r.PortMin, PortMax: r.PortMax, Host: r.Host, Address: r.Address,
		Platform: r.Platform, Runtimes: slices.Clone(r.Runtimes), Labels: maps.Clone(r.Labels),
	}
}

// Remove makes the node one that does not come back.
func (n *Node) Remove(now time.Time) {
	n.Removed, n.EngineID = true, ""
	n.Session++
	if n.Live(now) {
		n.LeaseUntil = now
	}
}

// Clone returns a copy that shares nothing with n that a caller could change.
func (n Node) Clone() Node {
	n.Runtimes, n.Labels, n.Images = slices.Clone(n.Runtimes), maps.Clone(n.Labels), slices.Clone(n.Images)
	return n
}

// KeptImages are those of images that a node tells of: sorted, each once, at most MaxImages.
func KeptImages(images []string) []string {
	kept := slices.Compact(slices.Sorted(slices.Values(images)))
	return kept[:min(len(kept), MaxImages)]
}

// Lost reports whether the sandboxes of the node may be given up as far as its lease is concerned: it has run out, or the node was removed.
func (n *Node) Lost(now time.Time) bool { return n.Removed || !n.Live(now) }

// StillLost is Lost for a caller who has judged the node by a lease that ended at leaseUntil: a node that has renewed since is not lost, even
// if the new lease has run out, too.
func (n *Node) StillLost(leaseUntil, now time.Time) bool {
	return n.Removed || (!n.Live(now) && n.LeaseUntil.Equal(leaseUntil))
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
	Address          string
	Platform         string
	Runtimes         []string
	Labels           map[string]string
	// TakeOver says that the caller holds the lock on the node's state directory, so that an earlier agent of that node must be
	// dead although its lease may still run.
	TakeOver bool
	// After is a session that the node is known to have had: the new one is higher, also in a store that has gone back.
	After uint64
}

// MaxImages bounds the images that a node tells of.
const MaxImages = 256

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
	// SetDraining stops or allows placement on the node. fault.NotFound for an unknown node.
	SetDraining(ctx context.Context, name string, draining bool) error
	// SetImages notes which images the engine has, at most MaxImages; what is beyond is cut off. sandbox.ErrStale when the session is
	// not the present one.
	SetImages(ctx context.Context, name string, session uint64, images []string) error
	// Remove says that the node does not come back: its lease ends, its session is raised, so that an agent that still lives is refused,
	// and its sandboxes are given up. fault.NotFound for an unknown node.
	Remove(ctx context.Context, name string) error
	// Forget takes a removed node off the list. sandbox.ErrStale unless it is removed and nothing is placed on it.
	Forget(ctx context.Context, name string) error
	// Nodes returns all nodes, by name.
	Nodes(ctx context.Context) ([]Node, error)
}
