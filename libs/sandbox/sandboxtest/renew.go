package sandboxtest

import (
	"fmt"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

var renewTests = []test{
	{"MovesBothWays", testRenew},
	{"Guards", testRenewGuards},
	{"AfterExit", testRenewAfterExit},
	{"ExtendsForwardsOnly", testExtend},
}

var metadataTests = []test{
	{"Merges", testPatch},
	{"TotalIsBounded", testPatchBound},
	{"OfAFailedCreate", testPatchFailed},
}

func testRenew(e *env) {
	r := e.insert("a")
	for _, d := range []time.Duration{3 * time.Hour, time.Minute, time.Microsecond, 24 * 365 * time.Hour} {
		at := e.clock.Now().Add(d)
		got, err := e.Renew(e.ctx(), "a", tenant, at)
		e.ok(err)
		want := r
		want.Intent.ExpiresAt, want.Version = at, got.Version
		e.equal("renewed", got, want)
		e.unchanged(got)
		if next, ok, err := e.NextDeadline(e.ctx()); err != nil || !ok || !next.Equal(at) {
			e.Errorf("next deadline %s, %v, %v; want %s", next, ok, err, at)
		}
	}
	zone := time.FixedZone("", 3600)
	got, err := e.Renew(e.ctx(), "a", tenant, e.clock.Now().Add(time.Hour).In(zone))
	e.ok(err)
	if loc := got.Intent.ExpiresAt.Location(); loc != time.UTC {
		e.Errorf("deadline is in %s", loc)
	}
}

func testExtend(e *env) {
	r := e.insert("a")
	later := r.Intent.ExpiresAt.Add(time.Hour)
	got, err := e.Extend(e.ctx(), "a", later)
	e.ok(err)
	want := r
	want.Intent.ExpiresAt, want.Version = later, got.Version
	e.equal("extended", got, want)
	for _, at := range []time.Time{later, later.Add(-time.Microsecond), e.clock.Now().Add(time.Minute)} {
		same, err := e.Extend(e.ctx(), "a", at)
		e.ok(err)
		e.equal("extended to no later time", same, got)
	}
	e.unchanged(got)
	_, err = e.Extend(e.ctx(), "a", e.clock.Now())
	e.refused("to a time that has passed", err, fault.Invalid, sandbox.CodeInvalidExpiration)
	manual := e.insert("manual", noTimeout)
	_, err = e.Extend(e.ctx(), "manual", later)
	e.refused("without a deadline", err, fault.Conflict, sandbox.CodeInvalidExpiration)
	e.unchanged(manual)
	e.gone("a", sandbox.ReasonDeleted)
	_, err = e.Extend(e.ctx(), "a", later.Add(time.Hour))
	e.stopping("what is Gone", err)
	_, err = e.Extend(e.ctx(), "unknown", later)
	e.notFound("an unknown one", err)
}

func testRenewGuards(e *env) {
	e.register("n")
	r := e.insert("a")
	for _, d := range []time.Duration{0, -time.Microsecond, -time.Hour} {
		_, err := e.Renew(e.ctx(), "a", tenant, e.clock.Now().Add(d))
		e.refused(fmt.Sprintf("%s from now", d), err, fault.Invalid, sandbox.CodeInvalidExpiration)
	}
	_, err := e.Renew(e.ctx(), "a", tenant, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC))
	e.refused("a year of five digits", err, fault.Invalid, sandbox.CodeInvalidExpiration)
	e.unchanged(r)

	manual := e.insert("manual", noTimeout)
	_, err = e.Renew(e.ctx(), "manual", tenant, e.clock.Now().Add(time.Hour))
	e.refused("without a deadline", err, fault.Conflict, sandbox.CodeInvalidExpiration)
	e.unchanged(manual)

	failed := e.failed("failed", "n")
	_, err = e.Renew(e.ctx(), "failed", tenant, e.clock.Now().Add(time.Hour))
	e.stopping("failed create", err)
	e.unchanged(failed)

	// Past its deadline but not yet set Gone: a renewal that comes first wins.
	e.clock.Advance(2 * time.Hour)
	_, err = e.Renew(e.ctx(), "a", tenant, e.clock.Now().Add(time.Hour))
	e.ok(err)
	due, err := e.ExpireDue(e.ctx(), e.clock.Now(), 10)
	e.ok(err)
	e.equal("expired", due, []sandbox.ID{"failed"})
}

func testRenewAfterExit(e *env) {
	e.register("n")
	e.running("a", "n")
	e.report("a", sandbox.StateTerminated)
	_, err := e.Renew(e.ctx(), "a", tenant, e.clock.Now().Add(5*time.Hour))
	e.ok(err)
}

func testPatch(e *env) {
	e.insert("a", withMetadata("keep", "1", "change", "1", "remove", "1"))
	r, err := e.PatchMetadata(e.ctx(), "a", tenant, map[string]*string{"change": ptr("2"), "remove": nil, "new": ptr(""), "absent": nil})
	e.ok(err)
	want := map[string]string{"keep": "1", "change": "2", "new": ""}
	e.equal("metadata", r.Intent.Metadata, want)
	e.equal("stored", e.get("a").Intent.Metadata, want)
	for query, n := range map[[2]string]int{{"keep", "1"}: 1, {"change", "2"}: 1, {"change", "1"}: 0, {"remove", "1"}: 0, {"new", ""}: 1} {
		page, err := e.List(e.ctx(), sandbox.Query{Tenant: tenant, Metadata: map[string]string{query[0]: query[1]}, Limit: 5})
		e.ok(err)
		if page.Total != n || len(page.Items) != n {
			e.Errorf("list with %v: %d of %d; want %d", query, len(page.Items), page.Total, n)
		}
	}
	if r.Intent.Generation != 1 {
		e.Errorf("generation %d", r.Intent.Generation)
	}
}

func testPatchBound(e *env) {
	r := e.insert("a", withMetadata("x", "1"))
	patch := map[string]*string{}
	for i := range sandbox.MaxMetadataItems {
		patch[fmt.Sprintf("k%d", i)] = ptr("v")
	}
	_, err := e.PatchMetadata(e.ctx(), "a", tenant, patch)
	e.refused("one too many", err, fault.Invalid, sandbox.CodeInvalidLabel)
	e.unchanged(r)
	patch["x"] = nil
	_, err = e.PatchMetadata(e.ctx(), "a", tenant, patch)
	e.ok(err)
}

func testPatchFailed(e *env) {
	e.register("n")
	e.failed("a", "n")
	_, err := e.PatchMetadata(e.ctx(), "a", tenant, map[string]*string{"x": ptr("1")})
	e.ok(err)
}
