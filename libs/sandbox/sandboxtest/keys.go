package sandboxtest

import (
	"sync"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

var keyTests = []test{
	{"RepetitionGivesTheSameRecord", testKeyRepeats},
	{"OneKeyForOneRequestOfOneTenant", testKeyReused},
	{"KeysOfWhatIsGoneAreSpent", testKeySpent},
	{"KeysOfWhatPassesAreFree", testKeyFree},
	{"KeysRunOut", testKeyRunsOut},
	{"KeyedRecordsAreKept", testKeyKeeps},
	{"ConcurrentRepetitions", testKeyConcurrent},
	{"ConcurrentRepetitionsOfWhatPasses", testKeyFreeConcurrent},
}

func keyed(name, hash string) func(n *sandbox.New) {
	return func(n *sandbox.New) { n.Key = sandbox.Key{Name: name, Hash: hash} }
}

// again inserts with a key that may lead elsewhere.
func (e *env) again(id sandbox.ID, name, hash string) (sandbox.Record, error) {
	e.Helper()
	return e.Insert(e.ctx(), sandbox.New{ID: id, Tenant: tenant, Spec: Spec(time.Hour), Key: sandbox.Key{Name: name, Hash: hash}})
}

func testKeyRepeats(e *env) {
	e.register("n")
	first := e.insert("a", keyed("k", "h"))
	if !first.Keyed {
		e.Error("the record does not say that it has a key")
	}
	got, err := e.again("b", "k", "h")
	e.ok(err)
	e.equal("while it is being made", got, first)
	_, err = e.Get(e.ctx(), "b")
	e.notFound("the id of the repetition", err)
	e.place("a", "n")
	running := e.report("a", sandbox.StateRunning)
	got, err = e.again("c", "k", "h")
	e.ok(err)
	e.equal("when it is there", got, running)
	e.equal("unplaced", len(e.unplacedIDs()), 0)

	failed := e.failed("bad", "n", keyed("bad", "h"))
	got, err = e.again("d", "bad", "h")
	e.ok(err)
	e.equal("a failure that would repeat itself", got, failed)
	e.gone("bad", sandbox.ReasonCreateFailed)
	e.clean("bad")
	got, err = e.again("d", "bad", "h")
	e.ok(err)
	e.equal("after it was removed", got, e.get("bad"))
}

func (e *env) unplacedIDs() []sandbox.ID {
	e.Helper()
	records, err := e.Unplaced(e.ctx(), 100)
	e.ok(err)
	return ids(records)
}

func testKeyReused(e *env) {
	first := e.insert("a", keyed("k", "h"))
	_, err := e.again("b", "k", "other")
	e.refused("another request", err, fault.Conflict, sandbox.CodeKeyReused)
	_, err = e.Get(e.ctx(), "b")
	e.notFound("the refused insert", err)
	r, err := e.Insert(e.ctx(), sandbox.New{ID: "b", Tenant: "team-b", Spec: Spec(0), Key: sandbox.Key{Name: "k", Hash: "other"}})
	e.ok(err)
	if r.ID != "b" {
		e.Errorf("another tenant's key led to %s", r.ID)
	}
	if r := e.insert("c"); r.Keyed || r.ID != "c" {
		e.Errorf("without a key: %+v", r)
	}
	e.unchanged(first)
}

func testKeySpent(e *env) {
	e.register("n")
	e.running("deleted", "n", keyed("deleted", "h"))
	e.gone("deleted", sandbox.ReasonDeleted)
	e.insert("expired", keyed("expired", "h"), withTimeout(time.Minute))
	e.clock.Advance(time.Minute)
	_, err := e.ExpireDue(e.ctx(), e.clock.Now(), 10)
	e.ok(err)
	for _, k := range []string{"deleted", "expired"} {
		_, err := e.again("b", k, "h")
		e.refused(k, err, fault.Conflict, sandbox.CodeKeySpent)
		_, err = e.again("b", k, "other")
		e.refused(k+", another request", err, fault.Conflict, sandbox.CodeKeyReused)
	}
}

func testKeyFree(e *env) {
	e.insert("a", keyed("k", "h"), unaccepted)
	_, err := e.FailUnplaced(e.ctx(), "a", sandbox.Failure{Reason: sandbox.ReasonNoCapacity, RetainFor: time.Hour})
	e.ok(err)
	got, err := e.again("b", "k", "h")
	e.ok(err)
	e.equal("while the failure stands", got.ID, sandbox.ID("a"))
	e.gone("a", sandbox.ReasonCreateFailed)
	got, err = e.again("b", "k", "h")
	e.ok(err)
	e.equal("when nothing of it is left", got.ID, sandbox.ID("b"))
	got, err = e.again("c", "k", "h")
	e.ok(err)
	e.equal("the key leads to the new one", got.ID, sandbox.ID("b"))
}

func testKeyRunsOut(e *env) {
	e.insert("a", keyed("k", "h"), noTimeout)
	e.clock.Advance(sandbox.KeepKey - time.Microsecond)
	got, err := e.again("b", "k", "h")
	e.ok(err)
	e.equal("just before", got.ID, sandbox.ID("a"))
	e.clock.Advance(time.Microsecond)
	got, err = e.again("b", "k", "other")
	e.ok(err)
	e.equal("afterwards", got.ID, sandbox.ID("b"))
}

func testKeyKeeps(e *env) {
	e.insert("keyed", keyed("k", "h"))
	e.insert("plain")
	e.gone("keyed", sandbox.ReasonDeleted)
	e.gone("plain", sandbox.ReasonDeleted)
	e.clock.Advance(2 * time.Hour)
	purge := func(want int) {
		e.Helper()
		n, err := e.Purge(e.ctx(), time.Hour, 10)
		e.ok(err)
		e.equal("purged", n, want)
	}
	purge(1)
	_, err := e.again("b", "k", "h")
	e.refused("the key of the kept one", err, fault.Conflict, sandbox.CodeKeySpent)
	e.clock.Advance(sandbox.KeepKey)
	purge(1)
	_, err = e.Get(e.ctx(), "keyed")
	e.notFound("after its time", err)
}

func testKeyFreeConcurrent(e *env) {
	e.insert("failed", keyed("k", "h"), unaccepted)
	_, err := e.FailUnplaced(e.ctx(), "failed", sandbox.Failure{Reason: sandbox.ReasonNoCapacity, RetainFor: time.Hour})
	e.ok(err)
	e.gone("failed", sandbox.ReasonCreateFailed)
	testKeyConcurrent(e)
}

func testKeyConcurrent(e *env) {
	const n = 8
	got := make([]sandbox.ID, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			r, err := e.again(sandbox.ID(rune('a'+i)), "k", "h")
			if err != nil {
				e.Errorf("insert %d: %v", i, err)
			}
			got[i] = r.ID
		})
	}
	wg.Wait()
	for _, id := range got {
		if id != got[0] {
			e.Errorf("one key gave %v", got)
			break
		}
	}
	e.equal("records", e.unplacedIDs(), []sandbox.ID{got[0]})
}
