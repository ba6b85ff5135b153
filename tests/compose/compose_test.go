//go:build e2e

package compose

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestComposeFile goes through the life of a platform on two engines, in one test because starting it takes most of the time.
func TestComposeFile(t *testing.T) {
	p := newPlatform(t)
	p.up()
	boxes := p.onBothEngines()
	for _, b := range boxes {
		p.runs(b, "directly", "http://"+b.endpoint)
		p.runs(b, "through the router", p.router+"/"+b.id+"/44772")
	}
	p.isObserved()
	p.isTraced()
	p.upAgain()
	p.rollingRestart()
	for _, b := range boxes {
		p.runs(b, "after the restarts", p.router+"/"+b.id+"/44772")
	}
	p.downAndUp(boxes)
	p.downForGood()
}

// up starts everything and takes URL and key from what a person would read.
func (p *platform) up() {
	p.t.Helper()
	out := p.run(script, "up")
	found := regexp.MustCompile(`(?m)^  (URL|key) +(\S+)$`).FindAllStringSubmatch(out, -1)
	if len(found) != 2 || found[0][2] != p.api || !strings.Contains(out, "curl") {
		p.t.Fatalf("no URL and key, or no lines for curl, in:\n%s", out)
	}
	p.key = found[1][2]
	if n := p.listSecrets(); n != 3 {
		p.t.Errorf("%d secrets are among the settings, want 3", n)
	}
	info, err := os.Stat(p.settings)
	if err != nil || info.Mode().Perm() != 0o600 {
		p.t.Errorf("the file with the secrets: %v, %v", info, err)
	}
}

// onBothEngines creates sandboxes until each engine has one.
func (p *platform) onBothEngines() []box {
	p.t.Helper()
	var boxes []box
	hosts := map[string]bool{}
	for range 12 {
		b := p.create()
		boxes = append(boxes, b)
		if hosts[b.host()] = true; len(hosts) == 2 {
			break
		}
	}
	if !hosts["127.0.0.1"] || !hosts[p.secondHost] {
		p.t.Fatalf("%d sandboxes are on the hosts %v, want both engines used", len(boxes), hosts)
	}
	for _, engine := range []string{"", p.second} {
		if len(p.ofInstallation(engine)) == 0 {
			p.t.Errorf("engine %q has no container of this installation", engine)
		}
	}
	return boxes
}

// ofInstallation returns the containers of sandboxes on an engine.
func (p *platform) ofInstallation(engine string) []string {
	args := []string{"ps", "-aq", "--filter", "label=dev.opensandbox.installation=" + p.installation}
	if engine != "" {
		args = append([]string{"-H", engine}, args...)
	}
	return p.lines("docker", args...)
}

// isObserved: Prometheus reaches every process, and each tells something that only its kind tells.
func (p *platform) isObserved() {
	p.t.Helper()
	for metric, want := range map[string]int{
		`up{job=~"opensandbox.*|haproxy"} == 1`:                                         8,
		`opensandbox_store_operation_duration_seconds_count`:                            0,
		`process_resident_memory_bytes{job="opensandbox-api"}`:                          2,
		`sum by (job, instance) (opensandbox_http_request_duration_seconds_count)`:      2,
		`opensandbox_scheduler_expired_total`:                                           2,
		`sum by (job, instance) (opensandbox_agent_engine_call_duration_seconds_count)`: 2,
		`sum by (job, instance) (opensandbox_router_requests_total{outcome="proxied"})`: 1,
	} {
		var got map[string]string
		p.eventually(fmt.Sprintf("%d series of %s", want, metric), func() bool {
			got = p.query(metric)
			return len(got) > 0 && (want == 0 || len(got) == want)
		})
	}
}

// isTraced: one trace goes from the API through scheduler and agent.
func (p *platform) isTraced() {
	p.t.Helper()
	p.eventually("a trace with api, scheduler and agent", func() bool {
		a, err := p.send(http.MethodGet, p.traces+"/traces", nil, nil)
		var traces map[string][]string
		if err != nil || json.Unmarshal(a.body, &traces) != nil {
			return false
		}
		for _, services := range traces {
			if slices.Contains(services, "opensandbox-api") && slices.Contains(services, "opensandbox-scheduler") && slices.Contains(services, "opensandbox-agent") {
				return true
			}
		}
		return false
	})
}

// upAgain: what is up to date is left alone.
func (p *platform) upAgain() {
	p.t.Helper()
	all := func() []string {
		out := p.run("docker", "ps", "--format", "{{.Names}} is {{.ID}}", "--filter", "label=com.docker.compose.project="+p.project)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		slices.Sort(lines)
		return lines
	}
	before, key := all(), p.key
	p.up()
	if after := all(); !slices.Equal(before, after) || p.key != key {
		p.t.Errorf("a second up made %q of the containers %q, and the key is the same: %t", after, before, p.key == key)
	}
}

// rollingRestart restarts every replica while requests go on, and none of them fails.
func (p *platform) rollingRestart() {
	p.t.Helper()
	stop := make(chan struct{})
	var done atomic.Int64
	var mu sync.Mutex
	var failures []string
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n, failed := p.visit()
				done.Add(int64(n))
				if failed != "" {
					mu.Lock()
					failures = append(failures, failed)
					mu.Unlock()
				}
			}
		})
	}
	for _, service := range []string{"api-1", "api-2", "scheduler-1", "scheduler-2", "api-1", "api-2"} {
		p.restart(service)
	}
	close(stop)
	wg.Wait()
	p.t.Logf("%d requests went on during the restarts, %d failed", done.Load(), len(failures))
	if len(failures) > 0 || done.Load() < 100 {
		p.t.Errorf("of %d requests failed: %q", done.Load(), failures[:min(len(failures), 5)])
	}
}

// visit makes the requests of one small life: list, create, read, remove. It returns how many there were and the first failure.
func (p *platform) visit() (n int, failed string) {
	ask := func(want int, method, path string, body any, header ...string) answer {
		n++
		a, err := p.call(method, path, body, header...)
		if failed == "" && (err != nil || a.status != want) {
			failed = fmt.Sprintf("%s %s: %v, %v", method, path, a, err)
		}
		return a
	}
	for range 20 {
		ask(http.StatusOK, http.MethodGet, "/sandboxes?pageSize=5", nil)
	}
	made := ask(http.StatusAccepted, http.MethodPost, "/sandboxes", spec(), "Prefer", "respond-async")
	var b struct {
		ID string `json:"id"`
	}
	if failed != "" || json.Unmarshal(made.body, &b) != nil || b.ID == "" {
		return n, failed
	}
	ask(http.StatusOK, http.MethodGet, "/sandboxes/"+b.ID, nil)
	for range 3 { // an engine that needs longer than a client is made to wait is slow, and no failure of what was restarted
		a, err := p.call(http.MethodDelete, "/sandboxes/"+b.ID, nil)
		n++
		if err == nil && a.status == http.StatusServiceUnavailable && strings.Contains(string(a.body), "the removal goes on") {
			continue
		}
		if err != nil || a.status != http.StatusNoContent && a.status != http.StatusNotFound {
			failed = fmt.Sprintf("DELETE /sandboxes/%s: %v, %v", b.ID, a, err)
		}
		break
	}
	return n, failed
}

// restart restarts a service and waits until it answers and, for an api, until haproxy has seen that.
func (p *platform) restart(service string) {
	p.t.Helper()
	id := p.container(service)
	p.run("docker", "restart", id)
	p.eventually(service+" answers again", func() bool {
		_, err := p.try("docker", "exec", id, "/opensandbox", "--health")
		return err == nil
	})
	if !strings.HasPrefix(service, "api-") {
		return
	}
	haproxy := p.run("docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", p.container("haproxy"))
	up := fmt.Sprintf(`haproxy_server_status{proxy="replicas",server=%q,state="UP"} 1`, service)
	p.eventually("haproxy uses "+service, func() bool {
		a, err := p.send(http.MethodGet, "http://"+strings.TrimSpace(haproxy)+":8404/metrics", nil, nil)
		return err == nil && strings.Contains(string(a.body), up)
	})
}

// downAndUp: an end keeps data and sandboxes.
func (p *platform) downAndUp(boxes []box) {
	p.t.Helper()
	p.logsAreQuiet()
	p.run(script, "down")
	if left := p.lines("docker", "ps", "-aq", "--filter", "label=com.docker.compose.project="+p.project); len(left) > 0 {
		p.t.Errorf("containers are left after down: %q", left)
	}
	p.up()
	for _, b := range boxes {
		p.runs(p.endpoint(b.id), "after down and up", p.router+"/"+b.id+"/44772")
	}
	p.want(http.StatusNoContent, http.MethodDelete, "/sandboxes/"+boxes[0].id, nil, nil)
}

// downForGood: nothing is left, neither of the platform nor of its sandboxes.
func (p *platform) downForGood() {
	p.t.Helper()
	p.logsAreQuiet()
	p.run(script, "down", "--volumes")
	ofProject, ofExecd := "label=com.docker.compose.project="+p.project, "label=dev.opensandbox.execd-of="+p.installation
	for what, left := range map[string][]string{
		"containers":                   p.lines("docker", "ps", "-aq", "--filter", ofProject),
		"volumes":                      p.lines("docker", "volume", "ls", "-q", "--filter", ofProject),
		"networks":                     p.lines("docker", "network", "ls", "-q", "--filter", ofProject),
		"sandboxes here":               p.ofInstallation(""),
		"sandboxes there":              p.ofInstallation(p.second),
		"volumes of execd":             p.lines("docker", "volume", "ls", "-q", "--filter", ofExecd),
		"volumes of execd there":       p.lines("docker", "-H", p.second, "volume", "ls", "-q", "--filter", ofExecd),
		"images with execd":            p.lines("docker", "images", "-q", "--filter", ofExecd),
		"images with execd over there": p.lines("docker", "-H", p.second, "images", "-q", "--filter", ofExecd),
	} {
		if len(left) > 0 {
			p.t.Errorf("%s are left: %q", what, left)
		}
	}
}
