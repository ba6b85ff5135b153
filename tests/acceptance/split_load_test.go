//go:build e2e

package acceptance

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"opensandbox/libs/secrettest"
)

// load is what users do, without a pause: whole lives of sandboxes, commands that take a while, and requests for a sandbox that stays. All
// of it goes through a balancer.
type load struct {
	s *server
	b *balancer
	// keeper is the sandbox that stays, and token what its daemon wants.
	keeper  string
	token   []string
	stop    atomic.Bool
	workers sync.WaitGroup

	mu   sync.Mutex
	done map[string]int
	// gone are sandboxes that were deleted.
	gone   []string
	failed []failure
}

// failure is a request that was not answered as it should.
type failure struct {
	what, said   string
	began, ended time.Time
	// status is that of the answer; 0 if there was none, or no whole one.
	status int
}

func (f failure) String() string {
	return fmt.Sprintf("%s, from %s to %s: %s", f.what, f.began.Format("05.000"), f.ended.Format("05.000"), f.said)
}

// begin starts the load.
func (s *server) begin(b *balancer, keeper string) *load {
	l := &load{s: s, b: b, keeper: keeper, done: map[string]int{}}
	_, l.token = s.endpoint(keeper, 44772)
	l.loop(l.life)
	l.loop(l.life)
	l.loop(l.read)
	l.loop(l.longCommands)
	return l
}

func (l *load) loop(do func(n int)) {
	l.workers.Go(func() {
		for n := 0; !l.stop.Load(); n++ {
			do(n)
		}
	})
}

// end stops the load and returns what failed.
func (l *load) end(t *testing.T) []failure {
	t.Helper()
	l.stop.Store(true)
	l.workers.Wait()
	var done []string
	for _, what := range slices.Sorted(maps.Keys(l.done)) {
		done = append(done, fmt.Sprintf("%d %s", l.done[what], what))
		if l.done[what] == 0 {
			t.Errorf("nothing of this went well: %s", what)
		}
	}
	t.Logf("went well: %s; failed: %d", strings.Join(done, ", "), len(l.failed))
	return l.failed
}

// ask makes a request that must have an answer of that status in which a text is.
func (l *load) ask(what string, want int, contains, method, url string, body any, header ...string) (answer, bool) {
	began := time.Now()
	a, err := request(method, url, body, header...)
	ended := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && a.status == want && strings.Contains(string(a.body), contains) {
		l.done[what]++
		return a, true
	}
	f := failure{what: what, said: fmt.Sprint(a), began: began, ended: ended, status: a.status}
	if err != nil {
		f.said, f.status = err.Error(), 0
	}
	l.done[what] += 0
	l.failed = append(l.failed, f)
	return a, false
}

// api asks the API.
func (l *load) api(what string, want int, method, path string, body any, header ...string) (answer, bool) {
	return l.ask(what, want, "", method, l.b.api+"/v1/sandboxes"+path, body, append([]string{"OPEN-SANDBOX-API-KEY", apiKey}, header...)...)
}

// command runs a command in a sandbox through the proxy of the apis and through the routers.
func (l *load) command(what, id string, token []string, command, want string) bool {
	body := m{"command": command}
	_, byAPI := l.ask(what+" through an api", http.StatusOK, want, http.MethodPost, l.b.api+"/v1/sandboxes/"+id+"/proxy/44772/command", body,
		append([]string{"OPEN-SANDBOX-API-KEY", apiKey}, token...)...)
	_, byRouter := l.ask(what+" through a router", http.StatusOK, want, http.MethodPost, l.b.router+"/"+id+"/44772/command", body, token...)
	return byAPI && byRouter
}

// life is that of one sandbox. What has failed is not gone on with.
func (l *load) life(n int) {
	what, header := "create", []string(nil)
	if n%2 == 1 {
		what, header = "keyed create", []string{"Idempotency-Key", rand.Text()}
	}
	name := rand.Text()
	a, ok := l.api(what, http.StatusAccepted, http.MethodPost, "", spec(m{"metadata": m{"life": name}}), header...)
	if !ok {
		return
	}
	id := a.text("id")
	if !l.runs(id) {
		return
	}
	if _, ok := l.ask("list", http.StatusOK, id, http.MethodGet, l.b.api+"/v1/sandboxes?metadata=life%3D"+name, nil, "OPEN-SANDBOX-API-KEY", apiKey); !ok {
		return
	}
	if _, ok := l.api("metadata patch", http.StatusOK, http.MethodPatch, "/"+id+"/metadata", m{"step": "two"}); !ok {
		return
	}
	if _, ok := l.api("renewal", http.StatusOK, http.MethodPost, "/"+id+"/renew-expiration", m{"expiresAt": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}); !ok {
		return
	}
	a, ok = l.api("endpoint", http.StatusOK, http.MethodGet, "/"+id+"/endpoints/44772", nil)
	if !ok {
		return
	}
	token := a.text("headers", tokenHeader)
	secrettest.Note("the token of a daemon", token)
	if !l.command("command", id, []string{tokenHeader, token}, "echo li''ve", "live") {
		return
	}
	if _, ok := l.api("delete", http.StatusNoContent, http.MethodDelete, "/"+id, nil); ok {
		l.api("get of what is gone", http.StatusNotFound, http.MethodGet, "/"+id, nil)
		l.mu.Lock()
		l.gone = append(l.gone, id)
		l.mu.Unlock()
	}
}

// runs waits until a new sandbox runs: a create that takes long is answered before.
func (l *load) runs(id string) bool {
	for deadline := time.Now().Add(patience); ; waitABit() {
		a, ok := l.api("get of what is new", http.StatusOK, http.MethodGet, "/"+id, nil)
		if !ok {
			return false
		}
		state := a.text("status", "state")
		if state == "Running" {
			return true
		}
		if state != "Pending" || time.Now().After(deadline) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.failed = append(l.failed, failure{what: "start", said: fmt.Sprint(a), began: deadline.Add(-patience), ended: time.Now(), status: a.status})
			return false
		}
	}
}

// tokenHeader is where the daemon of a sandbox wants its token.
const tokenHeader = "X-EXECD-ACCESS-TOKEN"

// text returns a text in an answer by its path; "" if it is not there. Unlike json it may be used on every goroutine.
func (a answer) text(path ...string) string {
	var at any
	if err := json.Unmarshal(a.body, &at); err != nil {
		return ""
	}
	for _, name := range path {
		in, _ := at.(m)
		at = in[name]
	}
	s, _ := at.(string)
	return s
}

// read asks for the sandbox that stays, and renews it.
func (l *load) read(n int) {
	switch n % 4 {
	case 0:
		l.api("list", http.StatusOK, http.MethodGet, "?pageSize=20", nil)
	case 1:
		l.api("renewal", http.StatusOK, http.MethodPost, "/"+l.keeper+"/renew-expiration", m{"expiresAt": time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)})
	case 2:
		l.command("command", l.keeper, l.token, "echo li''ve", "live")
	default:
		l.api("get", http.StatusOK, http.MethodGet, "/"+l.keeper, nil)
	}
}

// longCommands are in progress when a process is told to end.
func (l *load) longCommands(int) {
	l.command("long command", l.keeper, l.token, "sleep 1; echo do''ne", "done")
}
