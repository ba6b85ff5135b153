package app

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"opensandbox/libs/fault"
	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// directory is a registry whose readings take as long as a test wants.
type directory struct {
	nodes  []node.Node
	takes  time.Duration
	broken atomic.Bool
	reads  atomic.Int32
}

func (d *directory) Nodes(context.Context) ([]node.Node, error) {
	d.reads.Add(1)
	time.Sleep(d.takes)
	if d.broken.Load() {
		return nil, errors.New("away")
	}
	return d.nodes, nil
}

func (d *directory) Now(context.Context) (time.Time, error) { return time.Now(), nil }

func TestNodesAreReadOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &directory{nodes: []node.Node{
			{Name: "live", LeaseUntil: time.Now().Add(time.Hour), Host: "10.0.0.1"}, {Name: "dead", LeaseUntil: time.Now().Add(-time.Hour), Host: "10.0.0.2"},
			{Name: "local", LeaseUntil: time.Now().Add(time.Hour)},
		}}
		n := newNodes(d)
		check := func(name string, reach sandbox.Reachability, host string, known bool) {
			t.Helper()
			got, err := n.host(t.Context(), name)
			if r := n.reachable(t.Context(), name); r != reach || got != host || (err == nil) != known {
				t.Errorf("%s: reachable %v at %q, %v; want %v at %q", name, r, got, err, reach, host)
			}
		}
		for range 10 {
			check("live", sandbox.Reachable, "10.0.0.1", true)
			check("dead", sandbox.Unreachable, "10.0.0.2", true)
			check("local", sandbox.Reachable, "", true)
			check("unknown", sandbox.Unreachable, "", false)
		}
		if got := d.reads.Load(); got != 1 {
			t.Errorf("%d readings within a moment", got)
		}
		// A node that is new is found soon, without waiting for the second to be over.
		d.nodes = append(d.nodes, node.Node{Name: "unknown", LeaseUntil: time.Now().Add(time.Hour), Host: "10.0.0.3"})
		time.Sleep(missAge + time.Millisecond)
		check("live", sandbox.Reachable, "10.0.0.1", true)
		check("unknown", sandbox.Reachable, "10.0.0.3", true)
		if got := d.reads.Load(); got != 2 {
			t.Errorf("%d readings after a new node", got)
		}
		// What was known stays while the registry is away, and is asked for once a second.
		d.broken.Store(true)
		for range 20 {
			time.Sleep(registryAge / 4)
			check("live", sandbox.Reachable, "10.0.0.1", true)
		}
		if got := d.reads.Load(); got > 2+5 {
			t.Errorf("%d readings in 5 s while the registry is away", got)
		}
		d.broken.Store(false)
		d.nodes = d.nodes[1:]
		time.Sleep(registryAge + time.Millisecond)
		check("live", sandbox.Unreachable, "", false)
	})
}

func TestNodesWithoutAnyKnowledge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &directory{}
		d.broken.Store(true)
		n := newNodes(d)
		if r := n.reachable(t.Context(), "n"); r != sandbox.Reachable {
			t.Error("a store that is away was taken for nodes that are")
		}
		if _, err := n.host(t.Context(), "n"); !fault.Is(err, fault.Unavailable) || fault.RetryAfterOf(err) == 0 {
			t.Errorf("host: %v", err)
		}
	})
}

// A slow registry delays the first requests, which need it, and one at a time of those that come later.
func TestSlowRegistryIsReadOnceAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &directory{nodes: []node.Node{{Name: "n", LeaseUntil: time.Now().Add(time.Hour), Host: "h"}}, takes: time.Second / 2}
		n := newNodes(d)
		var waited atomic.Int32
		ask := func() {
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					began := time.Now()
					if host, err := n.host(t.Context(), "n"); host != "h" || err != nil {
						t.Errorf("host %q, %v", host, err)
					}
					if time.Since(began) > 0 {
						waited.Add(1)
					}
				})
			}
			wg.Wait()
		}
		ask()
		if d.reads.Load() != 1 || waited.Load() != 50 {
			t.Errorf("at first: %d readings, %d waited", d.reads.Load(), waited.Load())
		}
		waited.Store(0)
		time.Sleep(2 * registryAge)
		ask()
		if d.reads.Load() != 2 || waited.Load() != 1 {
			t.Errorf("later: %d readings, %d waited", d.reads.Load(), waited.Load())
		}
		// Who gives up does not wait.
		n = newNodes(d)
		var first sync.WaitGroup
		first.Go(func() { n.reachable(context.Background(), "n") })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		if _, err := n.host(ctx, "n"); err == nil || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		first.Wait()
	})
}

func TestManyNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, nil)
		first, second, third := b.pending(), b.pending(), b.pending()
		b.run(first, "n")
		b.register(node.Registration{Name: "m", EngineID: "f", PortMin: 40000, PortMax: 40100, Host: "m.example"})
		b.run(second, "m")
		b.register(node.Registration{Name: "here", EngineID: "g", PortMin: 40000, PortMax: 40100})
		b.run(third, "here")
		for id, host := range map[sandbox.ID]string{first: "n.example", second: "m.example", third: "public"} {
			r, err := b.store.Store.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			got := b.read(b.do("GET", "/v1/sandboxes/"+string(id)+"/endpoints/8080", ""), http.StatusOK)
			if want := host + ":" + strconv.Itoa(r.Placement.Ports[AppPort]); got.Endpoint != want {
				t.Errorf("%s: endpoint %q, want %q", id, got.Endpoint, want)
			}
		}
		get := func(id sandbox.ID) answer {
			return b.read(b.do("GET", "/v1/sandboxes/"+string(id), ""), http.StatusOK)
		}
		if got := get(first); got.Status.Reason != sandbox.ReasonRunning {
			t.Errorf("%+v", got.Status)
		}
		// Gets do not read the registry, a reading each second aside.
		before := b.store.nodes.Load()
		for range 100 {
			get(first)
		}
		if n := b.store.nodes.Load() - before; n != 0 {
			t.Errorf("100 gets read the registry %d times", n)
		}
		time.Sleep(node.LeaseTime + registryAge)
		if got := get(first); got.Status.State != "Running" || got.Status.Reason != sandbox.ReasonNodeUnreachable {
			t.Errorf("after the lease: %+v", got.Status)
		}
	})
}
