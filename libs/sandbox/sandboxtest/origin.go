package sandboxtest

import (
	"time"

	"opensandbox/libs/sandbox"
)

var originTests = []test{
	{"TheRequestTravelsWithChangesOfDesired", testOrigin},
	{"OtherTenantsSeeNothing", testTenants},
}

func testOrigin(e *env) {
	e.register("n")
	one := sandbox.Origin{Trace: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Request: "request-1"}
	two := sandbox.Origin{Trace: "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Request: `of "a" client`}
	want := func(what string, o sandbox.Origin) {
		e.Helper()
		if got := e.get("a").Intent.Origin; got != o {
			e.Errorf("%s: origin %q; want %q", what, got, o)
		}
	}
	_, err := e.Insert(sandbox.WithOrigin(e.ctx(), one), sandbox.New{ID: "a", Tenant: tenant, Spec: Spec(time.Hour)})
	e.ok(err)
	want("insert", one)
	e.place("a", "n")
	e.report("a", sandbox.StateRunning)
	want("placed and reported", one)
	_, err = e.SetDesired(sandbox.WithOrigin(e.ctx(), two), "a", sandbox.DesiredRunning, 1)
	e.ok(err)
	want("nothing was changed", one)
	_, err = e.SetDesired(sandbox.WithOrigin(e.ctx(), two), "a", sandbox.DesiredPaused, 1)
	e.ok(err)
	want("pause", two)
	_, err = e.Renew(sandbox.WithOrigin(e.ctx(), one), "a", tenant, e.clock.Now().Add(2*time.Hour))
	e.ok(err)
	want("a renewal is no change of Desired", two)
	_, err = e.SetGone(sandbox.WithOrigin(e.ctx(), one), "a", sandbox.ReasonDeleted)
	e.ok(err)
	want("gone", one)
	_, err = e.SetGone(sandbox.WithOrigin(e.ctx(), two), "a", sandbox.ReasonDeleted)
	e.ok(err)
	want("gone again", one)
	e.insert("b")
	if got := e.get("b").Intent.Origin; got != (sandbox.Origin{}) {
		e.Errorf("made by nobody's request: origin %q", got)
	}
}

func testTenants(e *env) {
	r := e.insert("a")
	at := e.clock.Now().Add(2 * time.Hour)
	for _, other := range []string{"", "team-b"} {
		_, err := e.Renew(e.ctx(), "a", other, at)
		e.notFound("renewal by "+other, err)
		_, err = e.PatchMetadata(e.ctx(), "a", other, map[string]*string{"k": ptr("v")})
		e.notFound("patch by "+other, err)
	}
	e.unchanged(r)
	_, err := e.Renew(e.ctx(), "a", sandbox.AnyTenant, at)
	e.ok(err)
	got, err := e.PatchMetadata(e.ctx(), "a", sandbox.AnyTenant, map[string]*string{"k": ptr("v")})
	e.ok(err)
	if !got.Intent.ExpiresAt.Equal(at) || got.Intent.Metadata["k"] != "v" {
		e.Errorf("changed by the platform: %+v", got.Intent)
	}
}
