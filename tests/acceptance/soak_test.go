//go:build e2e

package acceptance

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"opensandbox/tests/process"
)

// soakShort is how long the load lasts unless OPENSANDBOX_TEST_SOAK says otherwise, as "make soak" does: enough lives of sandboxes that one
// thing left behind by each of them is far more than what may vary.
const soakShort = 15 * time.Second

// soakEvery is the longest time between two looks during the load.
const soakEvery = 10 * time.Second

// soakReturn is how long everything may take to come back: idle connections of the engine's client and of the proxies are kept for 90 s.
const soakReturn = 3 * time.Minute

// soak is a platform under dense traffic, and what was measured of it before, meanwhile and afterwards.
type soak struct {
	s    *server
	name string
	// takes is how long the load lasts, and returns how long everything may take to come back.
	takes, returns time.Duration
	// apis and routers are base URLs, admin those of what operators read, by the name of the process.
	apis, routers []string
	admin         map[string]string
	// store adds what the store has. forget makes it forget at once what has ended, which a scheduler does after an hour.
	store  func(in amounts)
	forget func()

	began   time.Time
	samples []sample
	load    *soakLoad
}

// TestSoakSingle is TestSoakSplit for the single binary on SQLite.
func TestSoakSingle(t *testing.T) {
	k := newSingleSoak(t)
	k.run()
	k.forgetsAll()
}

// newSingleSoak starts the single binary. env are variables for it.
func newSingleSoak(t *testing.T, env ...string) *soak {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), base: fmt.Sprintf("http://127.0.0.1:%d", process.FreePort(t))}
	k := newSoak(t, s, "single")
	router := fmt.Sprintf("127.0.0.1:%d", process.FreePort(t))
	s.programs = []*program{{name: "server", binary: binary(t), env: append(env, "OPENSANDBOX_ROUTER_LISTEN="+router)}}
	k.apis, k.routers = []string{s.base}, []string{"http://" + router}
	k.openAdmin()
	s.run()
	s.cleanUp()
	k.openSQLite()
	return k
}

// TestSoakSplit keeps the split services and two engines busy with whole lives of sandboxes, and then looks whether everything that they hold
// is what it was before: memory, descriptors, goroutines and threads of each process; containers, volumes and networks; leased ports; keys and
// entries of the store; files. In the end it leaves one of each behind, which must be noticed.
func TestSoakSplit(t *testing.T) {
	s := newSplit(t, "")
	k := newSoak(t, s, "split")
	k.apis, k.routers = s.split.apis, s.split.routers
	k.openAdmin()
	s.run()
	s.cleanUp()
	s.eventually("both agents have joined", func() bool { return strings.Count(s.agentCommand("nodes"), " ready ") == 2 })
	k.openRedis()
	k.run()
}

func newSoak(t *testing.T, s *server, name string) *soak {
	t.Helper()
	k := &soak{s: s, name: name, takes: soakShort, returns: soakReturn, admin: map[string]string{}}
	if text := os.Getenv("OPENSANDBOX_TEST_SOAK"); text != "" {
		var err error
		if k.takes, err = time.ParseDuration(text); err != nil {
			t.Fatalf("OPENSANDBOX_TEST_SOAK: %v", err)
		}
	}
	return k
}

// openAdmin gives each process an address for its metrics.
func (k *soak) openAdmin() {
	for _, p := range k.s.programs {
		at := fmt.Sprintf("127.0.0.1:%d", process.FreePort(k.s.t))
		p.env = append(p.env, "OPENSANDBOX_SERVER_ADMIN_LISTEN="+at)
		k.admin[p.name] = "http://" + at
	}
}

// run demands that everything is afterwards as it was before.
func (k *soak) run() {
	t := k.s.t
	after, rows := k.lasts()
	for _, r := range rows {
		if !r.holds() {
			t.Errorf("%v is %s, and was %s before the load; at most %s is allowed: %s", r.quantity, r.what.show(r.after), r.what.show(r.before), r.what.show(r.most), r.reason)
		}
	}
	k.write(rows)
	if !t.Failed() {
		k.leavesBehind(after)
	}
}

// lasts warms everything up, so that pools, caches and files have the size that this load gives them, looks, soaks, and looks again.
func (k *soak) lasts() (after amounts, rows []verdict) {
	k.began = time.Now()
	warm := newSoakLoad(k)
	warm.work(max(k.takes/10, 8*time.Second), nil)
	k.rest(warm)
	before := k.look("before", true)

	k.load = newSoakLoad(k)
	k.load.work(k.takes, func() { k.look("load", false) })
	k.rest(k.load)
	return k.returned(before)
}

// rest ends what the load has begun, and waits until nothing of it runs any more.
func (k *soak) rest(l *soakLoad) {
	l.report()
	k.s.sweep()
	k.s.eventually("nothing runs any more", func() bool { return len(k.s.items("")) == 0 && len(k.s.containers()) == 0 })
	client.CloseIdleConnections()
	// Watches, beats and mirrors end what they had begun.
	time.Sleep(min(max(k.takes/20, 3*time.Second), 30*time.Second))
	k.forget()
}

// returned looks until everything is as it was before, or until that has taken too long.
func (k *soak) returned(before amounts) (amounts, []verdict) {
	for deadline := time.Now().Add(k.returns); ; time.Sleep(3 * time.Second) {
		k.forget()
		after := k.look("after", true)
		rows := k.compare(before, after)
		if time.Now().After(deadline) || !anyBroken(rows) {
			return after, rows
		}
	}
}
