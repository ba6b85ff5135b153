package sandbox

import (
	"slices"
	"time"
)

// State is what clients see. The strings are those of OpenSandbox 1.1.1.
type State string

// The states. Observed.State holds only Pending, Running, Paused, Terminated and Failed; the others follow from an intent that
// has not been carried out yet.
const (
	StatePending    State = "Pending"
	StateRunning    State = "Running"
	StatePausing    State = "Pausing"
	StatePaused     State = "Paused"
	StateResuming   State = "Resuming"
	StateStopping   State = "Stopping"
	StateTerminated State = "Terminated"
	StateFailed     State = "Failed"
)

// Reasons shown with a state. Those that start with CONTAINER_ are the ones of OpenSandbox 1.1.1.
const (
	ReasonScheduling        = "SCHEDULING"
	ReasonPulling           = "IMAGE_PULLING"
	ReasonStarting          = "CONTAINER_STARTING"
	ReasonRunning           = "CONTAINER_RUNNING"
	ReasonPaused            = "CONTAINER_PAUSED"
	ReasonExited            = "CONTAINER_EXITED"
	ReasonExitedError       = "CONTAINER_EXITED_ERROR"
	ReasonOOMKilled         = "CONTAINER_OOM_KILLED"
	ReasonContainerLost     = "CONTAINER_LOST"
	ReasonEngineRestarted   = "ENGINE_RESTARTED"
	ReasonNodeUnreachable   = "NODE_UNREACHABLE"
	ReasonNodeLost          = "NODE_LOST"
	ReasonNodeCutOff        = "NODE_CUT_OFF"
	ReasonNoCapacity        = "NO_CAPACITY"
	ReasonPauseFailed       = "PAUSE_FAILED"
	ReasonResumeFailed      = "RESUME_FAILED"
	ReasonImageUnavailable  = "IMAGE_UNAVAILABLE"
	ReasonEntrypointFailed  = "ENTRYPOINT_FAILED"
	ReasonCreateError       = "CREATE_ERROR"
	ReasonInvalidForRuntime = "INVALID_FOR_RUNTIME"
	ReasonExecdNotAnswering = "EXECD_NOT_ANSWERING"
	ReasonImagePullFailed   = "IMAGE_PULL_FAILED"
	ReasonEngineUnavailable = "ENGINE_UNAVAILABLE"
	ReasonHostNetworkInUse  = "HOST_NETWORK_IN_USE"
	ReasonStoreRecovered    = "STORE_RECOVERED"
	ReasonPortsInUse        = "PORTS_IN_USE"
)

// moves is the state machine as clients see it: from each state, the states that can follow at once. A read may skip steps
// that were too short to be seen; CanFollow takes that into account. Pending follows the others when a node is lost and its sandboxes
// are to be replaced.
var moves = map[State][]State{
	StatePending:    {StateRunning, StateFailed, StateTerminated, StateStopping},
	StateRunning:    {StatePausing, StateTerminated, StateFailed, StateStopping, StatePending},
	StatePausing:    {StatePaused, StateRunning, StateTerminated, StateFailed, StateStopping, StatePending},
	StatePaused:     {StateResuming, StateTerminated, StateFailed, StateStopping, StatePending},
	StateResuming:   {StateRunning, StatePaused, StateTerminated, StateFailed, StateStopping, StatePending},
	StateTerminated: {StateStopping},
	StateFailed:     {StateStopping},
	StateStopping:   {},
}

// States returns all states in a fixed order.
func States() []State {
	return []State{StatePending, StateRunning, StatePausing, StatePaused, StateResuming, StateStopping, StateTerminated, StateFailed}
}

// NextStates returns the states that can follow s at once.
func NextStates(s State) []State { return slices.Clone(moves[s]) }

// CanFollow reports whether a client that saw from may see to later, with any number of unseen steps between.
func CanFollow(from, to State) bool {
	seen := map[State]bool{from: true}
	queue := []State{from}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		if s == to {
			return true
		}
		for _, n := range moves[s] {
			if !seen[n] {
				seen[n] = true
				queue = append(queue, n)
			}
		}
	}
	return false
}

// Status is what clients are told about the state of a sandbox.
type Status struct {
	State   State
	Reason  string
	Message string
	// ChangedAt is the time of the last change that is known; zero if none is.
	ChangedAt time.Time
}

// Reachability says whether the node of a sandbox can be asked.
type Reachability int

// The node's reachability, as the scheduler knows it.
const (
	Reachable Reachability = iota
	Unreachable
)

// View returns what clients see: a pure function of the record and its node.
func View(r *Record, node Reachability) Status {
	o := r.Observed
	st := Status{State: StateOf(r), Reason: o.Reason, Message: o.Message, ChangedAt: o.At}
	if st.ChangedAt.IsZero() {
		st.ChangedAt = r.CreatedAt
	}
	switch st.State {
	case StateStopping:
		st.Reason, st.Message = r.Intent.Reason, ""
	case StatePending:
		if r.Placement.Node == "" {
			st.Reason = ReasonScheduling
		} else if st.Reason == "" {
			st.Reason = ReasonStarting
		}
	}
	if node == Unreachable && r.Placed() && st.State != StateFailed && st.State != StateTerminated {
		st.Reason, st.Message = ReasonNodeUnreachable, "the node of this sandbox does not answer; what is shown is its last known state"
	}
	return st
}

// StateOf returns the state that clients see. It depends on the record alone, so stores can index it.
func StateOf(r *Record) State {
	o := r.Observed
	switch {
	case r.Gone():
		return StateStopping
	case o.State == "" || o.Epoch != r.Placement.Epoch:
		return StatePending
	case o.Generation >= r.Intent.Generation:
		return o.State
	case o.State == StateRunning && r.Intent.Desired == DesiredPaused:
		return StatePausing
	case o.State == StatePaused && r.Intent.Desired == DesiredRunning:
		return StateResuming
	}
	return o.State
}
