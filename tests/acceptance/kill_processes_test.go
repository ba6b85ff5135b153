//go:build e2e && sabotage

package acceptance

import (
	"os"
	"path/filepath"
	"time"

	"opensandbox/libs/sabotage"
)

// This file has the operations of the kill matrix that are about a process itself: how it begins, ends, and takes up what there is.

// firstStart is the start of a platform that has nothing yet. Its points are reached in TestKillMatrixOfTheFirstStart.
func firstStart() operation {
	return operation{
		name: "first start",
		steps: []stepBy{
			{by: "agent", step: sabotage.EngineImportImage}, {by: "agent", step: sabotage.EngineCreateContainer}, {by: "agent", step: sabotage.EngineRemoveContainer},
			{by: "agent", step: sabotage.NodeRegister}, {by: "agent", step: sabotage.NodeSetImages},
		},
	}
}

// restartOperation takes up what there is after a kill: a sandbox that runs, one that is paused, one whose deadline has passed meanwhile.
func restartOperation() operation {
	return operation{
		name:    "restart",
		prepare: func(x *matrix, s *subject) { x.makes(s, m{}) },
		process: func(x *matrix, p *program, order func()) {
			p.kill()
			order()
			p.run(x.t, x.dir, x.configFile())
		},
		holds: goesOn,
		steps: []stepBy{
			{by: "agent", step: sabotage.EngineCreateContainer}, {by: "agent", step: sabotage.EngineRemoveContainer}, {by: "agent", step: sabotage.NodeRegister},
			{by: "scheduler", step: sabotage.StoreCallRoll, split: true}, {by: "agent", step: sabotage.NodeRenewLease}, {by: "agent", step: sabotage.NodeSetImages},
		},
	}
}

// stopOperation ends a process in order.
func stopOperation() operation {
	return operation{
		name: "orderly stop", loose: true,
		prepare: func(x *matrix, s *subject) { x.makes(s, m{}) },
		process: func(x *matrix, p *program, order func()) {
			order()
			p.stop(x.t)
		},
		holds: goesOn,
		steps: []stepBy{{by: "agent", step: sabotage.NodeRelease}},
	}
}

// goesOn checks that a sandbox does what it did before, and can be ended.
func goesOn(x *matrix, s *subject) {
	x.t.Helper()
	if out := output(x.shell(s.id, "echo on"), "stdout"); out != "on\n" {
		x.t.Errorf("in the sandbox from before: %q", out)
	}
}

// lostStoreOperation takes up what there is when the file of the store has been deleted.
func lostStoreOperation() operation {
	return operation{
		name: "loss of the store", single: true, loose: true,
		prepare: func(x *matrix, s *subject) {
			x.makes(s, m{})
			x.renew(s.id, time.Now().Add(time.Hour).Truncate(time.Second))
			body := x.do("GET", "/v1/sandboxes/"+s.id, nil).json(x.t)
			x.mirrored(taken{id: s.id, body: body})
		},
		process: func(x *matrix, p *program, order func()) {
			p.kill()
			files, _ := filepath.Glob(filepath.Join(x.dir, "data", "store.db*"))
			for _, f := range files {
				if filepath.Ext(f) == ".lock" {
					continue
				}
				if err := os.Remove(f); err != nil {
					x.t.Fatal(err)
				}
			}
			order()
			p.run(x.t, x.dir, x.configFile())
		},
		holds: func(x *matrix, s *subject) {
			x.t.Helper()
			x.eventually("the sandbox is taken up", func() bool { return x.state(s.id) == "Running" })
			goesOn(x, s)
		},
		steps: []stepBy{
			{by: "agent", step: sabotage.StoreRecover}, {by: "agent", step: sabotage.StoreSight}, {by: "agent", step: sabotage.StoreReported}, {by: "scheduler", step: sabotage.StoreSettle},
		},
	}
}
