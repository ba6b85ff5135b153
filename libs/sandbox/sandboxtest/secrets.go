package sandboxtest

import (
	"bytes"
	"encoding/json"
	"time"

	"opensandbox/libs/sandbox"
)

var secretTests = []test{
	{"SecretTravelsBesideTheRecord", testSecretBeside},
	{"SecretIsDropped", testSecretDropped},
	{"SecretOfAReplacedSandbox", testSecretReplaced},
	{"SecretOfARepeatedCreate", testSecretRepeated},
}

// sealed is a secret with bytes that are no text.
var sealed = []byte("a sealed \x00\xff secret")

func private(n *sandbox.New) { n.Spec.Private, n.Secret = true, bytes.Clone(sealed) }

func (e *env) secret(id sandbox.ID, want []byte) {
	e.Helper()
	got, err := e.Secret(e.ctx(), id)
	e.ok(err)
	if !bytes.Equal(got, want) {
		e.Errorf("secret of %s: %q; want %q", id, got, want)
	}
}

func testSecretBeside(e *env) {
	e.register("n")
	e.secret("unknown", nil)
	e.insert("plain")
	e.secret("plain", nil)
	r := e.insert("a", private)
	e.secret("a", sealed)
	e.place("a", "n")
	rep := e.reportOf(e.get("a"), sandbox.StatePending)
	rep.Generation = 0
	_, err := e.Report(e.ctx(), rep)
	e.ok(err)
	_, err = e.Accept(e.ctx(), "a")
	e.ok(err)
	_, err = e.Renew(e.ctx(), "a", tenant, e.clock.Now().Add(time.Minute))
	e.ok(err)
	e.secret("a", sealed)
	for what, r := range map[string]sandbox.Record{"inserted": r, "read": e.get("a")} {
		if text, err := json.Marshal(r); err != nil || bytes.Contains(text, []byte("sealed")) {
			e.Errorf("%s record, %v: %s", what, err, text)
		}
	}
	// What was given belongs to the caller, and so does what was read.
	got, err := e.Secret(e.ctx(), "a")
	e.ok(err)
	clear(got)
	e.secret("a", sealed)
}

func testSecretDropped(e *env) {
	e.register("n")
	for id, end := range map[sandbox.ID]func(id sandbox.ID){
		"running": func(id sandbox.ID) { e.place(id, "n"); e.report(id, sandbox.StateRunning) },
		"failed":  func(id sandbox.ID) { e.place(id, "n"); e.report(id, sandbox.StateFailed) },
		"deleted": func(id sandbox.ID) { e.place(id, "n"); e.gone(id, sandbox.ReasonDeleted) },
		"ended":   func(id sandbox.ID) { e.gone(id, sandbox.ReasonDeleted) },
		"expired": func(sandbox.ID) {
			e.clock.Advance(time.Hour)
			_, err := e.ExpireDue(e.ctx(), e.clock.Now(), 10)
			e.ok(err)
		},
		"unplaced": func(id sandbox.ID) {
			_, err := e.FailUnplaced(e.ctx(), id, sandbox.Failure{Reason: sandbox.ReasonNoCapacity, RetainFor: time.Minute})
			e.ok(err)
		},
	} {
		e.ok(e.RenewLease(e.ctx(), "n", e.session("n"))) // one of them moves the clock
		e.insert(id, private)
		e.secret(id, sealed)
		end(id)
		e.secret(id, nil)
	}
}

func testSecretReplaced(e *env) {
	e.register("n")
	e.register("m")
	e.running("a", "n", private, replaced)
	e.secret("a", sealed)
	e.lose("a")
	e.secret("a", sealed)
	e.register("m")
	e.place("a", "m")
	e.report("a", sandbox.StateRunning)
	e.secret("a", sealed)
	e.gone("a", sandbox.ReasonDeleted)
	e.secret("a", nil)
	e.running("b", "m", private, replaced)
	e.report("b", sandbox.StateTerminated)
	e.secret("b", nil)
	e.insert("c", private)
	e.place("c", "m")
	e.lose("c")
	e.secret("c", nil)
}

func testSecretRepeated(e *env) {
	keyed := func(n *sandbox.New) { n.Key = sandbox.Key{Name: "k", Hash: "h"} }
	e.insert("a", private, keyed)
	n := sandbox.New{ID: "b", Tenant: tenant, Spec: Spec(time.Hour)}
	private(&n)
	keyed(&n)
	r, err := e.Insert(e.ctx(), n)
	e.ok(err)
	e.equal("the first one answers", r.ID, sandbox.ID("a"))
	e.secret("a", sealed)
	e.secret("b", nil)
}
