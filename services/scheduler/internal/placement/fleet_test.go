package placement_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
	"opensandbox/services/scheduler/internal/placement"
)

// fill puts sandboxes on a node, behind the placer's back.
func (r *rig) fill(name string, count int, each sandbox.Resources) {
	r.t.Helper()
	for i := range count {
		id := sandbox.ID(fmt.Sprint("there-", name, "-", i))
		r.insert(id, each)
		c := sandbox.Candidate{Node: name, PortMin: 1, PortMax: 9}
		if _, err := r.store.Place(r.t.Context(), sandbox.PlaceRequest{ID: id, Candidates: []sandbox.Candidate{c}, Reserve: each}); err != nil {
			r.t.Fatal(err)
		}
	}
}

func TestRanking(t *testing.T) {
	t.Parallel()
	bound := func(cpu, memory int64, count int) func(*node.Registration) {
		return func(n *node.Registration) {
			n.Capacity, n.MaxSandboxes = sandbox.Resources{CPU: cpu, Memory: memory}, count
		}
	}
	facts := func(platform string, runtimes []string, labels ...string) func(*node.Registration) {
		return func(n *node.Registration) {
			n.Platform, n.Runtimes, n.Labels = platform, runtimes, map[string]string{}
			for i := 0; i < len(labels); i += 2 {
				n.Labels[labels[i]] = labels[i+1]
			}
		}
	}
	for name, tc := range map[string]struct {
		setUp func(r *rig)
		spec  sandbox.Spec
		want  string
	}{
		"the platform that is needed": {func(r *rig) {
			r.node("amd", facts("linux/amd64", nil))
			r.node("arm", facts("linux/arm64", nil))
			r.node("unknown", nil)
		}, sandbox.Spec{Needs: sandbox.Needs{Platform: "linux/arm64"}}, "arm"},
		"the runtime that is needed": {func(r *rig) {
			r.node("plain", facts("", []string{"runc"}))
			r.node("strict", facts("", []string{"runc", "runsc"}))
		}, sandbox.Spec{Needs: sandbox.Needs{Runtime: "runsc"}}, "strict"},
		"all labels that are needed": {func(r *rig) {
			r.node("one", facts("", nil, "zone", "eu"))
			r.node("other", facts("", nil, "zone", "eu", "gpu", "b"))
			r.node("both", facts("", nil, "zone", "eu", "gpu", "a"))
		}, sandbox.Spec{Needs: sandbox.Needs{Labels: map[string]string{"zone": "eu", "gpu": "a"}}}, "both"},
		"the image goes before free capacity": {func(r *rig) {
			r.node("empty", bound(1000, 0, 0))
			r.node("full", bound(1000, 0, 0))
			r.fill("full", 8, sandbox.Resources{CPU: 100})
			r.images("full", "docker.io/library/busybox:latest")
		}, sandbox.Spec{Image: "busybox", Requests: sandbox.Resources{CPU: 100}}, "full"},
		"the image in another form": {func(r *rig) {
			r.node("without", nil)
			r.node("with", nil)
			r.fill("with", 50, sandbox.Resources{})
			r.images("without", "busybox:1.36", "me/busybox")
			r.images("with", "busybox")
		}, sandbox.Spec{Image: "docker.io/library/busybox:latest"}, "with"},
		"room goes before the image": {func(r *rig) {
			r.node("full", bound(0, 0, 2))
			r.fill("full", 2, sandbox.Resources{})
			r.images("full", "busybox")
			r.node("free", nil)
		}, sandbox.Spec{Image: "busybox"}, "free"},
		"the least processor reserved": {func(r *rig) {
			r.node("half", bound(1000, 0, 0))
			r.fill("half", 5, sandbox.Resources{CPU: 100})
			r.node("most", bound(2000, 0, 0))
			r.fill("most", 4, sandbox.Resources{CPU: 100})
		}, sandbox.Spec{Requests: sandbox.Resources{CPU: 100}}, "most"},
		"the scarcest bound counts": {func(r *rig) {
			r.node("memory", bound(100000, 1000, 0))
			r.fill("memory", 1, sandbox.Resources{CPU: 1, Memory: 900})
			r.node("cpu", bound(1000, 100000, 0))
			r.fill("cpu", 1, sandbox.Resources{CPU: 500, Memory: 1})
		}, sandbox.Spec{Requests: sandbox.Resources{CPU: 10, Memory: 10}}, "cpu"},
		"the count counts": {func(r *rig) {
			r.node("nine", bound(0, 0, 10))
			r.fill("nine", 8, sandbox.Resources{})
			r.node("many", bound(0, 0, 100))
			r.fill("many", 20, sandbox.Resources{})
		}, sandbox.Spec{}, "many"},
		"without bounds the emptier one": {func(r *rig) {
			r.node("busy", nil)
			r.fill("busy", 60, sandbox.Resources{})
			r.node("idle", nil)
		}, sandbox.Spec{}, "idle"},
		"not one that is removed": {func(r *rig) {
			r.node("a", nil)
			r.node("b", nil)
			if err := r.store.Remove(r.t.Context(), "a"); err != nil {
				r.t.Fatal(err)
			}
		}, sandbox.Spec{}, "b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, placement.Config{})
			tc.setUp(r)
			tc.spec.Image = cmp.Or(tc.spec.Image, "i")
			r.insertSpec("s", tc.spec)
			r.step()
			if rec := r.get("s"); rec.Placement.Node != tc.want {
				t.Errorf("placed on %q (%s), want %q", rec.Placement.Node, rec.Observed.Message, tc.want)
			}
		})
	}
}

// TestNearEqualsAreMixed shows that schedulers that see the same numbers do not all choose the same node.
func TestNearEqualsAreMixed(t *testing.T) {
	t.Parallel()
	r := newRig(t, placement.Config{})
	const nodes = 5
	for i := range nodes {
		r.node(fmt.Sprint(i), func(n *node.Registration) { n.MaxSandboxes = 100 })
	}
	r.fill("0", 2, sandbox.Resources{}) // 2 % less room
	on := map[string]int{}
	for i := range 50 {
		before := r.store.Snapshot()
		id := sandbox.ID(fmt.Sprint("new-", i))
		r.insert(id, sandbox.Resources{})
		r.step()
		on[r.get(id).Placement.Node]++
		r.store.Restore(before) // each of them sees the same
	}
	if len(on) != nodes {
		t.Errorf("placed %v", on)
	}
}

// TestTheRestIsTried has more nodes than candidates, and the best of them have no ports left, which the ranking cannot know.
func TestTheRestIsTried(t *testing.T) {
	t.Parallel()
	r := newRig(t, placement.Config{Ports: []int{1, 2}})
	for i := range 3 * placement.Candidates {
		r.node(fmt.Sprint("empty-", i), func(n *node.Registration) { n.PortMin, n.PortMax = 1, 1 })
	}
	r.node("busy", nil)
	r.fill("busy", 90, sandbox.Resources{})
	r.insert("s", sandbox.Resources{})
	r.step()
	if rec := r.get("s"); rec.Placement.Node != "busy" {
		t.Errorf("placed on %q: %s", rec.Placement.Node, rec.Observed.Message)
	}
}

func TestWhatWasShort(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		setUp func(r *rig)
		spec  sandbox.Spec
		want  []string
	}{
		"no nodes": {func(*rig) {}, sandbox.Spec{}, []string{"no node is available"}},
		"each node": {func(r *rig) {
			r.node("amd", func(n *node.Registration) { n.Platform = "linux/amd64" })
			r.node("drained", nil)
			if err := r.store.SetDraining(r.t.Context(), "drained", true); err != nil {
				r.t.Fatal(err)
			}
			r.node("full", func(n *node.Registration) { n.Platform, n.Capacity.CPU = "linux/arm64", 500 })
		}, sandbox.Spec{Needs: sandbox.Needs{Platform: "linux/arm64"}, Requests: sandbox.Resources{CPU: 1000}}, []string{
			"no node has room: node full: cpu: 1 wanted, 0.5 free", "node amd: platform: linux/arm64 wanted, it is linux/amd64", "node drained: draining",
		}},
		"nothing comes into question": {func(r *rig) {
			r.node("a", func(n *node.Registration) { n.Labels = map[string]string{"zone": "us"} })
			r.node("b", nil)
		}, sandbox.Spec{Needs: sandbox.Needs{Labels: map[string]string{"zone": "eu"}}}, []string{
			"no node has room: node a: label zone: eu wanted, it is us; node b: label zone: eu wanted, it is not set",
		}},
		"the runtime": {func(r *rig) {
			r.node("a", func(n *node.Registration) { n.Runtimes = []string{"runc", "kata"} })
		}, sandbox.Spec{Needs: sandbox.Needs{Runtime: "runsc"}}, []string{"node a: runtime: runsc wanted, it has runc kata"}},
		"many nodes": {func(r *rig) {
			for i := range 100 {
				r.node(fmt.Sprint("n", i), func(n *node.Registration) { n.Capacity.CPU = 500 })
			}
		}, sandbox.Spec{Requests: sandbox.Resources{CPU: 1000}}, []string{"; and 92 more nodes"}},
		"many nodes with long names": {func(r *rig) {
			for i := range 9 {
				r.node(strings.Repeat("ü", 200)+fmt.Sprint(i), func(n *node.Registration) { n.Platform = "p" })
			}
		}, sandbox.Spec{Needs: sandbox.Needs{Platform: "q"}}, []string{"…; and 1 more node"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, placement.Config{})
			tc.setUp(r)
			tc.spec.Image = "i"
			r.insertSpec("s", tc.spec)
			r.insertSpec("same", tc.spec)
			r.step()
			text := r.get("s").Observed.Message
			for _, want := range tc.want {
				if !strings.Contains(text, want) {
					t.Errorf("the text %q does not say %q", text, want)
				}
			}
			if len(text) > 1000 || !utf8.ValidString(text) || strings.Count(text, "node ") > placement.Candidates+2 {
				t.Errorf("the text has %d bytes: %q", len(text), text)
			}
			if again := r.get("same").Observed.Message; again == "" {
				t.Error("the second of the kind has no text")
			}
		})
	}
}
