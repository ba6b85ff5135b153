//go:build e2e && sabotage

package acceptance

import (
	"errors"
	"net/http"
	"time"

	"opensandbox/libs/sabotage"
	"opensandbox/libs/sandbox"
)

// operation is something that is done to a platform, with the steps that it takes and with what holds whoever dies meanwhile.
type operation struct {
	name string
	// extra and env are configuration.
	extra string
	env   []string
	// prepare makes what is needed before; nil: nothing is.
	prepare func(x *matrix, s *subject)
	// do begins the operation. It runs beside the test, and must not fail it.
	do func(x *matrix, s *subject)
	// process takes the place of do in what is done with a process itself. It calls order when that may be obeyed.
	process func(x *matrix, p *program, order func())
	// still is called while the process has ended, or stands still; nil: nothing happens then.
	still func(s *subject)
	// holds waits until the operation has come to its end, and fails the test if that is not one of those that are promised.
	holds func(x *matrix, s *subject)
	// replaced takes the place of holds where the sandbox may have been placed anew; nil: the same holds.
	replaced func(x *matrix, s *subject)
	steps    []stepBy
	// lingers says that what a killed process has left goes later by itself.
	lingers bool
	// loose says that more steps may be reached than are in the table.
	loose bool
	// single says that the split services have another test of it, or none of their own.
	single bool
	// split says that a single binary cannot have it.
	split bool
}

// stepBy is one step of an operation, and the kind of the split services that takes it. only is set if one moment is never reached.
type stepBy struct {
	by   string
	step sabotage.Step
	only sabotage.Moment
	// split says that the single binary, which has only the agent that is in it, does not take the step.
	split bool
}

// subject is what an operation is carried out on.
type subject struct {
	// name is in the metadata of its sandbox.
	name   string
	id     string
	answer answer
	err    error
	at     time.Time
	// url and header reach the daemon in it; of url only the host may be set.
	url    string
	header []string
	// vacate gives the ports of the node free that somebody else has.
	vacate func()
}

// answered says that the request of the operation was answered as it should be.
func (s *subject) answered(status int) bool { return s.err == nil && s.answer.status == status }

// excused are the steps that no operation reaches, with the reason.
var excused = map[sabotage.Step]string{
	sabotage.StorePurge:      "an hour after the end; it changes nothing that anybody sees",
	sabotage.NodeSetDraining: "a command of an operator, who sees that it did not end",
	sabotage.NodeRemove:      "a command of an operator, who sees that it did not end",
	sabotage.NodeForget:      "a command of an operator, who sees that it did not end",

	sabotage.StoreReport(sandbox.StatePending):  "a text for people while an image is pulled",
	sabotage.StoreReport(sandbox.StatePausing):  "no agent reports it",
	sabotage.StoreReport(sandbox.StateResuming): "no agent reports it",
	sabotage.StoreReport(sandbox.StateStopping): "no agent reports it",

	sabotage.EngineCreateNetwork: "only where the engine's own network cannot be guarded",
	sabotage.EngineRemoveNetwork: "only where the engine's own network cannot be guarded",
	sabotage.EngineRemoveImage:   "takes away the daemon of an earlier version; what stays is found at the next start",
}

// makes makes a sandbox for a case, with changes, that runs.
func (x *matrix) makes(s *subject, change m) {
	x.t.Helper()
	change["metadata"] = m{"case": s.name, "note": "old"}
	change = x.mayBeReplaced(change)
	// The only process may have stood still in the case before: until the lease of its node is renewed there is no node.
	x.eventually("a sandbox can be made for the next case", func() bool {
		a := x.do("POST", "/v1/sandboxes", spec(change))
		s.id = a.text("id")
		return a.status == http.StatusAccepted
	})
	x.runs(s.id)
}

// mayBeReplaced adds to a create what the platform is to do with the sandbox if its node is lost.
func (x *matrix) mayBeReplaced(change m) m {
	if x.replace {
		change["extensions"] = m{"node.lost": "replace"}
	}
	return change
}

func operations() []operation {
	return []operation{
		createOperation(), partOperation(), failedCreateOperation(), unplaceableOperation(), deleteOperation(), pauseOperation(), resumeOperation(), renewOperation(),
		extendOperation(), patchOperation(), expireOperation(), exitOperation(), restartOperation(), stopOperation(), lostStoreOperation(),
		lostNodeOperation(), takenPortOperation(),
	}
}

// partOf is a part of a volume of the engine that goes with its sandbox: the agent makes such a volume before the container.
func partOf(name string) m {
	v := claim(name)
	v["subPath"] = "part"
	return v
}

// createOperation makes a sandbox with a volume of its own.
func createOperation() operation {
	return operation{
		name:  "create",
		do:    func(x *matrix, s *subject) { s.answer, s.err = x.creates(s, claim("claim-"+s.name)) },
		holds: func(x *matrix, s *subject) { x.t.Helper(); x.created(s, claim("claim-"+s.name)) },
		steps: creation(),
	}
}

// partOperation makes a sandbox with a part of a volume: an old engine needs the agent's help for that, on the agent's own machine.
func partOperation() operation {
	return operation{
		name: "create with a part of a volume", single: true,
		do:    func(x *matrix, s *subject) { s.answer, s.err = x.creates(s, partOf("claim-"+s.name)) },
		holds: func(x *matrix, s *subject) { x.t.Helper(); x.created(s, partOf("claim-"+s.name)) },
		steps: append(creation(), stepBy{by: "agent", step: sabotage.EngineCreateVolume}),
	}
}

// creates asks for a sandbox, and may be repeated.
func (x *matrix) creates(s *subject, volume m) (answer, error) {
	return x.try("POST", "/v1/sandboxes", spec(x.mayBeReplaced(m{"metadata": m{"case": s.name}, "volumes": []m{volume}})), "Idempotency-Key", s.name)
}

// created checks what has become of that.
func (x *matrix) created(s *subject, volume m) {
	x.t.Helper()
	var again answer
	var err error
	// 503 says that it may be repeated: a process that has stood still finds that its own lease is over, and that there is no node.
	x.eventually("the create can be repeated", func() bool {
		again, err = x.creates(s, volume)
		return err != nil || again.status != http.StatusServiceUnavailable
	})
	if err != nil || again.status != http.StatusAccepted {
		x.t.Errorf("the repeated create: %v, %v", again, err)
		return
	}
	id := again.text("id")
	if s.answered(http.StatusAccepted) && s.answer.text("id") != id {
		x.t.Errorf("the create was answered with %s, and repeated with %s", s.answer.text("id"), id)
	}
	if items := x.items("metadata=case%3D" + s.name); len(items) != 1 || items[0]["id"] != id {
		x.t.Errorf("the create has made %v, want %s alone", ids(items), id)
	}
	x.runs(id)
	if out := output(x.shell(id, "echo made"), "stdout"); out != "made\n" {
		x.t.Errorf("in the sandbox that was made: %q", out)
	}
}

func creation() []stepBy {
	return []stepBy{
		{by: "api", step: sabotage.StoreInsert}, {by: "scheduler", step: sabotage.StorePlace}, {by: "agent", step: sabotage.ExecutorEnsureImage},
		{by: "agent", step: sabotage.ExecutorCreate}, {by: "agent", step: sabotage.EngineCreateContainer}, {by: "agent", step: sabotage.ExecutorStart},
		{by: "agent", step: sabotage.EngineStartContainer}, {by: "agent", step: sabotage.StoreReport(sandbox.StateRunning)}, {by: "api", step: sabotage.StoreAccept},
	}
}

func deleteOperation() operation {
	return operation{
		name: "delete",
		prepare: func(x *matrix, s *subject) {
			x.makes(s, m{"volumes": []m{claim("claim-" + s.name)}})
		},
		do: func(x *matrix, s *subject) { s.answer, s.err = x.try("DELETE", "/v1/sandboxes/"+s.id, nil) },
		holds: func(x *matrix, s *subject) {
			x.t.Helper()
			if !s.answered(http.StatusNoContent) {
				// 503 says that an engine which is busy has not removed it yet.
				x.eventually("the repeated delete is answered", func() bool {
					again := x.do("DELETE", "/v1/sandboxes/"+s.id, nil)
					return again.status == http.StatusNoContent || again.status == http.StatusNotFound
				})
			}
			x.eventually("what was deleted is gone", func() bool { return x.state(s.id) == "404" })
			x.noVolumes("after the delete")
		},
		steps: append([]stepBy{{by: "api", step: sabotage.StoreSetGone}, {by: "agent", step: sabotage.EngineRemoveVolume}}, removal()...),
	}
}

// removal are the steps of an agent that removes a sandbox which runs.
func removal() []stepBy {
	return []stepBy{
		{by: "agent", step: sabotage.ExecutorKill}, {by: "agent", step: sabotage.EngineKillContainer}, {by: "agent", step: sabotage.ExecutorRemove},
		{by: "agent", step: sabotage.EngineRemoveContainer}, {by: "agent", step: sabotage.StoreCleaned},
	}
}

// moved checks a pause or a resume: it has come to one of both ends, and a repetition brings it to the right one.
func moved(x *matrix, s *subject, verb, from, to string) {
	x.t.Helper()
	var state string
	x.eventually("the "+verb+" comes to an end", func() bool {
		state = x.state(s.id)
		return state == from || state == to
	})
	if s.answered(http.StatusAccepted) && state != to {
		x.t.Errorf("the %s was answered, and the sandbox is %s", verb, state)
	}
	if state == from {
		x.moves(s, verb, to)
	}
}

// moves repeats a pause or a resume until it is carried out: an engine that is busy may not manage to freeze a sandbox, and says so.
func (x *matrix) moves(s *subject, verb, to string) {
	x.t.Helper()
	x.eventually("a "+verb+" is carried out", func() bool {
		a := x.do("POST", "/v1/sandboxes/"+s.id+"/"+verb, nil)
		if a.status != http.StatusAccepted {
			x.t.Logf("%s: %v", verb, a)
		}
		return x.state(s.id) == to
	})
}

func pauseOperation() operation {
	return operation{
		name:    "pause",
		prepare: func(x *matrix, s *subject) { x.makes(s, m{}) },
		do:      func(x *matrix, s *subject) { s.answer, s.err = x.try("POST", "/v1/sandboxes/"+s.id+"/pause", nil) },
		holds:   func(x *matrix, s *subject) { x.t.Helper(); moved(x, s, "pause", "Running", "Paused") },
		replaced: func(x *matrix, s *subject) {
			x.t.Helper()
			x.runs(s.id) // also if the pause was answered: what is placed anew runs
			x.moves(s, "pause", "Paused")
		},
		steps: []stepBy{
			{by: "api", step: sabotage.StoreSetDesired}, {by: "agent", step: sabotage.ExecutorPause}, {by: "agent", step: sabotage.EnginePauseContainer},
			{by: "agent", step: sabotage.StoreReport(sandbox.StatePaused)},
		},
	}
}

func resumeOperation() operation {
	return operation{
		name: "resume",
		prepare: func(x *matrix, s *subject) {
			x.makes(s, m{})
			x.moves(s, "pause", "Paused")
		},
		do: func(x *matrix, s *subject) { s.answer, s.err = x.try("POST", "/v1/sandboxes/"+s.id+"/resume", nil) },
		holds: func(x *matrix, s *subject) {
			x.t.Helper()
			moved(x, s, "resume", "Paused", "Running")
			if out := output(x.shell(s.id, "echo on"), "stdout"); out != "on\n" {
				x.t.Errorf("after the resume: %q", out)
			}
		},
		steps: []stepBy{
			{by: "api", step: sabotage.StoreSetDesired}, {by: "agent", step: sabotage.ExecutorUnpause}, {by: "agent", step: sabotage.EngineUnpauseContainer},
			{by: "agent", step: sabotage.StoreReport(sandbox.StateRunning)},
		},
	}
}

func renewOperation() operation {
	before := func(x *matrix, s *subject) string {
		x.t.Helper()
		at, _ := x.do("GET", "/v1/sandboxes/"+s.id, nil).json(x.t)["expiresAt"].(string)
		return at
	}
	return operation{
		name: "renew",
		prepare: func(x *matrix, s *subject) {
			x.makes(s, m{})
			s.at = time.Now().Add(2 * time.Hour).UTC().Truncate(time.Second)
		},
		do: func(x *matrix, s *subject) {
			s.answer, s.err = x.try("POST", "/v1/sandboxes/"+s.id+"/renew-expiration", m{"expiresAt": s.at.Format(time.RFC3339)})
		},
		holds: func(x *matrix, s *subject) {
			x.t.Helper()
			is, err := time.Parse(time.RFC3339, before(x, s))
			if renewed := err == nil && is.Equal(s.at); s.answered(http.StatusOK) && !renewed {
				x.t.Errorf("the renewal to %v was answered, and the deadline is %v, %v", s.at, is, err)
			} else if first := time.Now().Add(15 * time.Minute); !renewed && (err != nil || is.After(first)) {
				x.t.Errorf("the deadline is %v (%v), neither the one before nor the renewed one %v", is, err, s.at)
			}
			x.renew(s.id, s.at)
			if got := before(x, s); got != s.at.Format(time.RFC3339) {
				x.t.Errorf("the deadline is %s after the repeated renewal, want %v", got, s.at)
			}
		},
		steps: []stepBy{{by: "api", step: sabotage.StoreRenew}, {by: "agent", step: sabotage.StoreMirrored}},
	}
}

func patchOperation() operation {
	shows := func(x *matrix, s *subject) any {
		x.t.Helper()
		return x.do("GET", "/v1/sandboxes/"+s.id, nil).json(x.t)["metadata"].(m)["note"]
	}
	patch := func(x *matrix, s *subject) (answer, error) {
		return x.try("PATCH", "/v1/sandboxes/"+s.id+"/metadata", m{"note": "new"})
	}
	return operation{
		name:    "patch of metadata",
		prepare: func(x *matrix, s *subject) { x.makes(s, m{}) },
		do:      func(x *matrix, s *subject) { s.answer, s.err = patch(x, s) },
		holds: func(x *matrix, s *subject) {
			x.t.Helper()
			if got := shows(x, s); got != "new" && (got != "old" || s.answered(http.StatusOK)) {
				x.t.Errorf("the metadata is %v; the patch was answered with %v, %v", got, s.answer, s.err)
			}
			if a, err := patch(x, s); err != nil || a.status != http.StatusOK || shows(x, s) != "new" {
				x.t.Errorf("the repeated patch: %v, %v; it shows %v", a, err, shows(x, s))
			}
		},
		steps: []stepBy{{by: "api", step: sabotage.StorePatchMetadata}, {by: "agent", step: sabotage.StoreMirrored}},
	}
}

func expireOperation() operation {
	return operation{
		name: "expire",
		prepare: func(x *matrix, s *subject) {
			x.makes(s, m{})
			s.at = time.Now().Add(2 * time.Second)
			x.renew(s.id, s.at)
		},
		do: func(x *matrix, s *subject) {
			for time.Now().Before(s.at.Add(-20 * time.Millisecond)) {
				a, err := x.try("GET", "/v1/sandboxes/"+s.id, nil)
				if err == nil && a.status == http.StatusNotFound && time.Now().Before(s.at) {
					s.err = errEarly
					return
				}
				waitABit()
			}
		},
		holds: func(x *matrix, s *subject) {
			x.t.Helper()
			if s.err != nil {
				x.t.Error(s.err)
			}
			x.eventually("what was due is gone", func() bool { return x.state(s.id) == "404" })
		},
		steps: append([]stepBy{{by: "scheduler", step: sabotage.StoreExpireDue}}, removal()...),
	}
}

// errEarly is found by an operation that must not fail the test itself.
var errEarly = errors.New("the sandbox has ended before its deadline")
