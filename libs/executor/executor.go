// Package executor is the port to a runtime: what an agent needs of a container engine, in the words of sandboxes.
//
// Every call can be repeated: an agent that died between two calls does the whole step again. Errors are classified with
// package fault: Unavailable means that the engine is away and nothing is known; NotFound and Conflict mean what each method
// says; Invalid means that the sandbox can never run as it was asked for, and its text may be shown to the client; anything else
// is an unexpected failure of this one call.
package executor

import (
	"context"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Ref names one incarnation: what carries the same id with another epoch is something else.
type Ref struct {
	ID    sandbox.ID
	Epoch uint64
}

// Plan is all that a runtime needs to make a sandbox. It is derived from a record and never changes for a Ref, except for a port that is leased
// in place of one that somebody else has bound.
type Plan struct {
	Ref
	Tenant    string
	CreatedAt time.Time
	// Deadline is the first one; it is written to the engine for tools and for recovery, and is not obeyed there.
	Deadline   time.Time
	Image      string
	Entrypoint []string
	Env        map[string]string
	// Unset are names that the environment of all sandboxes may have, and this one shall not.
	Unset  []string
	Limits sandbox.Resources
	// GPUs is how many the sandbox gets; sandbox.AllGPUs means all.
	GPUs int
	// Volumes are mounted. Those of the runtime that are made for this Ref, and shall go with it, carry its id and epoch.
	Volumes []sandbox.Volume
	// Runtime is the isolation runtime of the engine, such as runsc; empty: the engine's default.
	Runtime string
	// Platform is os/arch of the image, such as linux/arm64; empty: the engine's own.
	Platform string
	// Ports maps a container port to the leased port of the node.
	Ports map[int]int
	// Token guards the daemon inside the sandbox. It must not become readable through the engine: no label, environment or image.
	Token string
}

// Image is an image that a sandbox is made from.
type Image struct {
	// Name is the reference, as the client wrote it.
	Name string
	// Platform is os/arch, such as linux/arm64; empty: the engine's own.
	Platform string
	// Credentials are shown to the registry if the image has to be pulled; the zero value means none.
	Credentials sandbox.Credentials
}

// Phase is how far the engine has come with an incarnation.
type Phase string

// The phases.
const (
	Created Phase = "created"
	Running Phase = "running"
	Paused  Phase = "paused"
	// Exited: the entry point has ended; the container is still there.
	Exited Phase = "exited"
	// Removing: on its way out; neither usable nor gone.
	Removing Phase = "removing"
	// Leftover: there is no container, only something that was made for it, such as a volume. Only List tells of it.
	Leftover Phase = "leftover"
)

// Instance is what the engine has for an incarnation.
type Instance struct {
	Ref
	// Tenant is that of the record, as labelled.
	Tenant string
	// CreatedAt is the creation time of the record, as labelled.
	CreatedAt time.Time
	// Deadline is the first deadline, as labelled; zero means none.
	Deadline time.Time
	Phase    Phase
	// ExitCode is meaningful when Exited. 255 is what an engine reports for a process that it lost while it was away itself.
	ExitCode  int
	OOMKilled bool
	// StartedAt is zero for a container that never ran: one that is Exited then failed to start.
	StartedAt  time.Time
	FinishedAt time.Time
	Addresses  sandbox.Addresses
	// Image, Limits and Published, which maps a container port to the one of the node, are what the engine was told at the creation.
	// Inspect fills them; List need not.
	Image     string
	Limits    sandbox.Resources
	Published map[int]int
}

// Wire codes and helpers for the errors that agents treat in their own way.
const (
	// CodePortTaken: a leased port is bound by somebody else. The error says which one through PortOf.
	CodePortTaken = "EXECUTOR::PORT_TAKEN"
	// CodeImage: the image does not exist or may not be pulled.
	CodeImage = "DOCKER::SANDBOX_IMAGE_PULL_FAILED"
	// CodeStart: the engine refused to create or start the container.
	CodeStart = "DOCKER::SANDBOX_START_FAILED"
	// CodeHostNetwork: sandboxes use the network of the node, and another one has it.
	CodeHostNetwork = "SANDBOX::HOST_NETWORK_IN_USE"
)

// PortTaken is the cause inside an error with CodePortTaken.
type PortTaken struct {
	ContainerPort, HostPort int
}

// Error names the port.
func (p PortTaken) Error() string { return "the leased port is in use by another process" }

// ErrPortTaken returns the error for a leased port that could not be bound.
func ErrPortTaken(containerPort, hostPort int) error {
	return fault.New(fault.Unavailable, "a port of the node is in use by another process").WithCode(CodePortTaken).
		Because(PortTaken{containerPort, hostPort})
}

// Executor drives one runtime. All methods are safe for concurrent use; calls for one id are made one after the other.
type Executor interface {
	// Name tells which engine this is; it stays the same for the life of the engine's data.
	EngineID(ctx context.Context) (string, error)
	// EnsureImage makes the image present, pulling it if the engine does not have it. Concurrent calls for one image share the pull, but
	// never with other credentials, and a caller that gives up does not stop it for the others. progress is called with short texts for
	// people, not after the return, and only if there is something to pull. fault.Invalid with CodeImage when there is no such image or
	// it may not be pulled. No error has any of the credentials in it.
	EnsureImage(ctx context.Context, img Image, progress func(string)) error
	// Create makes the container, not started, and what it needs that is missing. fault.Conflict when one with this id exists, whatever
	// its epoch; fault.Invalid when the engine refuses the plan; fault.NotFound when the image is missing. An error of a volume has a
	// wire code of package sandbox, and one with CodeHostNetwork says that there is no room for a second sandbox. What was made before an
	// error is a Leftover, which Remove removes.
	Create(ctx context.Context, p Plan) error
	// Start starts a created container and delivers the token. Success when it runs already. ErrPortTaken when a leased port cannot
	// be bound (the container is left Created and must be removed); fault.Invalid when the entry point cannot be run.
	Start(ctx context.Context, p Plan) error
	// Inspect looks at what carries the id, whatever its epoch. fault.NotFound when there is nothing.
	Inspect(ctx context.Context, id sandbox.ID) (Instance, error)
	// List returns everything of this installation and node that the engine has, in any phase, and each Leftover that nothing uses.
	List(ctx context.Context) ([]Instance, error)
	// Ready asks the daemon inside once whether it answers. nil means yes; fault.Unavailable: not yet.
	Ready(ctx context.Context, in Instance) error
	// Kill ends all processes with SIGKILL at once, also of a paused sandbox. Success when nothing runs, or nothing is there.
	Kill(ctx context.Context, r Ref) error
	// Remove removes the incarnation and all that was made for it, also when only that is left. Success when nothing is there; an
	// incarnation with another epoch is left alone. A volume that others use stays, and is a Leftover once nothing uses it.
	Remove(ctx context.Context, r Ref) error
}

// Pauser is an Executor that can freeze a sandbox.
type Pauser interface {
	// Pause freezes all processes. Success when they are frozen; fault.Conflict when the sandbox does not run.
	Pause(ctx context.Context, r Ref) error
	// Unpause goes on. Success when it runs; fault.Conflict when the entry point has ended.
	Unpause(ctx context.Context, r Ref) error
}

// LogReader is an Executor that keeps what the entry point writes.
type LogReader interface {
	// Tail returns up to n last lines of stdout and stderr together, bounded to 16 KiB. Nothing there gives no lines.
	Tail(ctx context.Context, r Ref, n int) ([]string, error)
}

// What has happened to a container.
const (
	ActionCreated = "created"
	ActionStarted = "started"
	ActionEnded   = "ended"
	ActionOOM     = "out of memory"
	ActionPaused  = "paused"
	ActionResumed = "resumed"
	ActionRemoved = "removed"
)

// Event says that something happened to an incarnation. It is a hint: a receiver that acts on it looks for itself. All but the Ref is for
// people.
type Event struct {
	Ref
	// At is the engine's time; Action is one of the constants above.
	At     time.Time
	Action string
	// ExitCode is set with ActionEnded.
	ExitCode *int
}

// Unasked reports whether what happened may have happened without anybody's doing through this port, so that somebody has to look.
func (e Event) Unasked() bool { return e.Action != ActionCreated && e.Action != ActionStarted }

// Watcher is an Executor that tells of changes that nobody asked it for, and of others.
type Watcher interface {
	// Watch calls fn for each event until ctx ends or the connection to the engine breaks; the error says which. ready is called
	// once events are being received, so that the caller can list without missing one.
	Watch(ctx context.Context, ready func(), fn func(Event)) error
}

// Facts are what an engine says of itself.
type Facts struct {
	// Platform is os/arch, in the words of Go: linux/amd64.
	Platform string
	// Runtimes are the isolation runtimes that a Plan may name, sorted.
	Runtimes []string
	// Images are the full references of what is present, such as docker.io/library/busybox:latest, sorted.
	Images []string
	// Host is where the engine publishes ports, if that is not the machine of the caller.
	Host string
	// CPUs is how many processors the engine's machine has; 0: not known.
	CPUs int
}

// Describer is an Executor that can tell what placement wants to know of its engine.
type Describer interface {
	Describe(ctx context.Context) (Facts, error)
}

// As returns e as the optional power T, such as Pauser. A decorator has the methods of all powers and a method Unwrap() Executor; it has a
// power only if what it is wrapped around has it.
func As[T any](e Executor) (T, bool) {
	power, ok := e.(T)
	for ok {
		w, wraps := e.(interface{ Unwrap() Executor })
		if !wraps {
			return power, true
		}
		e = w.Unwrap()
		_, ok = e.(T)
	}
	var none T
	return none, false
}
