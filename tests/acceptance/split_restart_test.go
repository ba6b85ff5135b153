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
)

// TestSplitRollingRestart restarts every process in turn under load, an api and a router at a time: none of the requests fails. Apis and routers
// go on for a while in which their health says that they are leaving, so that the balancer sends them nothing more when they end.
func TestSplitRollingRestart(t *testing.T) {
	s := newSplit(t, "")
	for _, p := range s.programs {
		p.env = append(p.env, fmt.Sprintf("OPENSANDBOX_SERVER_DRAIN_DELAY_SECONDS=%d", drainDelay))
	}
	s.run()
	s.cleanUp()
	b := s.balance()
	keeper := s.create(nil)
	b.tellsTheClient(s, keeper)
	l := s.begin(b, keeper)
	for _, names := range [][]string{{"api-0", "router-0"}, {"scheduler-0"}, {"agent-0"}, {"api-1", "router-1"}, {"scheduler-1"}, {"agent-1"}} {
		s.restart(b, names...)
	}
	for _, f := range l.end(t) {
		t.Error(f)
	}
	if out := output(s.shell(keeper, "echo alive"), "stdout"); out != "alive\n" {
		t.Errorf("after the restarts: %q", out)
	}
	s.settled("after the restarts")
}

// restart ends processes in order, starts them again, and waits until the balancer uses those that it knows.
func (s *server) restart(b *balancer, names ...string) {
	s.t.Helper()
	var ends sync.WaitGroup
	for _, name := range names {
		p := s.named(name)
		ends.Go(func() { p.stop(s.t) })
	}
	ends.Wait()
	for _, name := range names {
		s.named(name).run(s.t, s.dir, s.configFile())
	}
	for _, name := range names {
		if strings.HasPrefix(name, "api-") || strings.HasPrefix(name, "router-") {
			s.eventually("the balancer uses "+name, func() bool { return b.uses(name) })
		}
	}
}

// TestSplitKillEach kills one process of each kind with -9 under load, and starts it again a while later. Only what was in progress in an api or a router that dies
// may fail, and of that only what must not be sent twice. Nothing ends early, and in the end all that there is belongs to a record.
func TestSplitKillEach(t *testing.T) {
	s := startSplit(t, "")
	b := s.balance()
	keeper := s.create(m{"metadata": m{"role": "keeper"}})
	l := s.begin(b, keeper)
	var dead []death
	for _, name := range []string{"api-1", "scheduler-0", "agent-0", "router-0"} {
		dead = append(dead, s.killUnderLoad(b, name))
		if got := s.state(keeper); got != "Running" {
			t.Errorf("%s: the sandbox that stays is %s", name, got)
		}
	}
	for _, f := range l.end(t) {
		if !slices.ContainsFunc(dead, func(d death) bool { return d.excuses(f) }) {
			t.Error(f)
		}
	}
	s.settled("after the kills")
	s.agrees()
	s.noFiles(l.gone)
	_, token := s.endpoint(keeper, 44772)
	for _, router := range s.split.routers {
		if out := output(s.stream(router+"/"+keeper+"/44772", token, m{"command": "echo routed"}), "stdout"); out != "routed\n" {
			t.Errorf("command through a router afterwards: %q", out)
		}
	}
}

// death is the time in which a process was killed.
type death struct {
	name     string
	from, to time.Time
}

// excuses reports whether a request had to fail, because it was in progress in the process that died and may not be sent twice.
func (d death) excuses(f failure) bool {
	if f.began.After(d.to) || f.ended.Before(d.from) || (f.status != 0 && f.status != http.StatusBadGateway) {
		return false
	}
	kind, _, _ := strings.Cut(d.name, "-")
	switch {
	case strings.HasSuffix(f.what, "command through an api"):
		return kind == "api"
	case strings.HasSuffix(f.what, "command through a router"):
		return kind == "router"
	}
	return kind == "api" && slices.Contains([]string{"create", "delete", "renewal", "metadata patch"}, f.what)
}

// killUnderLoad kills a process a while before a deadline, starts it again after that, and waits until the deadline is carried out.
func (s *server) killUnderLoad(b *balancer, name string) death {
	s.t.Helper()
	due := s.create(nil)
	at := time.Now().Add(1500 * time.Millisecond)
	s.renew(due, at)
	var watching sync.WaitGroup
	watching.Go(func() { runsUntil(s.t, at, func() (string, bool) { return b.stateOf(due) }) })
	time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond) // the random moment
	p := s.named(name)
	d := death{name: name, from: time.Now()}
	p.kill()
	d.to = time.Now()
	watching.Wait()
	state := "Running"
	s.eventually(name+": the deadline has come", func() bool {
		got, answered := b.stateOf(due)
		if answered {
			state = got
		}
		return state != "Running"
	})
	decided := time.Since(at)
	p.run(s.t, s.dir, s.configFile())
	s.eventually(name+": what was due is gone", func() bool {
		got, answered := b.stateOf(due)
		return answered && got == "404"
	})
	s.t.Logf("%s killed: the deadline was seen to be carried out %v after it, and all was removed after %v", name, decided.Round(time.Millisecond), time.Since(at).Round(time.Millisecond))
	if strings.HasPrefix(name, "api-") || strings.HasPrefix(name, "router-") {
		s.eventually("the balancer uses "+name, func() bool { return b.uses(name) })
	}
	return d
}

// stateOf is the state of a sandbox, or its status code if that is not 200. Nobody may answer for a moment.
func (b *balancer) stateOf(id string) (state string, answered bool) {
	a, err := request(http.MethodGet, b.api+"/v1/sandboxes/"+id, nil, "OPEN-SANDBOX-API-KEY", apiKey)
	switch {
	case err != nil || a.status >= http.StatusInternalServerError:
		return "", false
	case a.status != http.StatusOK:
		return fmt.Sprint(a.status), true
	}
	return a.text("status", "state"), true
}
