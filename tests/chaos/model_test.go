//go:build chaos

package chaos

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"opensandbox/libs/sandbox"
)

// checkWithin bounds the search for an order of the calls of one sandbox.
const checkWithin = time.Minute

// intent is what the calls of one sandbox change: the value of a register.
type intent struct {
	Deadline int64
	Mark     string
	Paused   bool
	Gone     bool
}

// state is an intent together with those before it that a failover may bring back: what was changed since a replica confirmed the last change.
// Reads do not wait for a replica, so they may show what is lost afterwards.
type state struct {
	now   intent
	all   [8]intent
	count int
}

// before returns the state with one more intent that may come back.
func (s state) before() state {
	if s.count < len(s.all) {
		s.all[s.count] = s.now
		s.count++
	}
	return s
}

// settled returns the state after a change that a replica has confirmed, and all before it.
func (s state) settled() state { return state{now: s.now} }

// rollback is the operation of a failover, which nobody asked for.
const rollback = "rollback"

// model says which histories of one sandbox are allowed.
var model = porcupine.NondeterministicModel{
	Init: func() []any { return []any{state{}} },
	Step: func(s, input, _ any) []any {
		var out []any
		for _, next := range step(s.(state), input.(*call)) {
			out = append(out, next)
		}
		return out
	},
	Equal:             func(a, b any) bool { return a == b },
	DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", *input.(*call)) },
}

// step returns the states after a call; none if the call cannot have been answered so.
func step(s state, c *call) []state {
	switch c.What {
	case rollback:
		out := []state{s}
		for i := range s.count {
			former := s.before()
			former.now = s.all[i]
			out = append(out, former)
		}
		return out
	case "create":
		s.now = intent{Deadline: c.Deadline.UnixMicro(), Mark: c.Mark}
		return []state{s.settled()}
	case "get":
		return read(s, c)
	}
	if !c.ok() && !c.open() {
		return refused(s, c)
	}
	next := s.before()
	switch {
	case c.What == "delete":
		next.now.Gone = true
	case s.now.Gone && c.open():
		return []state{s} // refused, and nobody was told
	case expired(s, c) && c.open():
		next.now.Gone = true
	case s.now.Gone:
		return nil // nothing is acknowledged of what is gone
	case c.What == "renew":
		next.now.Deadline = c.Deadline.UnixMicro()
	case c.What == "patch":
		next.now.Mark = c.Mark
	case c.What == "pause":
		next.now.Paused = true
	case c.What == "resume":
		next.now.Paused = false
	}
	if c.ok() {
		return []state{next.settled()}
	}
	return []state{next, s}
}

// expired reports whether the sandbox may have ended by its deadline when the call was answered.
func expired(s state, c *call) bool { return !c.Ended.Before(time.UnixMicro(s.now.Deadline)) }

// refused is a call that the server has said no to: 404 only of what is gone.
func refused(s state, c *call) []state {
	if c.Status != http.StatusNotFound || s.now.Gone {
		return []state{s}
	}
	if !expired(s, c) {
		return nil
	}
	s.now.Gone = true
	return []state{s}
}

// read compares what a read shows with the register.
func read(s state, c *call) []state {
	switch {
	case c.Status == http.StatusNotFound:
		return refused(s, c)
	case !c.ok():
		return []state{s}
	case c.Mark != s.now.Mark:
		return nil
	case c.prolonged && c.Deadline.UnixMicro() > s.now.Deadline:
		s.now.Deadline = c.Deadline.UnixMicro()
	case c.Deadline.UnixMicro() != s.now.Deadline:
		return nil
	}
	switch {
	case c.State == "Stopping", c.State == "Terminated", c.State == "Failed":
		return []state{s} // what happened to the container says nothing about what was asked for
	case s.now.Gone:
		return nil
	case (c.State == "Paused" || c.State == "Pausing") && !s.now.Paused, c.State == "Resuming" && s.now.Paused:
		return nil
	}
	return []state{s}
}

// operations turns the calls of one sandbox into what porcupine checks. What is open may take effect at any later time; a pause or a resume
// that failed is also taken back at any later time.
func operations(calls []*call, faults []*fault) []porcupine.Operation {
	var ops []porcupine.Operation
	add := func(c *call, from, to int64) {
		ops = append(ops, porcupine.Operation{ClientId: len(ops), Input: c, Call: from, Return: to})
	}
	for _, c := range calls {
		from, to := c.Began.UnixNano(), c.Ended.UnixNano()
		switch c.What {
		case "create":
			if c.ok() && !slices.ContainsFunc(ops, func(o porcupine.Operation) bool { return o.Input.(*call).What == "create" }) {
				add(c, from, to)
			}
			continue
		case "get":
			if c.open() {
				continue
			}
			c.prolonged = mayBeProlonged(c, calls, faults)
		case "renew", "patch", "pause", "resume", "delete":
		default:
			continue
		}
		if c.open() {
			to = math.MaxInt64
		}
		add(c, from, to)
		if back := map[string]string{"pause": "resume", "resume": "pause"}[c.What]; back != "" && !c.ok() {
			add(&call{What: back, Began: c.Began, Ended: c.Ended}, from, math.MaxInt64)
		}
	}
	if len(calls) == 0 {
		return nil
	}
	for _, f := range faults {
		if !strings.HasPrefix(f.Kind, "redis") || f.Ended.Before(calls[0].Began) || f.Began.After(calls[len(calls)-1].Ended) {
			continue
		}
		for range 2 { // lost by the failover, and perhaps found again on a node
			add(&call{What: rollback, Began: f.Began, Ended: f.Ended}, f.Began.UnixNano(), math.MaxInt64)
		}
	}
	return ops
}

// mayBeProlonged reports whether a deadline can come from the recovery of a store that has gone back, which lasts sandbox.RecoverAtMost once the
// store can be written to. Each sandbox that a node then tells of has sandbox.RecoveredLife left, from that moment on; and of the deadlines that the
// store and the node know, the later one holds, although another may have been acknowledged in the seconds before that the node has not noted yet.
func mayBeProlonged(c *call, calls []*call, faults []*fault) bool {
	told := c.Deadline.Add(-sandbox.RecoveredLife)
	former := slices.ContainsFunc(calls, func(o *call) bool {
		return (o.What == "create" || o.What == "renew") && o.Began.Before(c.Began) && o.Deadline.Equal(c.Deadline)
	})
	return slices.ContainsFunc(faults, func(f *fault) bool {
		over := f.Ended.Add(sandbox.RecoverAtMost + healing)
		least := !told.After(c.Ended) && told.After(f.Began) && told.Before(over)
		return strings.HasPrefix(f.Kind, "redis") && (least || former && c.Ended.After(f.Began))
	})
}

// checkHistories looks for an order of the calls of each sandbox that the model allows.
func checkHistories(h *history, faults []*fault, v *verdicts) {
	checked := 0
	for id, calls := range h.byID() {
		if !slices.ContainsFunc(calls, func(c *call) bool { return c.What == "create" && c.ok() }) {
			continue // it never had an id for the client
		}
		checked++
		switch porcupine.CheckOperationsTimeout(model.ToModel(), operations(calls, faults), checkWithin) {
		case porcupine.Illegal:
			v.fail("history", "sandbox %s: no order of its calls explains what they were answered", id)
		case porcupine.Unknown:
			v.note("history", "sandbox %s: not decided within %s", id, checkWithin)
		}
	}
	v.count("history", checked, "sandboxes, each with an order of all calls that the model allows")
	checkKeys(h, v)
}

// checkKeys looks for a key that made two sandboxes.
func checkKeys(h *history, v *verdicts) {
	ids := map[string]string{}
	for _, c := range h.calls {
		if c.Key == "" || !c.ok() {
			continue
		}
		if first, ok := ids[c.Key]; ok && first != c.ID {
			v.fail("keys", "key %s made %s and %s", c.Key, first, c.ID)
		}
		ids[c.Key] = c.ID
	}
	v.count("keys", len(ids), "idempotency keys, each with one sandbox")
}
