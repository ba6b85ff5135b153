package wakeup_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"opensandbox/libs/sandbox"
	"opensandbox/libs/wakeup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// waiting counts the hints in a channel.
func waiting(c <-chan struct{}) int {
	n := 0
	for {
		select {
		case <-c:
			n++
		default:
			return n
		}
	}
}

func TestHub(t *testing.T) {
	t.Parallel()
	var h wakeup.Hub
	h.Publish("nobody", "listens")
	a1, cancelA1 := h.Subscribe("a")
	a2, cancelA2 := h.Subscribe("a")
	b, cancelB := h.Subscribe("b")
	for range 5 {
		h.Publish("a")
	}
	h.Publish()
	if got := []int{waiting(a1), waiting(a2), waiting(b)}; !cmp.Equal(got, []int{1, 1, 0}) {
		t.Errorf("hints %v", got)
	}
	cancelA1()
	cancelA1()
	h.Publish("a", "b", "a")
	if got := []int{waiting(a1), waiting(a2), waiting(b)}; !cmp.Equal(got, []int{0, 1, 1}) {
		t.Errorf("hints after a cancel %v", got)
	}
	if h.Topics() != 2 {
		t.Errorf("%d topics", h.Topics())
	}
	cancelA2()
	cancelB()
	if h.Topics() != 0 {
		t.Errorf("%d topics are left that nobody listens to", h.Topics())
	}
}

func TestHubConcurrently(t *testing.T) {
	t.Parallel()
	var h wakeup.Hub
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 200 {
				topic := sandbox.Topic(fmt.Sprint((i + k) % 5))
				c, cancel := h.Subscribe(topic)
				h.Publish(topic)
				<-c
				cancel()
			}
		})
	}
	wg.Wait()
	if h.Topics() != 0 {
		t.Errorf("%d topics are left", h.Topics())
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	fresh := sandbox.NewRecord(sandbox.New{ID: "a", Spec: sandbox.Spec{Timeout: time.Hour}}, now, sandbox.Origin{})
	change := func(r sandbox.Record, f func(r *sandbox.Record)) sandbox.Record {
		r = r.Clone()
		f(&r)
		r.Version++
		return r
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	placed := change(fresh, func(r *sandbox.Record) { must(r.Place("n", nil, sandbox.Resources{})) })
	swapped := change(placed, func(r *sandbox.Record) { r.Placement.Ports = map[int]int{1: 2} })
	running := change(placed, func(r *sandbox.Record) {
		must(r.Observe(sandbox.Report{Node: "n", Epoch: 1, Generation: 1, State: sandbox.StateRunning}, now))
	})
	pausing := change(running, func(r *sandbox.Record) { must(r.SetDesired(sandbox.DesiredPaused, 1, sandbox.Origin{})) })
	gone := change(pausing, func(r *sandbox.Record) { r.SetGone(sandbox.ReasonDeleted, now, sandbox.Origin{}) })
	cleaned := change(gone, func(r *sandbox.Record) { r.Clean("n", 1, now) })
	renewed := change(running, func(r *sandbox.Record) { must(r.Renew(now.Add(2*time.Hour), now)) })
	accepted := change(running, func(r *sandbox.Record) { must(r.Accept()) })
	record, work := sandbox.RecordTopic("a"), sandbox.WorkTopic("n")
	for _, tc := range []struct {
		name          string
		before, after *sandbox.Record
		want          []sandbox.Topic
	}{
		{"insert", nil, &fresh, []sandbox.Topic{sandbox.TopicPlacement}},
		{"insert of what runs", nil, &running, []sandbox.Topic{record}},
		{"place", &fresh, &placed, []sandbox.Topic{work}},
		{"another port", &placed, &swapped, []sandbox.Topic{record}},
		{"running", &placed, &running, []sandbox.Topic{record}},
		{"pause", &running, &pausing, []sandbox.Topic{record, work}},
		{"gone while there is work", &pausing, &gone, []sandbox.Topic{record, work}},
		{"cleaned", &gone, &cleaned, []sandbox.Topic{record}},
		{"renewed", &running, &renewed, nil},
		{"accepted", &running, &accepted, nil},
	} {
		if diff := cmp.Diff(tc.want, wakeup.Of(tc.before, tc.after), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestEarlier(t *testing.T) {
	t.Parallel()
	one, two := time.Unix(1, 0), time.Unix(2, 0)
	for _, tc := range []struct {
		t, head time.Time
		want    bool
	}{
		{one, two, true}, {two, one, false}, {one, one, false}, {one, time.Time{}, true}, {time.Time{}, one, false}, {time.Time{}, time.Time{}, false},
	} {
		if got := wakeup.Earlier(tc.t, tc.head); got != tc.want {
			t.Errorf("Earlier(%s, %s) = %v", tc.t, tc.head, got)
		}
	}
}
