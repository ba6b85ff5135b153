//go:build e2e && sabotage

package acceptance

import (
	"net/http"
	"time"

	"opensandbox/libs/sabotage"
	"opensandbox/libs/sandbox"
)

// This file has the operations of the kill matrix in which something fails or ends, or happens without a request.

// failedCreateOperation is a create whose entry point cannot be started.
func failedCreateOperation() operation {
	return operation{
		name: "create that fails", lingers: true,
		do: func(x *matrix, s *subject) {
			s.answer, s.err = x.try("POST", "/v1/sandboxes", spec(m{"metadata": m{"case": s.name}, "entrypoint": []string{"/no/such/program"}}))
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
	if s.err == nil && s.answer.status < http.StatusBadRequest {
		x.t.Errorf("a create that cannot succeed: %v", s.answer)
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
			s.id = x.create(m{"metadata": m{"case": s.name}, "timeout": 60, "extensions": m{"access.renew.extend.seconds": "7200"}})
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
			s.id = x.create(m{"metadata": m{"case": s.name}, "entrypoint": []string{"sh", "-c", "until [ -e /tmp/end ]; do sleep 0.1; done"}})
			s.url, s.header = x.endpoint(s.id, 44772)
		},
		do: func(_ *matrix, s *subject) {
			s.answer, s.err = request("POST", s.url+"/command", m{"command": "touch /tmp/end"}, s.header...)
		},
		holds: func(x *matrix, s *subject) {
			x.t.Helper()
			x.eventually("the end of the sandbox is seen", func() bool { return x.reason(s.id) == "Terminated CONTAINER_EXITED" })
		},
		steps: []stepBy{{by: "agent", step: sabotage.StoreReport(sandbox.StateTerminated)}},
	}
}
