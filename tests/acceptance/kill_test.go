//go:build e2e

package acceptance

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"opensandbox/libs/secrettest"
)

// TestKillAndRestart kills the server with -9 at random moments of creates, deletes, pauses and renewals, starts it again, and looks at
// what became of everything.
func TestKillAndRestart(t *testing.T) {
	s := start(t, "")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	keeper := s.create(m{"metadata": m{"role": "keeper"}})
	url, header := s.endpoint(keeper, 44772)
	for round := range 4 {
		victims := []string{s.create(nil), s.create(nil)}
		var wg sync.WaitGroup
		quiet := func(method, path string, body any) {
			wg.Go(func() { _, _ = s.try(method, path, body) }) // the server dies meanwhile; what became of it is asked later
		}
		for range 5 {
			quiet("POST", "/v1/sandboxes", spec(m{"timeout": 300}))
		}
		for range 3 { // their ids are given out, so they must become Running, whoever brings them there
			wg.Go(func() { _, _ = s.try("POST", "/v1/sandboxes", spec(m{"timeout": 300}), "Prefer", "respond-async") })
		}
		quiet("DELETE", "/v1/sandboxes/"+victims[0], nil)
		quiet("POST", "/v1/sandboxes/"+victims[1]+"/pause", nil)
		time.Sleep(time.Duration(rng.IntN(900)) * time.Millisecond) // the random moment
		s.kill()
		wg.Wait()
		s.run()
		s.settled(fmt.Sprintf("round %d", round))
		if got := s.state(keeper); got != "Running" {
			t.Errorf("round %d: the sandbox that nobody touched is %s", round, got)
		}
		if out := output(s.stream(url, header, m{"command": "echo alive"}), "stdout"); out != "alive\n" {
			t.Errorf("round %d: endpoint and token from before the restart: %q", round, out)
		}
		if got := s.state(victims[1]); got != "Paused" && got != "Running" {
			t.Errorf("round %d: the paused one is %s", round, got)
		}
	}
}

// settled waits until every record has its container and every container its record.
func (s *server) settled(what string) {
	s.t.Helper()
	var listed, real []string
	s.eventually(what+": every container belongs to a live record and back", func() bool {
		items := s.items("")
		for _, i := range items {
			if st := i["status"].(m)["state"]; st != "Running" && st != "Paused" {
				return false
			}
		}
		listed, real = ids(items), s.containers()
		slices.Sort(listed)
		slices.Sort(real)
		return slices.Equal(listed, real)
	})
}

func TestDeadlinesThatPassWhileTheServerIsDown(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	due, later := s.create(nil), s.create(nil)
	at := time.Now().Add(2 * time.Second)
	s.renew(due, at)
	longer := time.Now().Add(2 * time.Hour).UTC().Truncate(time.Second).Format(time.RFC3339)
	if a := s.do("POST", "/v1/sandboxes/"+later+"/renew-expiration", m{"expiresAt": longer}); a.status != http.StatusOK {
		t.Fatal(a)
	}
	s.kill()
	if left := s.containers(); len(left) != 2 {
		t.Fatalf("containers after the kill: %v", left)
	}
	time.Sleep(time.Until(at))
	s.run()
	s.eventually("the deadline is carried out", func() bool { return s.state(due) == "404" })
	s.eventually("its container is gone", func() bool { return slices.Equal(s.containers(), []string{later}) })
	if got := s.do("GET", "/v1/sandboxes/"+later, nil).json(t)["expiresAt"]; got != longer {
		t.Errorf("the renewed deadline is %v after the restart, want %s", got, longer)
	}
}

// renew moves a deadline.
func (s *server) renew(id string, at time.Time) {
	s.t.Helper()
	if a := s.do("POST", "/v1/sandboxes/"+id+"/renew-expiration", m{"expiresAt": at.UTC().Format(time.RFC3339Nano)}); a.status != http.StatusOK {
		s.t.Fatal(a)
	}
}

// runsUntil checks that a sandbox runs until it is due. state tells what it is, or that nobody has answered.
func runsUntil(t *testing.T, at time.Time, state func() (got string, answered bool)) {
	t.Helper()
	for time.Now().Before(at.Add(-20 * time.Millisecond)) {
		if got, answered := state(); answered && got != "Running" && time.Now().Before(at) {
			t.Errorf("%s, %v before the deadline", got, time.Until(at))
			return
		}
	}
}

func TestDeadlineIsNeverEarly(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	id := s.create(nil)
	at := time.Now().Add(3 * time.Second)
	s.renew(id, at)
	runsUntil(t, at, func() (string, bool) { return s.state(id), true })
	s.eventually("it is gone afterwards", func() bool { return s.state(id) == "404" && len(s.containers()) == 0 })
}

func TestContainersThatChangeByHand(t *testing.T) {
	t.Parallel()
	s := start(t, "")
	removed, paused, killed, ended := s.create(nil), s.create(nil), s.create(nil), s.create(m{"entrypoint": []string{"sleep", "2"}})
	docker(t, "rm", "-f", "sandbox-"+removed)
	docker(t, "pause", "sandbox-"+paused)
	docker(t, "kill", "sandbox-"+killed)
	for id, want := range map[string]string{removed: "Failed CONTAINER_LOST", killed: "Failed CONTAINER_EXITED_ERROR", ended: "Terminated CONTAINER_EXITED"} {
		s.eventually(want, func() bool {
			a := s.do("GET", "/v1/sandboxes/"+id, nil)
			st := a.json(t)["status"].(m)
			return fmt.Sprint(st["state"], " ", st["reason"]) == want
		})
	}
	s.eventually("what was paused by hand goes on", func() bool {
		return docker(t, "inspect", "-f", "{{.State.Paused}}", "sandbox-"+paused) == "false"
	})
	if out := output(s.shell(paused, "echo on"), "stdout"); out != "on\n" {
		t.Errorf("after the unpause: %q", out)
	}
	wantEnvelope(t, "pause of an ended one", s.do("POST", "/v1/sandboxes/"+ended+"/pause", nil), 409)
}

func TestTwoServersOnOneEngine(t *testing.T) {
	t.Parallel()
	a, b := start(t, ""), start(t, "")
	id := a.create(nil)
	b.create(nil)
	if got := ids(b.items("")); slices.Contains(got, id) {
		t.Error("one server lists the other's sandbox")
	}
	wantEnvelope(t, "the other's delete", b.do("DELETE", "/v1/sandboxes/"+id, nil), 404)
	b.kill()
	b.run()
	if got := a.state(id); got != "Running" {
		t.Errorf("after the other's restart: %s", got)
	}
}

func TestSecretsAreNotLogged(t *testing.T) {
	t.Parallel()
	s := start(t, "[log]\nlevel = \"DEBUG\"\n")
	// The environment of a sandbox is its own matter on the engine, and so no secret of the whole run.
	const value = "value-of-a-secret"
	id := s.create(m{"env": m{"SECRET": value}})
	s.shell(id, "echo hi")
	auth := m{"username": "u", "password": secrettest.New("the password of no registry")}
	s.do("POST", "/v1/sandboxes", spec(m{"image": m{"uri": "x", "auth": auth}}))
	log := s.text()
	secrettest.Absent(t, "the log", log)
	if strings.Contains(log, value) {
		t.Error("the environment of a sandbox is in the log")
	}
}
