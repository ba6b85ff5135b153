//go:build integration

package redisstore

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"opensandbox/libs/fault"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
)

// A replica that was cut off is promoted when its master dies: what was written meanwhile is lost, and found out before anything ends by it.
func TestStaleReplicaIsPromoted(t *testing.T) {
	t.Parallel()
	group, ctx := redistest.StartReplicated(t, redistest.Options{}), t.Context()
	s := open(t, Config{Client: client(t, single(group.Master)), Installation: "stale"})
	register(t, s)
	for _, id := range []sandbox.ID{"before", "deleted"} {
		if err := life(s, id, 0); err != nil {
			t.Fatal(err)
		}
	}
	due, err := s.Insert(ctx, sandbox.New{ID: "due", Accepted: true, Spec: sandboxtest.Spec(time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replica has caught up", func() bool {
		// HMGET, because a replica that has nothing yet answers HGET by what looks like an error.
		return cmp.Equal(group.Replica.Do("HMGET", s.keys.meta(), metaChanges), group.Master.Do("HMGET", s.keys.meta(), metaChanges))
	})
	group.Replica.Do("REPLICAOF", "NO", "ONE")

	at := time.Now().Add(5 * time.Hour).UTC().Truncate(time.Microsecond)
	if _, err := s.Renew(ctx, "before", "t", at); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetGone(ctx, "deleted", sandbox.ReasonDeleted); err != nil {
		t.Fatal(err)
	}
	if err := life(s, "lost", 0); err != nil {
		t.Fatal(err)
	}
	known, err := s.Recovery(ctx)
	if err != nil {
		t.Fatal(err)
	}
	noted := map[sandbox.ID]sandbox.Record{}
	for _, id := range []sandbox.ID{"before", "deleted", "lost"} {
		if noted[id], err = s.Get(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	group.Master.Kill()

	late := open(t, Config{Client: client(t, single(group.Replica)), Installation: "stale"})
	guarded := sandbox.WithMark(ctx, known.Mark)
	if _, err := late.ExpireDue(guarded, due.Intent.ExpiresAt.Add(time.Hour), 10); fault.CodeOf(err) != sandbox.CodeWentBack {
		t.Errorf("ExpireDue before anybody has looked: %v", err)
	}
	if err := late.RenewLease(guarded, "n", 1); fault.CodeOf(err) != sandbox.CodeWentBack {
		t.Errorf("RenewLease before anybody has looked: %v", err)
	}
	r, err := late.Recover(ctx, sandbox.Claim{Known: known.Mark, Node: "n"})
	if err != nil || !r.Going() || !r.Awaits("n") || r.Mark.Changes <= known.Mark.Changes {
		t.Fatalf("the recovery is %+v, %v", r, err)
	}
	for id, n := range noted {
		got, err := late.Sight(ctx, sandbox.Sighting{
			ID: id, Node: "n", Epoch: 1, Session: 1, Tenant: n.Tenant, CreatedAt: n.CreatedAt, Spec: n.Spec, Intent: n.Intent, Version: n.Version,
			Ports: n.Placement.Ports, Reserved: n.Placement.Reserved, Started: true, Ran: true,
		})
		if err != nil || got.Gone() != n.Gone() || !got.Intent.ExpiresAt.Equal(n.Intent.ExpiresAt) || got.Intent.Metadata["more"] != "changed" {
			t.Errorf("%s is %+v, %v; it was %+v", id, got, err, n)
		}
	}
	if _, err := late.Reported(ctx, "n", 1); err != nil {
		t.Error(err)
	}
	if _, err := late.ExpireDue(ctx, due.Intent.ExpiresAt.Add(time.Hour), 10); fault.CodeOf(err) != sandbox.CodeRecovering {
		t.Errorf("ExpireDue during the recovery: %v", err)
	}
	sound(t, late)
}
