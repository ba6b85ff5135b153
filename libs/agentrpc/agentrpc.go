// Package agentrpc is how the api looks at sandboxes live, through the agent of their node: the port, an HTTP client and the handler on the
// agent's side. Only reads go this way; what shall be done goes through the store.
//
// Each call carries a signature made with the secret that the processes of an installation share. It proves who asks; it hides nothing and
// does not prove who answers, so the network between api and agents must be a trusted one.
package agentrpc

import (
	"context"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
)

// Ref names one incarnation of a sandbox, on the node that its record names.
type Ref struct {
	Node  string
	ID    sandbox.ID
	Epoch uint64
}

// RefOf returns the present incarnation of a record. Its node is empty while there is none.
func RefOf(r *sandbox.Record) Ref {
	return Ref{Node: r.Placement.Node, ID: r.ID, Epoch: r.Placement.Epoch}
}

// Bounds of what is asked for.
const (
	// MaxLines and MaxEvents bound an answer; a larger wish is cut to them.
	MaxLines  = 10_000
	MaxEvents = 50
)

// LiveReader looks at what the engine of a sandbox has at this moment. fault.NotFound when it has nothing for the incarnation;
// fault.Unavailable when the agent or its engine cannot be asked. Safe for concurrent use.
type LiveReader interface {
	// Logs returns up to n last lines that the entry point wrote. n is at least 1.
	Logs(ctx context.Context, r Ref, n int) ([]string, error)
	// Inspect returns what the engine says of the container.
	Inspect(ctx context.Context, r Ref) (Inspection, error)
	// Events returns up to n last things that happened to the container while the agent was looking, oldest first. n is at least 1.
	Events(ctx context.Context, r Ref, n int) ([]Event, error)
}

// Inspection is what an engine says of a container. Environment and access token are not in it, on purpose.
type Inspection struct {
	Phase executor.Phase `json:"phase"`
	Epoch uint64         `json:"epoch"`
	// ExitCode is set once the entry point has ended.
	ExitCode   *int              `json:"exitCode,omitempty"`
	OOMKilled  bool              `json:"oomKilled,omitempty"`
	StartedAt  time.Time         `json:"startedAt,omitzero"`
	FinishedAt time.Time         `json:"finishedAt,omitzero"`
	Addresses  sandbox.Addresses `json:"addresses,omitzero"`
	Image      string            `json:"image,omitempty"`
	Limits     sandbox.Resources `json:"limits,omitzero"`
}

// Event is something that happened to a container. Action is one of those in package executor.
type Event struct {
	At       time.Time `json:"at"`
	Action   string    `json:"action"`
	ExitCode *int      `json:"exitCode,omitempty"`
}

// The bodies of the answers.
type (
	logsAnswer struct {
		Lines []string `json:"lines"`
	}
	eventsAnswer struct {
		Events []Event `json:"events"`
	}
)
