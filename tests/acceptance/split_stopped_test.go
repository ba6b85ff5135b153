//go:build e2e

package acceptance

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestSplitStoppedProcesses stops a process of each kind with SIGSTOP until the others must take it for dead, and lets it go on. Meanwhile a
// second platform is without its Redis for a minute and a half: both are mostly waits.
func TestSplitStoppedProcesses(t *testing.T) {
	t.Parallel()
	o := beginOutage(t)
	s := newSplit(t, "[scheduler]\nnode_lost_after_seconds = 30\n")
	for i := range 2 {
		p := s.named(fmt.Sprintf("agent-%d", i))
		p.env = append(p.env, fmt.Sprintf("OPENSANDBOX_AGENT_LABELS=host=%d", i))
	}
	s.run()
	s.cleanUp()
	lost, keeper, replaced := s.create(onHost(0)), s.create(onHost(1)), s.createReplaceable()
	watch := s.watchEpochs()

	agent := s.named("agent-0")
	agent.pause(t)
	// Whatever becomes of these, nothing of them may stay: they are placed on a node whose agent does nothing.
	for range 2 {
		s.do("POST", "/v1/sandboxes", spec(onHost(0)), "Prefer", "respond-async")
	}
	s.stopsAPIAndScheduler()
	s.eventually("the api says that the node does not answer", func() bool { return s.reason(lost) == "Running NODE_UNREACHABLE" })
	s.eventually("the node is given up", func() bool { return s.reason(lost) == "Failed NODE_LOST" })
	s.eventually("its other sandbox runs elsewhere", func() bool { return s.state(replaced) == "Running" && s.hostOf(replaced) == s.split.secondAddress })
	if out := output(s.shell(replaced, "echo here"), "stdout"); out != "here\n" {
		t.Errorf("command in the sandbox that was placed anew: %q", out)
	}
	if got := s.onFirstEngine(); !slices.Contains(got, lost) || !slices.Contains(got, replaced) {
		t.Errorf("containers of the stopped agent: %v; %s and %s should still be there", got, lost, replaced)
	}

	agent.resume(t)
	s.eventually("the agent has removed what is not its own any more", func() bool { return len(s.onFirstEngine()) == 0 })
	s.eventually("the node takes sandboxes again", func() bool {
		return s.do("POST", "/v1/sandboxes", spec(onHost(0))).status == http.StatusAccepted
	})
	for _, i := range s.items("") {
		if id := i["id"].(string); s.state(id) == "Failed" {
			s.do("DELETE", "/v1/sandboxes/"+id, nil)
		}
	}
	s.settled("after all have gone on")
	for id, what := range map[string]string{keeper: "the sandbox that nobody touched", replaced: "the sandbox that was placed anew"} {
		if out := output(s.shell(id, "echo alive"), "stdout"); out != "alive\n" {
			t.Errorf("%s: command in the end: %q", what, out)
		}
	}
	for _, problem := range watch() {
		t.Error(problem)
	}
	o.end()
}

// pause stops the process where it is; resume lets it go on.
func (p *program) pause(t *testing.T)  { p.signal(t, syscall.SIGSTOP) }
func (p *program) resume(t *testing.T) { p.signal(t, syscall.SIGCONT) }

func (p *program) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.Signal(sig); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
}

// onHost asks for the node of an agent by its label.
func onHost(i int) m { return m{"extensions": m{"node.labels": fmt.Sprintf("host=%d", i)}} }

// createReplaceable makes a sandbox on the first node that may be placed anew.
func (s *server) createReplaceable() string {
	s.t.Helper()
	for range 12 {
		id := s.create(m{"extensions": m{"node.lost": "replace"}})
		if s.hostOf(id) != s.split.secondAddress {
			return id
		}
	}
	s.t.Fatal("12 sandboxes are on the second node")
	return ""
}

// stopsAPIAndScheduler stops one api, in the middle of requests, and one scheduler for longer than a lease, and looks at what the others do
// meanwhile.
func (s *server) stopsAPIAndScheduler() {
	s.t.Helper()
	victim, due, renewed := s.create(onHost(1)), s.create(onHost(1)), s.create(onHost(1))
	api, scheduler := s.named("api-1"), s.named("scheduler-0")
	at := time.Now().Add(5 * time.Second)
	s.renew(due, at)
	s.renew(renewed, at)
	var requests sync.WaitGroup
	for path, body := range map[string]any{"/v1/sandboxes": spec(onHost(1)), "/v1/sandboxes/" + victim + "/pause": nil} {
		for range 2 {
			requests.Go(func() { // what became of it is asked later
				_, _ = request("POST", s.split.apis[1]+path, body, "OPEN-SANDBOX-API-KEY", apiKey)
			})
		}
	}
	time.Sleep(50 * time.Millisecond) // in the middle of the requests
	api.pause(s.t)
	scheduler.pause(s.t)
	began := time.Now()
	s.renew(renewed, time.Now().Add(time.Hour))
	runsUntil(s.t, at, func() (string, bool) { return s.state(due), true })
	s.eventually("the other scheduler ends what is due", func() bool { return s.state(due) == "404" })
	s.create(onHost(1))
	time.Sleep(time.Until(began.Add(20 * time.Second))) // a lease is 15 s
	api.resume(s.t)
	scheduler.resume(s.t)
	requests.Wait()
	s.eventually("the api that was stopped answers", func() bool {
		a, err := request("GET", s.split.apis[1]+"/v1/sandboxes/"+renewed, nil, "OPEN-SANDBOX-API-KEY", apiKey)
		return err == nil && a.status == http.StatusOK && a.json(s.t)["status"].(m)["state"] == "Running"
	})
}

// reason returns state and reason of a sandbox.
func (s *server) reason(id string) string {
	s.t.Helper()
	a := s.do("GET", "/v1/sandboxes/"+id, nil)
	if a.status != http.StatusOK {
		return fmt.Sprint(a.status)
	}
	st := a.json(s.t)["status"].(m)
	return fmt.Sprint(st["state"], " ", st["reason"])
}

// onFirstEngine returns the sandboxes of which the first engine has a container.
func (s *server) onFirstEngine() []string {
	s.t.Helper()
	return strings.Fields(docker(s.t, "ps", "-a", "--filter", "label=dev.opensandbox.installation="+s.installation(), "--format", `{{.Label "opensandbox.io/id"}}`))
}

// watchEpochs looks for two containers of one epoch of a sandbox, on whatever engines, until the function that it returns is called, which
// says what was found.
func (s *server) watchEpochs() (end func() []string) {
	ctx, cancel := context.WithCancel(context.Background())
	found, over := map[string]bool{}, make(chan struct{})
	look := func() {
		seen := map[string]int{}
		for _, engine := range s.engines() {
			args := append(slices.Clone(engine), "ps", "-a", "--filter", "label=dev.opensandbox.installation="+s.installation(),
				"--format", `{{.Label "opensandbox.io/id"}} of epoch {{.Label "dev.opensandbox.epoch"}}`)
			out, err := exec.CommandContext(ctx, "docker", args...).Output()
			if err != nil && ctx.Err() == nil {
				found[fmt.Sprintf("docker: %v", err)] = true
			}
			for line := range strings.Lines(string(out)) {
				seen[strings.TrimSpace(line)]++
			}
		}
		for what, n := range seen {
			if n > 1 {
				found[fmt.Sprintf("there were %d containers of %s", n, what)] = true
			}
		}
	}
	go func() {
		defer close(over)
		for tick := time.NewTicker(time.Second); ctx.Err() == nil; {
			look()
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
			}
		}
	}()
	end = sync.OnceValue(func() []string {
		cancel()
		<-over
		return slices.Sorted(maps.Keys(found))
	})
	s.t.Cleanup(func() { end() })
	return end
}

// outage is a platform whose Redis is away.
type outage struct {
	s     *server
	began time.Time
	// kept are sandboxes that nothing may happen to; the deadline of due passes while the Redis is away.
	kept []taken
	due  string
}

// outageFor is longer than leases, and than whatever else the parts wait for.
const outageFor = 90 * time.Second

// beginOutage starts a platform with a few sandboxes and ends its Redis.
func beginOutage(t *testing.T) *outage {
	t.Helper()
	s := startSplit(t, "")
	o := &outage{s: s, kept: []taken{s.take("a"), s.take("b")}, due: s.create(nil)}
	s.mirrored(o.kept...)
	for _, x := range o.kept {
		o.traffic("before", x)
	}
	s.renew(o.due, time.Now().Add(20*time.Second))
	s.split.redis.Kill()
	// A platform without its Redis cannot be cleaned up, also if the rest of the test fails.
	t.Cleanup(func() {
		if !o.began.IsZero() {
			s.split.redis.Start()
			s.eventually("the store is back", func() bool { return s.state(o.kept[0].id) != "503" })
		}
	})
	o.began = time.Now()
	return o
}

// traffic checks that a sandbox is reached, directly and through the router.
func (o *outage) traffic(what string, x taken) {
	o.s.t.Helper()
	for way, at := range map[string]string{"directly": x.url, "through the router": o.s.split.router + "/" + x.id + "/44772"} {
		if out := output(o.s.stream(at, x.token, m{"command": "echo there"}), "stdout"); out != "there\n" {
			o.s.t.Errorf("%s the outage, %s: %q", what, way, out)
		}
	}
}

// end waits until the outage has been long enough, and looks at what it has done.
func (o *outage) end() {
	s, t := o.s, o.s.t
	t.Helper()
	time.Sleep(time.Until(o.began.Add(outageFor)))
	for _, p := range s.programs {
		p.mustRun(t, s.dir)
	}
	for _, x := range o.kept {
		o.traffic("after "+time.Since(o.began).Round(time.Second).String()+" of", x)
	}
	want, got := []string{o.due, o.kept[0].id, o.kept[1].id}, s.containers()
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("containers while nobody can decide anything: %v, want %v", got, want)
	}
	if a := s.do("GET", "/v1/sandboxes/"+o.due, nil); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("get without a store: %v", a)
	}
	o.began = time.Time{}
	s.split.redis.Start()
	for _, x := range o.kept {
		s.found(x)
	}
	s.eventually("what was due meanwhile is gone", func() bool { return s.state(o.due) == "404" && !slices.Contains(s.containers(), o.due) })
	s.eventually("creates succeed again", func() bool { return s.do("POST", "/v1/sandboxes", spec(nil)).status == http.StatusAccepted })
	s.settled("after the outage")
}
