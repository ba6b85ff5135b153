//go:build e2e

package acceptance

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// taken is what clients know of a sandbox, and must find again after the store was lost.
type taken struct {
	id, url string
	token   []string
	body    m
}

// take makes a sandbox with metadata and a renewed deadline, and waits until the agent's notes have both.
func (s *server) take(name string) taken {
	s.t.Helper()
	x := taken{id: s.create(m{"metadata": m{"name": name}})}
	at := time.Now().Add(2 * time.Hour).UTC().Truncate(time.Second).Format(time.RFC3339)
	if a := s.do("POST", "/v1/sandboxes/"+x.id+"/renew-expiration", m{"expiresAt": at}); a.status != http.StatusOK {
		s.t.Fatal(a)
	}
	url, token := s.endpoint(x.id, 44772)
	x.url, x.token = url, token
	if out := output(s.stream(x.url, token, m{"command": "echo kept > /tmp/kept"}), "stdout"); out != "" {
		s.t.Fatalf("command: %q", out)
	}
	x.body = s.do("GET", "/v1/sandboxes/"+x.id, nil).json(s.t)
	return x
}

// found checks that a sandbox is there as clients know it, and that it is the same container.
func (s *server) found(x taken) {
	s.t.Helper()
	s.eventually("sandbox "+x.id+" is there again", func() bool { return s.state(x.id) == "Running" })
	body := s.do("GET", "/v1/sandboxes/"+x.id, nil).json(s.t)
	for _, field := range []string{"expiresAt", "createdAt"} {
		if body[field] != x.body[field] {
			s.t.Errorf("%s is %v, and was %v", field, body[field], x.body[field])
		}
	}
	if got, want := body["metadata"].(m)["name"], x.body["metadata"].(m)["name"]; got != want {
		s.t.Errorf("metadata: %v, want %v", got, want)
	}
	if out := output(s.stream(x.url, x.token, m{"command": "cat /tmp/kept"}), "stdout"); out != "kept\n" {
		s.t.Errorf("the address and the token from before: %q", out)
	}
}

func TestADeletedStoreIsMadeAgain(t *testing.T) {
	t.Parallel()
	s := startSingle(t, "")
	a, b := s.take("a"), s.take("b")
	s.mirrored(a, b)
	s.kill()
	files, err := filepath.Glob(filepath.Join(s.dir, "data", "store.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("files of the store: %v, %v", files, err)
	}
	for _, f := range files {
		if filepath.Ext(f) == ".lock" {
			continue
		}
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	s.run()
	s.found(a)
	s.found(b)
	fresh := s.create(nil)
	want := []string{a.id, b.id, fresh}
	slices.Sort(want)
	got := s.containers()
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("containers: %v, want %v", got, want)
	}
	if x := s.do("DELETE", "/v1/sandboxes/"+a.id, nil); x.status != http.StatusNoContent {
		t.Errorf("delete: %v", x)
	}
	s.settled("after the recovery")
}

// mirrored waits until the agents have noted what was changed last: a mirror is at most a few seconds behind.
func (s *server) mirrored(all ...taken) {
	s.t.Helper()
	for _, x := range all {
		s.eventually("the mirror has the deadline of "+x.id, func() bool {
			files, _ := filepath.Glob(filepath.Join(s.dir, "state*", "mirror", "journal"))
			for _, name := range files {
				text, _ := os.ReadFile(name) // it may just be written anew
				for line := range strings.Lines(string(text)) {
					if strings.Contains(line, `"id":"`+x.id+`"`) && strings.Contains(line, x.body["expiresAt"].(string)) {
						return true
					}
				}
			}
			return false
		})
	}
}

// The file of the store is put back as it was a while ago, as from a backup.
func TestAnOlderStoreIsPutBack(t *testing.T) {
	t.Parallel()
	s := startSingle(t, "")
	a := s.take("a")
	s.kill()
	putBack := backUp(t, filepath.Join(s.dir, "data"))
	s.run()
	at := time.Now().Add(3 * time.Hour).UTC().Truncate(time.Second).Format(time.RFC3339)
	if x := s.do("POST", "/v1/sandboxes/"+a.id+"/renew-expiration", m{"expiresAt": at}); x.status != http.StatusOK {
		t.Fatal(x)
	}
	a.body = s.do("GET", "/v1/sandboxes/"+a.id, nil).json(t)
	b := s.take("b")
	s.mirrored(a, b)
	s.kill()
	putBack()
	s.run()
	s.found(a)
	s.found(b)
	s.tellsWhatIsNotRestored("made=1")
	for _, x := range []taken{a, b} {
		if x := s.do("DELETE", "/v1/sandboxes/"+x.id, nil); x.status != http.StatusNoContent {
			t.Errorf("delete: %v", x)
		}
	}
	s.settled("after the recovery")
}

// backUp copies a directory, and returns what makes the directory again as it was then.
func backUp(t *testing.T, dir string) (putBack func()) {
	t.Helper()
	kept := t.TempDir()
	if err := os.CopyFS(kept, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(dir, os.DirFS(kept)); err != nil {
			t.Fatal(err)
		}
	}
}

// tellsWhatIsNotRestored waits until the log says that a recovery is over, what was made again, and what was not.
func (s *server) tellsWhatIsNotRestored(made string) {
	s.t.Helper()
	for _, want := range []string{"the store has been told what this node has", made, "the recovery of the store is over; what no node has is not made again", "idempotency keys"} {
		s.eventually("the log says "+want, func() bool { return strings.Contains(s.text(), want) })
	}
}

func TestSplitStoreIsEmptied(t *testing.T) {
	s := startSplit(t, "")
	a, b := s.take("a"), s.take("b")
	s.mirrored(a, b)
	s.split.redis.Do("FLUSHALL")
	// An agent that the store does not know ends, and whoever supervises it starts it again.
	for _, name := range []string{"agent-0", "agent-1"} {
		p := s.named(name)
		select {
		case <-p.Ended():
		case <-time.After(patience):
			t.Fatalf("%s goes on", name)
		}
		p.run(t, s.dir, s.configFile())
	}
	s.found(a)
	s.found(b)
	var x answer
	s.eventually("creates succeed again", func() bool {
		x = s.do("POST", "/v1/sandboxes", spec(nil))
		return x.status == http.StatusAccepted
	})
	s.settled("after the recovery")
}

// A Redis comes back with the data of a while ago, as from a backup or by a failover to a replica that was behind.
func TestSplitStoreGoesBack(t *testing.T) {
	s := startSplit(t, "")
	a := s.take("a")
	s.split.redis.Kill()
	putBack := backUp(t, filepath.Join(s.split.redis.Dir(), "appendonlydir"))
	s.split.redis.Start()
	s.eventually("changes succeed again", func() bool {
		at := time.Now().Add(3 * time.Hour).UTC().Truncate(time.Second).Format(time.RFC3339)
		return s.do("POST", "/v1/sandboxes/"+a.id+"/renew-expiration", m{"expiresAt": at}).status == http.StatusOK
	})
	a.body = s.do("GET", "/v1/sandboxes/"+a.id, nil).json(t)
	b := s.take("b")
	s.mirrored(a, b)
	s.split.redis.Kill()
	putBack()
	s.split.redis.Start()
	s.eventually("the lost sandbox is there again", func() bool { return s.state(b.id) == "Running" })
	s.eventually("the lost renewal is there again", func() bool {
		return s.do("GET", "/v1/sandboxes/"+a.id, nil).json(t)["expiresAt"] == a.body["expiresAt"]
	})
	s.found(a)
	s.found(b)
	s.tellsWhatIsNotRestored("made=1")
	for _, x := range []taken{a, b} {
		if x := s.do("DELETE", "/v1/sandboxes/"+x.id, nil); x.status != http.StatusNoContent {
			t.Errorf("delete: %v", x)
		}
	}
	s.settled("after the recovery")
}
