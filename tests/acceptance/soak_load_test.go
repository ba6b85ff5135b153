//go:build e2e

package acceptance

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// soakClients is how many users are at work at the same time: more than the engines serve at once on two processors.
const soakClients = 12

// soakWait bounds what an engine does for twelve users at once on a machine that has other things to do, too; soakPause is the time between two looks.
const (
	soakWait  = 5 * patience
	soakPause = 50 * time.Millisecond
)

// soakLoad is what the users do.
type soakLoad struct {
	k *soak
	// users are loads of their own, since each goes to one api and one router.
	users []*load
	// lives is how many sandboxes have been asked for, and took how long the load lasted.
	lives int
	took  time.Duration
}

func newSoakLoad(k *soak) *soakLoad {
	x := &soakLoad{k: k}
	for i := range soakClients {
		b := &balancer{api: k.apis[i%len(k.apis)], router: k.routers[i%len(k.routers)]}
		x.users = append(x.users, &load{s: k.s, b: b, done: map[string]int{}})
	}
	return x
}

// work lets all users work for some time. meanwhile is called every now and then.
func (x *soakLoad) work(takes time.Duration, meanwhile func()) {
	began := time.Now()
	done := make(chan struct{})
	var users sync.WaitGroup
	for i, u := range x.users {
		users.Go(func() {
			for n := i; time.Since(began) < takes; n++ {
				soakKinds[n%len(soakKinds)](u)
			}
		})
	}
	go func() { users.Wait(); close(done) }()
	tick := time.NewTicker(min(soakEvery, takes/3))
	defer tick.Stop()
	for {
		select {
		case <-done:
			x.took = time.Since(began)
			return
		case <-tick.C:
			if meanwhile != nil {
				meanwhile()
			}
		}
	}
}

// report fails the test if anything failed, and logs what was done.
func (x *soakLoad) report() {
	all := x.done()
	x.lives = all["create"]
	var words []string
	for _, what := range slices.Sorted(maps.Keys(all)) {
		words = append(words, fmt.Sprintf("%d %s", all[what], what))
		if all[what] == 0 {
			x.k.s.t.Errorf("nothing of this went well: %s", what)
		}
	}
	x.k.s.t.Logf("in %v: %s", x.took.Round(time.Second), strings.Join(words, ", "))
	for _, u := range x.users {
		for _, f := range u.failed {
			x.k.s.t.Errorf("failed: %v", f)
		}
	}
}

// done is how often each kind of request went well.
func (x *soakLoad) done() map[string]int {
	all := map[string]int{}
	for _, u := range x.users {
		for what, n := range u.done {
			all[what] += n
		}
	}
	return all
}

// soakKinds are the lives of sandboxes, in turn.
var soakKinds = []func(*load){
	(*load).busyLife, (*load).lifeWithVolume, (*load).busyLife, (*load).lifeThatExpires, (*load).busyLife, (*load).lifeThatCannotStart,
}

// begins makes a sandbox that runs, and returns the token of its daemon.
func (l *load) begins(change m) (id string, token []string, ok bool) {
	a, ok := l.api("create", http.StatusAccepted, http.MethodPost, "", spec(change))
	if !ok {
		return "", nil, false
	}
	if id = a.text("id"); !l.becomes(id, "Running") {
		return "", nil, false
	}
	a, ok = l.api("endpoint", http.StatusOK, http.MethodGet, "/"+id+"/endpoints/44772", nil)
	return id, []string{tokenHeader, a.text("headers", tokenHeader)}, ok
}

// becomes waits until a sandbox is in a state.
func (l *load) becomes(id, want string) bool {
	for deadline := time.Now().Add(soakWait); time.Now().Before(deadline); time.Sleep(soakPause) {
		a, ok := l.api("get", http.StatusOK, http.MethodGet, "/"+id, nil)
		if !ok {
			return false
		}
		if a.text("status", "state") == want {
			return true
		}
	}
	l.note(failure{what: "never " + want, said: id})
	return false
}

func (l *load) note(f failure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, f)
}

// ends deletes a sandbox.
func (l *load) ends(id string) { l.insist("delete", http.StatusNoContent, http.MethodDelete, "/"+id) }

// insist asks again when the engine was not done in time, which is answered with 503. A delete may have been carried out meanwhile.
func (l *load) insist(what string, want int, method, path string) bool {
	var a answer
	var err error
	for deadline := time.Now().Add(soakWait); time.Now().Before(deadline); time.Sleep(time.Second) {
		again := a.status == http.StatusServiceUnavailable
		a, err = request(method, l.b.api+"/v1/sandboxes"+path, nil, "OPEN-SANDBOX-API-KEY", apiKey)
		switch {
		case err == nil && (a.status == want || (again && method == http.MethodDelete && a.status == http.StatusNotFound)):
			l.count(what)
			return true
		case err == nil && a.status == http.StatusServiceUnavailable:
			l.count(what + ", not done within 20 s and asked for again")
			continue
		}
		break
	}
	l.note(failure{what: what, said: fmt.Sprint(a, err), status: a.status})
	return false
}

// busyLife has everything that can be done to a sandbox.
func (l *load) busyLife() {
	id, token, ok := l.begins(m{"metadata": m{"kind": fmt.Sprint(rand.IntN(4))}})
	if !ok {
		return
	}
	defer l.ends(id)
	if !l.command("command", id, token, "echo li''ve", "live") {
		return
	}
	if !l.insist("pause", http.StatusAccepted, http.MethodPost, "/"+id+"/pause") || !l.becomes(id, "Paused") {
		return
	}
	l.api("renewal", http.StatusOK, http.MethodPost, "/"+id+"/renew-expiration", m{"expiresAt": time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)})
	l.api("metadata patch", http.StatusOK, http.MethodPatch, "/"+id+"/metadata", m{"step": "two"})
	if !l.insist("resume", http.StatusAccepted, http.MethodPost, "/"+id+"/resume") || !l.becomes(id, "Running") {
		return
	}
	l.command("command", id, token, "echo ag''ain", "again")
	l.api("list", http.StatusOK, http.MethodGet, "?metadata=step%3Dtwo", nil)
}

// lifeWithVolume has a volume that is made for it and goes with it.
func (l *load) lifeWithVolume() {
	id, token, ok := l.begins(m{"volumes": []m{claim(fmt.Sprintf("soak-%x", rand.Uint64()))}})
	if !ok {
		return
	}
	l.command("command on a volume", id, token, "echo ke''pt > /data/x; cat /data/x", "kept")
	l.ends(id)
}

// lifeThatExpires ends by its deadline, which was moved to be soon.
func (l *load) lifeThatExpires() {
	id, _, ok := l.begins(nil)
	if !ok {
		return
	}
	at := time.Now().Add(time.Second)
	if _, ok := l.api("renewal to what is near", http.StatusOK, http.MethodPost, "/"+id+"/renew-expiration", m{"expiresAt": at.UTC().Format(time.RFC3339Nano)}); !ok {
		return
	}
	time.Sleep(time.Until(at))
	for deadline := time.Now().Add(soakWait); time.Now().Before(deadline); time.Sleep(soakPause) {
		a, err := request(http.MethodGet, l.b.api+"/v1/sandboxes/"+id, nil, "OPEN-SANDBOX-API-KEY", apiKey)
		if err == nil && a.status == http.StatusNotFound {
			l.count("expiry")
			return
		}
	}
	l.note(failure{what: "expiry", said: id + " is still there"})
}

// lifeThatCannotStart has an entry point that ends at once. The create says so, or, if that takes too long, the record.
func (l *load) lifeThatCannotStart() {
	change := m{"entrypoint": []string{"sh", "-c", "exit 3"}, "volumes": []m{claim(fmt.Sprintf("soak-%x", rand.Uint64()))}}
	a, err := request(http.MethodPost, l.b.api+"/v1/sandboxes", spec(change), "OPEN-SANDBOX-API-KEY", apiKey)
	switch {
	case err != nil:
		l.note(failure{what: "create of what cannot start", said: err.Error()})
		return
	case a.status == http.StatusAccepted:
		id := a.text("id")
		defer l.ends(id)
		if !l.becomes(id, "Failed") {
			return
		}
	case a.status != http.StatusBadRequest:
		l.note(failure{what: "create of what cannot start", said: fmt.Sprint(a), status: a.status})
		return
	}
	l.count("create of what cannot start")
}

// count notes that something went well.
func (l *load) count(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done[what]++
}
