package history_test

import (
	"fmt"
	"testing"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/internal/history"
)

func event(id string, n int) executor.Event {
	return executor.Event{Ref: executor.Ref{ID: sandbox.ID(id), Epoch: 1}, At: time.Unix(int64(n), 0), Action: executor.ActionPaused}
}

func TestTheLastEventsAreKept(t *testing.T) {
	t.Parallel()
	var h history.History
	a := event("a", 0).Ref
	if got := h.Last(a, 5); len(got) != 0 {
		t.Errorf("%v of nothing", got)
	}
	for i := range 3 * history.PerSandbox {
		h.Add(event("a", i))
	}
	h.Add(event("b", 0))
	got := h.Last(a, 1000)
	if len(got) != history.PerSandbox || got[0].At.Unix() != 2*history.PerSandbox || got[len(got)-1].At.Unix() != 3*history.PerSandbox-1 {
		t.Errorf("%d events from %v to %v", len(got), got[0].At.Unix(), got[len(got)-1].At.Unix())
	}
	if got := h.Last(a, 2); len(got) != 2 || got[1].At.Unix() != 3*history.PerSandbox-1 {
		t.Errorf("the last two: %v", got)
	}
	if got := h.Last(executor.Ref{ID: "a", Epoch: 2}, 5); len(got) != 0 {
		t.Errorf("of another placement: %v", got)
	}
}

func TestAllTogetherAreBounded(t *testing.T) {
	t.Parallel()
	var h history.History
	for i := range history.Total + 10 {
		h.Add(event(fmt.Sprint(i), i))
	}
	for i, want := range map[int]int{0: 0, 9: 0, 10: 1, history.Total + 9: 1} {
		if got := len(h.Last(event(fmt.Sprint(i), i).Ref, 5)); got != want {
			t.Errorf("%d events of sandbox %d, want %d", got, i, want)
		}
	}
}
