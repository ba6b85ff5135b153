package sandboxtest

import (
	"time"

	"opensandbox/libs/sandbox"
)

var sightingTests = []test{
	{"a record is made", func(e *env) {
		e.register("n")
		e.claim(1, "n")
		s := e.sighting("a", func(s *sandbox.Sighting) { s.Epoch = 3 })
		r := e.sight(s)
		now := e.clock.Now()
		e.equal("the record", r, sandbox.Record{
			ID: "a", Tenant: tenant, CreatedAt: s.CreatedAt, Spec: s.Spec, Version: 1,
			Intent:    sandbox.Intent{Desired: sandbox.DesiredRunning, Generation: 4, Accepted: true, ExpiresAt: s.Intent.ExpiresAt, Metadata: s.Intent.Metadata},
			Placement: sandbox.Placement{Node: "n", Epoch: 3, Ports: s.Ports, Reserved: s.Reserved},
			Observed: sandbox.Observed{State: sandbox.StateRunning, Reason: sandbox.ReasonRunning, Generation: 4, Epoch: 3, Session: s.Session,
				Started: true, Addresses: s.Addresses, At: now},
		})
		e.unchanged(r)
		page, err := e.List(e.ctx(), sandbox.Query{Tenant: tenant, Metadata: map[string]string{"k": "v"}, Limit: 9})
		e.ok(err)
		e.equal("the list", ids(page.Items), []sandbox.ID{"a"})
		e.equal("what is held", e.held("n"), sandbox.Usage{Count: 1, Reserved: s.Reserved})
		if at, ok, err := e.NextDeadline(e.ctx()); err != nil || !ok || !at.Equal(s.Intent.ExpiresAt) {
			e.Errorf("NextDeadline = %v, %v, %v", at, ok, err)
		}
		e.work("the work", "n", 9)
		again := e.sight(s)
		e.equal("the same again", again, r)
		_, err = e.Renew(e.ctx(), "a", tenant, now.Add(5*time.Hour))
		e.ok(err)
		e.gone("a", sandbox.ReasonDeleted)
		e.clean("a")
		e.equal("what is held at the end", e.held("n"), sandbox.Usage{})
	}},
	{"a deadline is never near", func(e *env) {
		e.register("n")
		e.claim(1, "n")
		r := e.sight(e.sighting("a", func(s *sandbox.Sighting) { s.Intent.ExpiresAt = e.clock.Now().Add(-time.Hour) }))
		e.equal("the deadline", r.Intent.ExpiresAt, e.clock.Now().Add(sandbox.RecoveredLife))
		r = e.sight(e.sighting("b", func(s *sandbox.Sighting) { s.Intent.ExpiresAt = time.Time{} }))
		e.equal("no deadline", r.Intent.ExpiresAt, time.Time{})
	}},
	{"what shall be gone goes", func(e *env) {
		e.register("n")
		e.claim(1, "n")
		r := e.sight(e.sighting("a", func(s *sandbox.Sighting) { s.Intent.Desired, s.Intent.Reason = sandbox.DesiredGone, "" }))
		if !r.Gone() || r.Ended() || r.Intent.Reason == "" {
			e.Errorf("the record is %+v", r)
		}
		e.work("the work", "n", 9, "a")
		e.clean("a")
		if r := e.get("a"); !r.Ended() {
			e.Errorf("the record is %+v", r)
		}
	}},
	{"what was never started has failed", func(e *env) {
		e.register("n")
		e.insert("b")
		e.place("b", "n")
		e.claim(1, "n")
		for _, id := range []sandbox.ID{"a", "b"} {
			r := e.sight(e.sighting(id, func(s *sandbox.Sighting) { s.Started, s.Ran = false, false }))
			if !r.FailedCreate() || r.Observed.Reason != sandbox.ReasonStoreRecovered || !r.RetainUntil.Equal(e.clock.Now().Add(time.Hour)) || !r.Visible() {
				e.Errorf("the record is %+v", r)
			}
			e.clean(id)
		}
		e.equal("what is held at the end", e.held("n"), sandbox.Usage{})
	}},
	{"what was started and not noted as Running is on its way", func(e *env) {
		e.register("n")
		e.insert("b")
		placed := e.place("b", "n")
		e.claim(1, "n")
		for _, id := range []sandbox.ID{"a", "b"} {
			r := e.sight(e.sighting(id, func(s *sandbox.Sighting) {
				s.Ran = false
				if id == "b" {
					s.Ports = placed.Placement.Ports
				}
			}))
			if r.Observed.Started || r.FailedCreate() || sandbox.StateOf(&r) != sandbox.StatePending {
				e.Errorf("the record is %+v", r)
			}
		}
		e.work("the work", "n", 9, "a", "b")
		// The one comes to Running; the other fails, and nothing is left of it.
		if r := e.report("a", sandbox.StateRunning); sandbox.StateOf(&r) != sandbox.StateRunning {
			e.Errorf("the record is %+v", r)
		}
		if r := e.report("b", sandbox.StateFailed); !r.FailedCreate() {
			e.Errorf("the record is %+v", r)
		}
		e.clean("b")
		e.equal("what is held", e.held("n").Count, 1)
	}},
	{"a failed create stays that, and its node removes what it has", func(e *env) {
		e.register("n")
		e.insert("a")
		_, err := e.FailUnplaced(e.ctx(), "a", sandbox.Failure{Reason: sandbox.ReasonNoCapacity, Message: "full", RetainFor: time.Hour})
		e.ok(err)
		e.claim(1, "n")
		r := e.sight(e.sighting("a"))
		if !r.FailedCreate() || r.Observed.Reason != sandbox.ReasonNoCapacity || r.Placement.Node != "n" || r.RetainUntil.IsZero() {
			e.Errorf("the record is %+v", r)
		}
		e.work("the work", "n", 9, "a")
		e.clean("a")
		e.equal("what is held", e.held("n"), sandbox.Usage{})
	}},
	{"a record is brought forward", func(e *env) {
		e.register("n")
		e.insert("a")
		placed := e.place("a", "n")
		e.claim(1, "n")
		at := e.clock.Now().Add(3 * time.Hour)
		r := e.sight(e.sighting("a", func(s *sandbox.Sighting) {
			s.Version, s.Intent.ExpiresAt, s.Paused, s.Intent.Desired, s.Ports = 50, at, true, sandbox.DesiredPaused, placed.Placement.Ports
		}))
		if r.Observed.State != sandbox.StatePaused || sandbox.StateOf(&r) != sandbox.StatePaused || !r.Intent.ExpiresAt.Equal(at) || r.Intent.Metadata["k"] != "v" || r.NeedsWork() {
			e.Errorf("the record is %+v", r)
		}
		e.equal("the placement", r.Placement, placed.Placement)
		e.work("the work", "n", 9)
	}},
	{"a newer placement is taken over", func(e *env) {
		e.register("n")
		e.register("m")
		e.running("a", "m")
		e.insert("b")
		e.claim(1, "n")
		for _, id := range []sandbox.ID{"a", "b"} {
			r := e.sight(e.sighting(id, func(s *sandbox.Sighting) {
				s.Epoch = 2
				if id == "b" {
					s.Ports = map[int]int{44772: portMax + 4}
				}
			}))
			if r.Placement.Node != "n" || r.Placement.Epoch != 2 || sandbox.StateOf(&r) != sandbox.StateRunning {
				e.Errorf("the record is %+v", r)
			}
		}
		e.equal("what is held on the old node", e.held("m"), sandbox.Usage{})
		if e.held("n").Count != 2 {
			e.Errorf("held on the new node: %+v", e.held("n"))
		}
		unplaced, err := e.Unplaced(e.ctx(), 9)
		e.ok(err)
		e.equal("what needs a node", ids(unplaced), []sandbox.ID{})
	}},
	{"what is newer stays", func(e *env) {
		e.register("n")
		e.register("m")
		e.running("gone", "m")
		gone := e.gone("gone", sandbox.ReasonDeleted)
		elsewhere := e.running("elsewhere", "m")
		failed := e.failed("failed", "n")
		e.running("lost", "m")
		e.ok(e.Remove(e.ctx(), "m"))
		lost, err := e.Lose(e.ctx(), sandbox.Loss{ID: "lost", Node: "m", Epoch: 1})
		e.ok(err)
		e.claim(1, "n")
		for _, want := range []sandbox.Record{gone, elsewhere, failed, lost} {
			e.sight(e.sighting(want.ID, func(s *sandbox.Sighting) { s.Version = 50 }))
			e.unchanged(want)
		}
	}},
	{"only from a node that has not reported", func(e *env) {
		n := e.register("n")
		_, err := e.Sight(e.ctx(), e.sighting("a"))
		e.stale("without a recovery", err)
		e.claim(1, "n")
		_, err = e.Sight(e.ctx(), e.sighting("a", func(s *sandbox.Sighting) { s.Session++ }))
		e.stale("another session", err)
		e.sight(e.sighting("a"))
		_, err = e.Reported(e.ctx(), "n", n.Session)
		e.ok(err)
		_, err = e.Sight(e.ctx(), e.sighting("b"))
		e.stale("after the report", err)
	}},
	{"a port that is leased stays leased", func(e *env) {
		e.register("n")
		e.insert("other")
		other := e.place("other", "n")
		e.claim(1, "n")
		r := e.sight(e.sighting("a", func(s *sandbox.Sighting) { s.Ports = map[int]int{44772: other.Placement.Ports[44772], 8080: 40061} }))
		e.unchanged(other)
		seen := map[int]bool{40061: true, other.Placement.Ports[44772]: true, other.Placement.Ports[8080]: true}
		for i := range 20 {
			id := sandbox.ID("x" + string(rune('a'+i)))
			e.insert(id)
			for _, p := range e.place(id, "n").Placement.Ports {
				if seen[p] {
					e.Errorf("port %d was leased twice", p)
				}
				seen[p] = true
			}
		}
		e.gone("a", sandbox.ReasonDeleted)
		e.clean("a")
		e.equal("the ports of the other", e.get("other").Placement.Ports, other.Placement.Ports)
		if r.Placement.Ports[8080] != 40061 {
			e.Errorf("the record is %+v", r)
		}
		// So that the store agrees with itself at the end.
		e.gone("other", sandbox.ReasonDeleted)
		e.clean("other")
	}},
}

// sighting is of a container on node n that runs, with all that its agent can know. Its ports lie above the range of the suite, so that none
// of them is among those that a store chooses for a placement of the same test.
func (e *env) sighting(id sandbox.ID, change ...func(s *sandbox.Sighting)) sandbox.Sighting {
	e.Helper()
	now := e.clock.Now()
	s := sandbox.Sighting{
		ID: id, Node: "n", Epoch: 1, Session: e.session("n"), Tenant: tenant, CreatedAt: now.Add(-time.Minute), Spec: Spec(time.Hour), Version: 9,
		Intent:  sandbox.Intent{Desired: sandbox.DesiredRunning, Generation: 4, ExpiresAt: now.Add(2 * time.Hour), Metadata: map[string]string{"k": "v"}},
		Ports:   map[int]int{44772: portMax + 1, 8080: portMax + 2},
		Started: true, Ran: true, Addresses: sandbox.Addresses{ContainerIP: "10.0.0.9", Ports: map[int]int{44772: portMax + 1, 8080: portMax + 2}},
		Reserved: sandbox.Resources{CPU: 250, Memory: 256 << 20}, RetainFor: time.Hour,
	}
	if id == "b" {
		s.Ports = map[int]int{44772: portMax + 3}
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

func (e *env) sight(s sandbox.Sighting) sandbox.Record {
	e.Helper()
	r, err := e.Sight(e.ctx(), s)
	e.ok(err)
	return r
}

func (e *env) held(name string) sandbox.Usage {
	e.Helper()
	all, err := e.Usage(e.ctx())
	e.ok(err)
	return all[name]
}
