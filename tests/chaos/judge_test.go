//go:build chaos

package chaos

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// afterEngine is how long after the return of an engine what it has lost is still found out.
const afterEngine = 30 * time.Second

// checkWatched looks for containers that were there twice, and for those that ended early.
func checkWatched(h *history, w *watch, faults []*fault, v *verdicts) {
	for _, what := range slices.Sorted(maps.Keys(w.twice)) {
		v.fail("epoch", "%s", what)
	}
	v.count("epoch", len(w.seen), "containers, never two of one epoch")
	calls, judged := h.byID(), 0
	ended, told := w.ended()
	for _, s := range ended {
		of := calls[s.id]
		if !acknowledged(of) {
			continue
		}
		judged++
		if deletedBefore(of, s.dead) || excused(s, faults) {
			continue
		}
		if due := earliest(of, s.dead); s.dead.Before(due) {
			v.fail("early", "sandbox %s ended at %s, %s before the earliest deadline that it can have had",
				s.id, s.dead.Format("15:04:05.000"), due.Sub(s.dead).Round(time.Millisecond))
		}
	}
	v.count("early", judged, fmt.Sprintf("containers that ended, none before its deadline unless it was deleted, touched by hand, or its engine went away; "+
		"of all that ended, engines told of %d", told))
}

// acknowledged reports whether a create was answered with the id.
func acknowledged(calls []*call) bool {
	return slices.ContainsFunc(calls, func(c *call) bool { return c.What == "create" && c.ok() })
}

func deletedBefore(calls []*call, at time.Time) bool {
	return slices.ContainsFunc(calls, func(c *call) bool { return c.What == "delete" && c.Began.Before(at) })
}

// excused reports whether somebody touched a container by hand before it ended, or its engine went away.
func excused(s sighting, faults []*fault) bool {
	return slices.ContainsFunc(faults, func(f *fault) bool {
		engine := strings.HasPrefix(f.Kind, "dockerd") && f.Target == s.engine.name && s.dead.Before(f.Ended.Add(afterEngine))
		return f.Began.Before(s.dead) && (engine || f.ID == s.id)
	})
}

// standing are the deadlines that a sandbox can have had at a time: of all that were asked for, those which no acknowledged one has replaced.
func standing(calls []*call, at time.Time) []time.Time {
	var asked []*call
	for _, c := range calls {
		if (c.What == "renew" && (c.ok() || c.open()) || c.What == "create" && c.ok()) && c.Began.Before(at) {
			asked = append(asked, c)
		}
	}
	var all []time.Time
	for _, c := range asked {
		replaced := !c.open() && slices.ContainsFunc(asked, func(o *call) bool {
			return o != c && o.ok() && o.Began.After(c.Ended) && o.Ended.Before(at)
		})
		if !replaced {
			all = append(all, c.Deadline)
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}

// earliest is the first of the deadlines that a sandbox can have had; zero if there is none.
func earliest(calls []*call, at time.Time) time.Time {
	if all := standing(calls, at); len(all) > 0 {
		return all[0]
	}
	return time.Time{}
}

// latest is the last of them.
func latest(calls []*call, at time.Time) time.Time {
	if all := standing(calls, at); len(all) > 0 {
		return all[len(all)-1]
	}
	return time.Time{}
}

// checkFailed looks for sandboxes that have failed although nobody did anything to their container, their engine or the records of the store.
// What processes, networks and the servers of the store go through is no excuse: it delays, and ends in time-outs.
func checkFailed(h *history, w *watch, faults []*fault, v *verdicts) {
	engines := map[string][]string{}
	for _, s := range w.seen {
		engines[s.id] = append(engines[s.id], s.engine.name)
	}
	ids := 0
	for id, of := range h.byID() {
		ids++
		i := slices.IndexFunc(of, func(c *call) bool { return c.State == "Failed" })
		if i >= 0 && !mayFail(of[0].Began, of[i], engines[id], faults) && !condemned(of, of[i].Ended, faults) {
			v.fail("failed", "sandbox %s: %s, %s", id, of[i].Reason, of[i].Said)
		}
	}
	creates := 0
	for _, c := range h.calls {
		if c.What != "create" {
			continue
		}
		creates++
		// 503 says that nothing is known, or not yet.
		if !c.ok() && c.Status != 0 && c.Status != http.StatusServiceUnavailable && !mayFail(c.Began, c, nil, faults) {
			v.fail("failed", "create answered with %d: %s", c.Status, c.Said)
		}
	}
	v.count("failed", ids, "sandboxes, none of which failed unless its container was touched by hand or its engine went away")
	v.count("failed", creates, "creates, none of which was refused but with 503")
}

// condemned reports whether a sandbox was to end by a time, and whether the store can have lost that again after its container was removed: it is seen
// without one until its end is written anew.
func condemned(calls []*call, by time.Time, faults []*fault) bool {
	due := earliest(calls, by)
	if !deletedBefore(calls, by) && (due.IsZero() || due.After(by)) {
		return false
	}
	return slices.ContainsFunc(faults, func(f *fault) bool {
		return strings.HasPrefix(f.Kind, "redis") && f.Began.Before(by) && by.Before(f.Ended.Add(healing))
	})
}

// mayFail reports whether a fault explains what c says of a sandbox that there may have been since a time. engines are those that it was seen
// on; none means that it can have been on any.
func mayFail(since time.Time, c *call, engines []string, faults []*fault) bool {
	return slices.ContainsFunc(faults, func(f *fault) bool {
		if f.Began.After(c.Ended) || f.Ended.Add(afterEngine).Before(since) {
			return false
		}
		switch {
		case strings.HasPrefix(f.Kind, "dockerd"):
			return len(engines) == 0 || slices.Contains(engines, f.Target)
		case strings.HasPrefix(f.Kind, "container"):
			return f.ID == c.ID || c.ID == "" && f.ID != ""
		}
		return strings.HasPrefix(f.Kind, "redis") && c.Reason == "STORE_RECOVERED"
	})
}
