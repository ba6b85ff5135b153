//go:build integration

package redisstore

import (
	"testing"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/redisstore/redistest"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/sandbox/sandboxtest"
)

// A replica that was cut off is promoted when its master dies: what was written meanwhile is lost, and found out before anything ends by it.
func TestStaleReplicaIsPromoted(t *testing.T) {
	t.Parallel()
	group := redistest.StartReplicated(t, redistest.Options{})
	s := open(t, Config{Client: client(t, single(group.Master)), Installation: "stale"})
	due := writeBefore(t, s, group.Master, group.Replica)
	group.Replica.Do("REPLICAOF", "NO", "ONE")
	lost := writeLost(t, s)
	group.Master.Kill()
	isRecovered(t, open(t, Config{Client: client(t, single(group.Replica)), Installation: "stale"}), due, lost)
}

// writeBefore writes what the replica gets, and returns a record that is due at once.
func writeBefore(t *testing.T, s *Store, master, replica *redistest.Server) sandbox.Record {
	t.Helper()
	register(t, s)
	for _, id := range []sandbox.ID{"before", "deleted"} {
		if err := life(s, id, 0); err != nil {
			t.Fatal(err)
		}
	}
	due, err := s.Insert(t.Context(), sandbox.New{ID: "due", Accepted: true, Spec: sandboxtest.Spec(time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	redistest.AwaitOffset(t, master, replica)
	return due
}

// lost is what was known of a store that went back then.
type lost struct {
	mark    sandbox.Mark
	records map[sandbox.ID]sandbox.Record
}

// writeLost writes what no replica gets.
func writeLost(t *testing.T, s *Store) lost {
	t.Helper()
	ctx := t.Context()
	if _, err := s.Renew(ctx, "before", "t", time.Now().Add(5*time.Hour)); err != nil {
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
	out := lost{known.Mark, map[sandbox.ID]sandbox.Record{}}
	for _, id := range []sandbox.ID{"before", "deleted", "lost"} {
		if out.records[id], err = s.Get(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// isRecovered checks that a store which went back lets nothing end until its node has said what there is, and then has all of it.
func isRecovered(t *testing.T, late *Store, due sandbox.Record, l lost) {
	t.Helper()
	ctx := t.Context()
	guarded := sandbox.WithMark(ctx, l.mark)
	if _, err := late.ExpireDue(guarded, due.Intent.ExpiresAt.Add(time.Hour), 10); fault.CodeOf(err) != sandbox.CodeWentBack {
		t.Errorf("ExpireDue before anybody has looked: %v", err)
	}
	if err := late.RenewLease(guarded, "n", 1); fault.CodeOf(err) != sandbox.CodeWentBack {
		t.Errorf("RenewLease before anybody has looked: %v", err)
	}
	r, err := late.Recover(ctx, sandbox.Claim{Known: l.mark, Node: "n"})
	if err != nil || !r.Going() || !r.Awaits("n") || r.Mark.Changes <= l.mark.Changes {
		t.Fatalf("the recovery is %+v, %v", r, err)
	}
	for id, n := range l.records {
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
