package fakeexec_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/executor/executortest"
	"opensandbox/libs/executor/fakeexec"
	"opensandbox/libs/sandbox"
)

func TestExecutor(t *testing.T) {
	t.Parallel()
	executortest.TestExecutor(t, func(*testing.T) executortest.Harness {
		e := fakeexec.New("fake", time.Now)
		var n atomic.Int64
		return executortest.Harness{
			Executor: e, Image: "image", NoImage: fakeexec.MissingImage + "-image",
			Forever: []string{"run"}, Missing: []string{"missing"},
			Exit:         func(code int) []string { return []string{"exit", fmt.Sprint(code)} },
			Ports:        func() map[int]int { return map[int]int{44772: int(40000 + n.Add(1)), 8080: int(50000 + n.Add(1))} },
			TakePort:     func(_ *testing.T, port int) { e.ForeignPort(port) },
			NewID:        func() sandbox.ID { return sandbox.ID(fmt.Sprintf("id-%d", n.Add(1))) },
			HasVolume:    func(_ *testing.T, name string) bool { return slices.Contains(e.Volumes(), name) },
			MakeVolume:   func(_ *testing.T, name string) { e.PutVolume(name) },
			RemoveVolume: func(_ *testing.T, name string) { e.RemoveVolume(name) },
			LeaveVolume: func(t *testing.T, p executor.Plan) {
				e.FailNext(fakeexec.AfterVolumes, errors.New("the agent died"))
				if err := e.Create(t.Context(), p); err == nil {
					t.Fatal("the create did not fail")
				}
			},
		}
	})
}
