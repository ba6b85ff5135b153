//go:build e2e

package acceptance

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func TestSplitSpreadsOverEngines(t *testing.T) {
	s := startSplit(t, "")
	hosts := map[string]string{}
	for range 12 {
		id := s.create(nil)
		hosts[s.hostOf(id)] = id
		if len(hosts) == 2 {
			break
		}
	}
	if len(hosts) != 2 {
		t.Fatalf("12 sandboxes are on %v, want both engines", slices.Collect(maps.Keys(hosts)))
	}
	for host, id := range hosts {
		if out := output(s.shell(id, "echo direct"), "stdout"); out != "direct\n" {
			t.Errorf("command on %s: %q", host, out)
		}
		_, token := s.endpoint(id, 44772)
		if out := output(s.stream(s.split.router+"/"+id+"/44772", token, m{"command": "echo routed"}), "stdout"); out != "routed\n" {
			t.Errorf("command through the router on %s: %q", host, out)
		}
	}
}

// balanced sends a request to one of the apis, and to the other one if nothing listens there, as a load balancer does.
func (s *server) balanced(n int, method, path string, body any, header ...string) (answer, error) {
	var last error
	for i := range s.split.apis {
		base := s.split.apis[(n+i)%len(s.split.apis)]
		a, err := request(method, base+path, body, append([]string{"OPEN-SANDBOX-API-KEY", apiKey}, header...)...)
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ECONNRESET) {
			return a, err
		}
		last = err
	}
	return answer{}, last
}

// balancer sends requests to the apis that are healthy, and to another one if nothing listens, as load balancers do.
type balancer struct {
	s       *server
	healthy []atomic.Bool
	stop    chan struct{}
	over    sync.WaitGroup
}

// balance looks at the health of each api ten times in a second until end is called.
func (s *server) balance() *balancer {
	b := &balancer{s: s, healthy: make([]atomic.Bool, len(s.split.apis)), stop: make(chan struct{})}
	for i, base := range s.split.apis {
		b.healthy[i].Store(true)
		b.over.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-b.stop:
					return
				case <-tick.C:
				}
				a, err := request(http.MethodGet, base+"/health", nil)
				b.healthy[i].Store(err == nil && a.status == http.StatusOK)
			}
		})
	}
	return b
}

func (b *balancer) end() {
	close(b.stop)
	b.over.Wait()
}

// next returns the number of an api to begin with.
func (b *balancer) next(n int) int {
	for i := range b.healthy {
		if k := (n + i) % len(b.healthy); b.healthy[k].Load() {
			return k
		}
	}
	return n
}

// load is a stream of requests that must all succeed.
type load struct {
	s       *server
	balance *balancer
	stop    atomic.Bool
	workers sync.WaitGroup
	done    atomic.Int64

	mu     sync.Mutex
	failed []string
}

// reads sends gets, lists and renewals of a sandbox without a pause.
func (s *server) reads(id string) *load {
	l := &load{s: s, balance: s.balance()}
	for i := range 4 {
		l.workers.Go(func() {
			for n := i; !l.stop.Load(); n++ {
				l.once(n, id)
			}
		})
	}
	return l
}

func (l *load) once(n int, id string) {
	method, path, body := http.MethodGet, "/v1/sandboxes/"+id, any(nil)
	switch n % 4 {
	case 1:
		path = "/v1/sandboxes?pageSize=20"
	case 2:
		method, path = http.MethodPost, path+"/renew-expiration"
		body = m{"expiresAt": time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)}
	}
	a, err := l.s.balanced(l.balance.next(n), method, path, body)
	if err != nil || a.status != http.StatusOK {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.failed = append(l.failed, fmt.Sprintf("%s %s: %v %v", method, path, a, err))
		return
	}
	l.done.Add(1)
}

// end stops the load and reports what failed.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop.Store(true)
	l.workers.Wait()
	l.balance.end()
	t.Logf("%d requests succeeded, %d failed", l.done.Load(), len(l.failed))
	if len(l.failed) > 0 {
		t.Errorf("%d requests failed, first: %s", len(l.failed), l.failed[0])
	}
}

// TestSplitRollingRestart restarts every process in turn under load. The apis go on for a second while their health says that they are
// leaving, so that a balancer sends them nothing more when they end.
func TestSplitRollingRestart(t *testing.T) {
	s := newSplit(t, "")
	for _, p := range s.programs {
		p.env = append(p.env, "OPENSANDBOX_SERVER_DRAIN_DELAY_SECONDS=1")
	}
	s.run()
	s.cleanUp()
	id := s.create(nil)
	l := s.reads(id)
	for _, p := range s.programs {
		p.stop(t)
		p.run(t, s.dir, s.configFile())
		if strings.HasPrefix(p.name, "api-") {
			s.answers()
			s.eventually("the restarted "+p.name+" answers", func() bool {
				for _, base := range s.split.apis {
					if a, err := request(http.MethodGet, base+"/health", nil); err != nil || a.status != http.StatusOK {
						return false
					}
				}
				return true
			})
		}
	}
	l.end(t)
	if out := output(s.shell(id, "echo alive"), "stdout"); out != "alive\n" {
		t.Errorf("after the restarts: %q", out)
	}
}

// TestSplitKillEach kills one process of each kind with -9 under a load of creates, deletes, pauses and renewals.
func TestSplitKillEach(t *testing.T) {
	s := startSplit(t, "")
	keeper := s.create(m{"metadata": m{"role": "keeper"}})
	for _, name := range []string{"api-1", "scheduler-0", "agent-0", "agent-1", "router", "scheduler-1"} {
		victims := []string{s.create(nil), s.create(nil)}
		due := s.create(nil)
		at := time.Now().Add(1500 * time.Millisecond)
		s.renew(due, at)
		var wg sync.WaitGroup
		for i, r := range []struct {
			method, path string
			body         any
		}{
			{"POST", "/v1/sandboxes", spec(nil)}, {"POST", "/v1/sandboxes", spec(nil)}, {"POST", "/v1/sandboxes", spec(nil)},
			{"DELETE", "/v1/sandboxes/" + victims[0], nil}, {"POST", "/v1/sandboxes/" + victims[1] + "/pause", nil},
		} {
			wg.Go(func() { _, _ = s.balanced(i, r.method, r.path, r.body) }) // what became of it is asked later
		}
		wg.Go(func() { runsUntil(t, at, func() (string, bool) { return s.stateAtFirst(due) }) })
		p := s.named(name)
		p.kill()
		p.run(t, s.dir, s.configFile())
		wg.Wait()
		s.answers()
		s.eventually(name+": the sandbox that was due is gone", func() bool { return s.state(due) == "404" })
		late := time.Since(at)
		s.settled(name)
		t.Logf("%s killed: what was due was gone %v after its deadline", name, late.Round(time.Millisecond))
		if got := s.state(keeper); got != "Running" {
			t.Errorf("%s: the sandbox that nobody touched is %s", name, got)
		}
		if out := output(s.shell(keeper, "echo alive"), "stdout"); out != "alive\n" {
			t.Errorf("%s: command afterwards: %q", name, out)
		}
		_, token := s.endpoint(keeper, 44772)
		if out := output(s.stream(s.split.router+"/"+keeper+"/44772", token, m{"command": "echo routed"}), "stdout"); out != "routed\n" {
			t.Errorf("%s: command through the router afterwards: %q", name, out)
		}
	}
}

// stateAtFirst is state by the first api, which may be out of reach for a moment.
func (s *server) stateAtFirst(id string) (state string, answered bool) {
	a, err := request("GET", s.split.apis[0]+"/v1/sandboxes/"+id, nil, "OPEN-SANDBOX-API-KEY", apiKey)
	switch {
	case err != nil || a.status >= http.StatusInternalServerError:
		return "", false
	case a.status != http.StatusOK:
		return a.String(), true
	}
	return a.json(s.t)["status"].(m)["state"].(string), true
}

func TestSplitStoreGoesAway(t *testing.T) {
	s, r := startSplitOnItsRedis(t)
	id := s.create(nil)
	url, token := s.endpoint(id, 44772)
	routed := s.split.router + "/" + id + "/44772"
	if out := output(s.stream(routed, token, m{"command": "echo before"}), "stdout"); out != "before\n" {
		t.Fatalf("through the router: %q", out)
	}
	r.kill()
	s.eventually("the api says that the store is away", func() bool {
		a, err := s.try("GET", "/v1/sandboxes/"+id, nil)
		return err == nil && a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "" && a.json(t)["code"] != ""
	})
	if a := s.do("POST", "/v1/sandboxes", spec(nil)); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("create without a store: %v", a)
	}
	for what, at := range map[string]string{"directly": url, "through the router": routed} {
		if out := output(s.stream(at, token, m{"command": "echo during"}), "stdout"); out != "during\n" {
			t.Errorf("traffic while the store is away, %s: %q", what, out)
		}
	}
	r.run(t)
	s.eventually("the api answers again", func() bool { return s.state(id) == "Running" })
	var a answer
	s.eventually("creates succeed again", func() bool {
		a = s.do("POST", "/v1/sandboxes", spec(nil))
		return a.status == http.StatusAccepted
	})
	s.settled("after the store came back")
}
