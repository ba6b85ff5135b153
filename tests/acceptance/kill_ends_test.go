//go:build e2e && sabotage

package acceptance

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"opensandbox/libs/sabotage"
	"opensandbox/libs/sandbox"
	"opensandbox/tests/process"
)

// This file has the operations of the kill matrix in which something fails or ends, or happens without a request.

// failedCreateOperation is a create whose entry point cannot be started.
func failedCreateOperation() operation {
	return operation{
		name: "create that fails", lingers: true,
		do: func(x *matrix, s *subject) {
			s.answer, s.err = x.try("POST", "/v1/sandboxes", spec(x.mayBeReplaced(m{"metadata": m{"case": s.name}, "entrypoint": []string{"/no/such/program"}})))
		},
		holds: neverRuns,
		steps: []stepBy{
			{by: "api", step: sabotage.StoreInsert}, {by: "scheduler", step: sabotage.StorePlace}, {by: "agent", step: sabotage.ExecutorEnsureImage},
			{by: "agent", step: sabotage.ExecutorCreate}, {by: "agent", step: sabotage.EngineCreateContainer}, {by: "agent", step: sabotage.ExecutorStart},
			{by: "agent", step: sabotage.EngineStartContainer}, {by: "agent", step: sabotage.StoreReport(sandbox.StateFailed)},
			{by: "agent", step: sabotage.ExecutorRemove}, {by: "agent", step: sabotage.EngineRemoveContainer}, {by: "agent", step: sabotage.StoreCleaned},
			{by: "api", step: sabotage.StoreSetGone},
		},
	}
}

// unplaceableOperation is a create for which there is no node.
func unplaceableOperation() operation {
	return operation{
		name: "create without a node", lingers: true, env: []string{"OPENSANDBOX_SCHEDULER_PLACEMENT_WAIT_SECONDS=1"},
		do: func(x *matrix, s *subject) {
			s.answer, s.err = x.try("POST", "/v1/sandboxes", spec(m{"metadata": m{"case": s.name}, "extensions": m{"node.labels": "host=none"}}))
		},
		holds: neverRuns,
		steps: []stepBy{
			{by: "api", step: sabotage.StoreInsert}, {by: "scheduler", step: sabotage.StoreFailUnplaced}, {by: "api", step: sabotage.StoreSetGone},
		},
	}
}

// neverRuns checks a create that cannot succeed. That nothing is left of it is seen when all cases are over: it takes a minute if the api has died.
func neverRuns(x *matrix, s *subject) {
	x.t.Helper()
	if s.answered(http.StatusAccepted) { // it took too long to wait for; then its client has the id, and sees the failure
		id := s.answer.text("id")
		x.eventually("the create fails", func() bool { return x.state(id) == "Failed" })
		x.do("DELETE", "/v1/sandboxes/"+id, nil)
	}
	for _, i := range x.items("metadata=case%3D" + s.name) {
		if state := i["status"].(m)["state"]; state == "Running" {
			x.t.Errorf("what cannot run is %v", state)
		}
	}
}

// extendOperation is a renewal on access.
func extendOperation() operation {
	return operation{
		name: "renewal on access", extra: "[renew_intent]\nenabled = true\nmin_interval_seconds = 1\n",
		prepare: func(x *matrix, s *subject) {
			x.makes(s, m{"timeout": 60, "extensions": m{"access.renew.extend.seconds": "7200"}})
		},
		do: func(x *matrix, s *subject) {
			s.answer, s.err = x.try("GET", "/v1/sandboxes/"+s.id+"/proxy/44772/ping", nil)
		},
		holds: func(x *matrix, s *subject) {
			x.t.Helper()
			x.eventually("an access renews the sandbox", func() bool {
				_, _ = x.try("GET", "/v1/sandboxes/"+s.id+"/proxy/44772/ping", nil) // one notice may be lost with its process
				at, _ := x.do("GET", "/v1/sandboxes/"+s.id, nil).json(x.t)["expiresAt"].(string)
				is, err := time.Parse(time.RFC3339, at)
				return err == nil && is.After(time.Now().Add(time.Hour))
			})
		},
		steps: []stepBy{{by: "scheduler", step: sabotage.StoreExtend}},
	}
}

// exitOperation is a sandbox that ends by itself.
func exitOperation() operation {
	return operation{
		name: "exit",
		prepare: func(x *matrix, s *subject) {
			x.makes(s, m{"entrypoint": []string{"sh", "-c", "until [ -e /tmp/end ]; do sleep 0.1; done"}})
			s.url, s.header = x.endpoint(s.id, 44772)
		},
		do: func(_ *matrix, s *subject) {
			s.answer, s.err = request("POST", s.url+"/command", m{"command": "touch /tmp/end"}, s.header...)
		},
		holds: func(x *matrix, s *subject) {
			x.t.Helper()
			x.eventually("the end of the sandbox is seen", func() bool { return x.reason(s.id) == "Terminated CONTAINER_EXITED" })
		},
		replaced: func(x *matrix, s *subject) {
			x.t.Helper()
			x.eventually("the sandbox has ended, or was begun anew", func() bool { return slices.Contains([]string{"Terminated", "Running"}, x.state(s.id)) })
		},
		steps: []stepBy{{by: "agent", step: sabotage.StoreReport(sandbox.StateTerminated)}},
	}
}

// lostNodeOperation gives up a node, because an operator says so.
func lostNodeOperation() operation {
	return operation{
		name: "loss of a node", split: true, loose: true,
		prepare: func(x *matrix, s *subject) {
			for range 20 {
				x.makes(s, m{})
				if s.url = x.hostOf(s.id); s.url != x.hostOf(x.keeper) {
					return
				}
			}
			x.t.Fatal("20 sandboxes are on the node of the first one")
		},
		do: func(x *matrix, s *subject) {
			p := x.named("agent-0")
			if s.url == x.split.secondAddress {
				p = x.named("agent-1")
			}
			cmd := process.Command(p.env, p.binary, "remove", "--yes", "--config", x.configFile())
			var said []byte
			if said, s.err = cmd.CombinedOutput(); s.err != nil {
				s.err = fmt.Errorf("%w: %s", s.err, said)
			}
		},
		holds: func(x *matrix, s *subject) {
			x.t.Helper()
			if s.err != nil {
				x.t.Errorf("remove the node: %v", s.err)
			}
			x.eventually("the sandbox is given up", func() bool { return x.reason(s.id) == "Failed NODE_LOST" })
			x.eventually("its container is gone", func() bool {
				x.goOn() // an agent whose node was removed ends
				return !slices.Contains(x.containers(), s.id)
			})
		},
		steps: []stepBy{{by: "scheduler", step: sabotage.StoreLose}},
	}
}

// takenPortOperation is a create while somebody else listens on every port of the node, until a process has ended or stands still, or the
// create was refused for it.
func takenPortOperation() operation {
	low := 12_000 + rand.IntN(60)*100 // below the ports of all other platforms of the tests
	return operation{
		name: "create with a taken port", single: true, loose: true,
		env: []string{fmt.Sprintf("OPENSANDBOX_DOCKER_PORT_RANGE_MIN=%d", low), fmt.Sprintf("OPENSANDBOX_DOCKER_PORT_RANGE_MAX=%d", low+99)},
		prepare: func(x *matrix, s *subject) {
			var others []net.Listener
			for port := low; port < low+100; port++ {
				if l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)); err == nil { // else somebody else has it
					others = append(others, l)
				}
			}
			s.vacate = sync.OnceFunc(func() {
				for _, l := range others {
					_ = l.Close()
				}
			})
			x.t.Cleanup(s.vacate)
		},
		do: func(x *matrix, s *subject) {
			s.answer, s.err = x.creates(s, claim("claim-"+s.name))
			// Nobody has ended: every port that was tried is taken. A repetition is answered with the same until all of the first is gone.
			for deadline := time.Now().Add(patience); s.answered(http.StatusServiceUnavailable) && time.Now().Before(deadline); waitABit() {
				s.vacate()
				s.answer, s.err = x.creates(s, claim("claim-"+s.name))
			}
		},
		still: func(s *subject) { s.vacate() },
		holds: func(x *matrix, s *subject) { x.t.Helper(); x.created(s, claim("claim-"+s.name)) },
		steps: []stepBy{{by: "agent", step: sabotage.StoreSwapPort}},
	}
}
