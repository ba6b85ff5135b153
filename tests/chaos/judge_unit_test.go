//go:build chaos

package chaos

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// start is when the histories of these tests begin, and sec a moment of them.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func sec(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }

// said is a call from one second to the next.
func said(at float64, what string, status int, deadline float64, mark, state string) *call {
	c := &call{What: what, ID: "x", Began: sec(at), Ended: sec(at + 0.5), Status: status, Mark: mark, State: state}
	if deadline != 0 {
		c.Deadline = sec(deadline)
	}
	return c
}

func TestModel(t *testing.T) {
	t.Parallel()
	create := said(0, "create", 202, 300, "0", "Pending")
	failover := []*fault{{Kind: "redis killed", Began: sec(1), Ended: sec(5)}}
	patched, perhaps := said(1, "patch", 200, 0, "1", ""), said(1, "patch", 503, 0, "1", "")
	deleted, shortened := said(1, "delete", 204, 0, "", ""), said(1, "renew", 200, 20, "", "")
	paused, resumed := said(1, "pause", 202, 0, "", ""), said(3, "resume", 202, 0, "", "")
	shows := func(at float64, mark, state string) *call { return said(at, "get", 200, 300, mark, state) }
	due := func(deadline float64) *call { return said(6, "get", 200, deadline, "0", "Running") }
	gone := func(at float64) *call { return said(at, "get", 404, 0, "", "") }
	for name, tc := range map[string]struct {
		calls  []*call
		faults []*fault
		want   bool
	}{
		"read of what was asked for":            {[]*call{patched, shows(2, "1", "Running")}, nil, true},
		"read of what was replaced":             {[]*call{patched, shows(2, "0", "Running")}, nil, false},
		"change without an answer, made":        {[]*call{perhaps, shows(2, "1", "Running")}, nil, true},
		"change without an answer, not made":    {[]*call{perhaps, shows(2, "0", "Running")}, nil, true},
		"change without an answer, made late":   {[]*call{perhaps, shows(2, "0", "Running"), shows(3, "1", "Running")}, nil, true},
		"made late and taken back":              {[]*call{perhaps, shows(2, "1", "Running"), shows(3, "0", "Running")}, nil, false},
		"taken back by a failover":              {[]*call{perhaps, shows(2, "1", "Running"), shows(3, "0", "Running")}, failover, true},
		"acknowledged and lost by a failover":   {[]*call{patched, shows(2, "1", "Running"), shows(3, "0", "Running")}, failover, false},
		"gone after its delete":                 {[]*call{deleted, gone(2)}, nil, true},
		"there after its delete":                {[]*call{deleted, shows(2, "0", "Running")}, nil, false},
		"on its way out after its delete":       {[]*call{deleted, shows(2, "0", "Stopping")}, nil, true},
		"gone without a reason":                 {[]*call{gone(2)}, nil, false},
		"gone after its deadline":               {[]*call{shortened, gone(21)}, nil, true},
		"gone before its deadline":              {[]*call{shortened, gone(18)}, nil, false},
		"change of what is gone":                {[]*call{deleted, said(2, "patch", 200, 0, "1", "")}, nil, false},
		"paused without a pause":                {[]*call{shows(2, "0", "Paused")}, nil, false},
		"paused and resumed":                    {[]*call{paused, shows(2, "0", "Paused"), resumed, shows(4, "0", "Running")}, nil, true},
		"deadline that nobody asked for":        {[]*call{shortened, due(65)}, nil, false},
		"deadline that a recovery gives":        {[]*call{shortened, due(65)}, failover, true},
		"deadline that a recovery cannot give":  {[]*call{shortened, due(90)}, failover, false},
		"deadline that a recovery recalls":      {[]*call{shortened, due(300)}, failover, true},
		"former deadline without a recovery":    {[]*call{shortened, due(300)}, nil, false},
		"deadline that a recovery makes sooner": {[]*call{due(65)}, failover, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := []*call{create}
			for _, c := range tc.calls {
				own := *c // operations notes something in it
				calls = append(calls, &own)
			}
			if got := porcupine.CheckOperations(model.ToModel(), operations(calls, tc.faults)); got != tc.want {
				t.Errorf("the model allows it: %t, want %t", got, tc.want)
			}
		})
	}
}

func TestStandingDeadlines(t *testing.T) {
	t.Parallel()
	create := said(0, "create", 202, 300, "0", "")
	for name, tc := range map[string]struct {
		calls       []*call
		first, last float64
	}{
		"the first one":                 {[]*call{create}, 300, 300},
		"one that was replaced":         {[]*call{create, said(1, "renew", 200, 20, "", "")}, 20, 20},
		"one without an answer":         {[]*call{create, said(1, "renew", 503, 20, "", "")}, 20, 300},
		"one that was refused":          {[]*call{create, said(1, "renew", 400, 20, "", "")}, 300, 300},
		"two at a time":                 {[]*call{create, said(1, "renew", 200, 20, "", ""), said(1, "renew", 200, 40, "", "")}, 20, 40},
		"one from after the time":       {[]*call{create, said(11, "renew", 200, 20, "", "")}, 300, 300},
		"without an answer, before one": {[]*call{create, said(1, "renew", 0, 20, "", ""), said(2, "renew", 200, 40, "", "")}, 20, 40},
	} {
		if first, last := earliest(tc.calls, sec(10)), latest(tc.calls, sec(10)); !first.Equal(sec(tc.first)) || !last.Equal(sec(tc.last)) {
			t.Errorf("%s: from %s to %s, want %v s to %v s", name, first.Sub(start), last.Sub(start), tc.first, tc.last)
		}
	}
	if due := earliest(nil, sec(10)); !due.IsZero() {
		t.Errorf("without calls: %s", due)
	}
}

func TestExcuses(t *testing.T) {
	t.Parallel()
	failed := &call{What: "get", ID: "x", Began: sec(50), Ended: sec(51), Status: 200, State: "Failed", Reason: "START_FAILED"}
	recovered := &call{What: "get", ID: "x", Began: sec(50), Ended: sec(51), Status: 200, State: "Failed", Reason: "STORE_RECOVERED"}
	for name, tc := range map[string]struct {
		call    *call
		engines []string
		fault   fault
		want    bool
	}{
		"its engine":               {failed, []string{"a"}, fault{Kind: "dockerd killed", Target: "a", Began: sec(30), Ended: sec(35)}, true},
		"another engine":           {failed, []string{"a"}, fault{Kind: "dockerd killed", Target: "b", Began: sec(30), Ended: sec(35)}, false},
		"an engine, not seen":      {failed, nil, fault{Kind: "dockerd killed", Target: "b", Began: sec(30), Ended: sec(35)}, true},
		"its engine, long before":  {failed, []string{"a"}, fault{Kind: "dockerd killed", Target: "a", Began: sec(-60), Ended: sec(-50)}, false},
		"its engine, afterwards":   {failed, []string{"a"}, fault{Kind: "dockerd killed", Target: "a", Began: sec(60), Ended: sec(65)}, false},
		"its container":            {failed, []string{"a"}, fault{Kind: "container killed", ID: "x", Began: sec(30), Ended: sec(31)}, true},
		"another container":        {failed, []string{"a"}, fault{Kind: "container killed", ID: "y", Began: sec(30), Ended: sec(31)}, false},
		"its agent":                {failed, []string{"a"}, fault{Kind: "kill", Target: "agent-0", Began: sec(30), Ended: sec(31)}, false},
		"its network":              {failed, []string{"a"}, fault{Kind: "cut off", Target: "a", Began: sec(30), Ended: sec(31)}, false},
		"the store":                {failed, []string{"a"}, fault{Kind: "redis killed", Began: sec(30), Ended: sec(31)}, false},
		"the store, which says so": {recovered, []string{"a"}, fault{Kind: "redis killed", Began: sec(30), Ended: sec(31)}, true},
	} {
		if condemned([]*call{said(0, "create", 202, 300, "0", ""), tc.call}, tc.call.Ended, []*fault{&tc.fault}) {
			t.Errorf("%s: to end long before its deadline", name)
		}
		if got := mayFail(sec(20), tc.call, tc.engines, []*fault{&tc.fault}); got != tc.want {
			t.Errorf("%s: excused: %t, want %t", name, got, tc.want)
		}
	}
}

func TestCondemned(t *testing.T) {
	t.Parallel()
	create, failed := said(0, "create", 202, 300, "0", ""), said(50, "get", 200, 40, "0", "Failed")
	failover := &fault{Kind: "redis failed over", Began: sec(38), Ended: sec(48)}
	for name, tc := range map[string]struct {
		change *call
		fault  *fault
		want   bool
	}{
		"its deadline has passed":          {said(1, "renew", 200, 40, "", ""), failover, true},
		"it has some time left":            {said(1, "renew", 200, 60, "", ""), failover, false},
		"its delete was not answered":      {said(39, "delete", 503, 0, "", ""), failover, true},
		"its deadline, and nothing else":   {said(1, "renew", 200, 40, "", ""), &fault{Kind: "kill", Target: "agent-0", Began: sec(38), Ended: sec(48)}, false},
		"its deadline, and an old failure": {said(1, "renew", 200, 40, "", ""), &fault{Kind: "redis killed", Began: sec(-90), Ended: sec(-80)}, false},
	} {
		if got := condemned([]*call{create, tc.change, failed}, failed.Ended, []*fault{tc.fault}); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}
