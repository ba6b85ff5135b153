package placement

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"opensandbox/libs/node"
	"opensandbox/libs/sandbox"
)

// Candidates is how many nodes the store is asked to try at once for one sandbox.
const Candidates = 8

const (
	// near is the difference of free capacity within which nodes count as equal: several schedulers that see the same numbers must not
	// all choose the same node.
	near = 0.1
	// roomy stands for the number of sandboxes on a node that has no bound, so that the emptier of two such nodes is preferred.
	roomy = 100
)

// fleet is all nodes during one step. Its methods may be called concurrently.
type fleet struct {
	// open is how many nodes may get sandboxes at all.
	open int

	mu      sync.Mutex
	random  *rand.Rand
	members []*member
}

// member is one node.
type member struct {
	node node.Node
	used sandbox.Usage
	// shut says why the node gets no sandbox, whatever that needs; empty: it may get some.
	shut string
	// images are in canonical form; nil while nobody has asked.
	images map[string]bool
}

// newFleet takes nodes as they are at now, the store's time.
func newFleet(nodes []node.Node, now time.Time, random *rand.Rand) *fleet {
	f := &fleet{random: random}
	for _, n := range nodes {
		m := &member{node: n}
		switch {
		case n.Removed:
			m.shut = "removed"
		case !n.Live(now):
			m.shut = "its agent does not answer"
		case n.Draining:
			m.shut = "draining"
		default:
			f.open++
		}
		f.members = append(f.members, m)
	}
	return f
}

// holds notes what is held on the nodes.
func (f *fleet) holds(used map[string]sandbox.Usage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.members {
		m.used = used[m.node.Name]
	}
}

// took notes one more sandbox on a node.
func (f *fleet) took(name string, reserved sandbox.Resources) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.members {
		if m.node.Name == name {
			m.used.Count++
			m.used.Reserved.CPU += reserved.CPU
			m.used.Reserved.Memory += reserved.Memory
		}
	}
}

// choice is a node that comes into question.
type choice struct {
	*member
	room, image bool
	// rank is the fraction that would be left free, give or take what makes near ones equal.
	rank float64
}

// ranking is an answer of rank: the nodes to try, the best first, and why the others do not come into question.
type ranking struct {
	choices []choice
	refused []string
	// rooms is how many of the choices have room, as far as is known. They come first.
	rooms int
}

// rank orders the nodes for a sandbox: those with room first, of them those that have its image, of them the emptiest.
func (f *fleet) rank(spec *sandbox.Spec, want sandbox.Resources) ranking {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out ranking
	image := node.CanonicalImage(spec.Image)
	for _, m := range f.members {
		if why := m.refuses(spec.Needs); why != "" {
			out.refused = append(out.refused, "node "+m.node.Name+": "+why)
			continue
		}
		c := choice{member: m, room: m.room(want), rank: m.left(want) + near*f.random.Float64()}
		if f.open > 1 {
			c.image = m.has(image)
		}
		if c.room {
			out.rooms++
		}
		out.choices = append(out.choices, c)
	}
	slices.SortStableFunc(out.choices, func(a, b choice) int {
		return cmp.Or(first(a.room, b.room), first(a.image, b.image), cmp.Compare(b.rank, a.rank))
	})
	return out
}

// first orders true before false.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// chunks returns what to ask the store for, one after the other: the best nodes also if they seem to be full, because they may not be any
// more, and then all the others that seem to have room, because the store may know better of the best.
func (r ranking) chunks() [][]sandbox.Candidate {
	var out [][]sandbox.Candidate
	limit := max(r.rooms, min(Candidates, len(r.choices)))
	for part := range slices.Chunk(r.choices[:limit], Candidates) {
		candidates := make([]sandbox.Candidate, 0, len(part))
		for _, c := range part {
			n := &c.node
			candidates = append(candidates, sandbox.Candidate{Node: n.Name, Capacity: n.Capacity, MaxSandboxes: n.MaxSandboxes, PortMin: n.PortMin, PortMax: n.PortMax})
		}
		out = append(out, candidates)
	}
	return out
}

// refuses says why a node is not one for a sandbox, or "".
func (m *member) refuses(needs sandbox.Needs) string {
	n := &m.node
	switch {
	case m.shut != "":
		return m.shut
	case needs.Platform != "" && needs.Platform != n.Platform:
		return "platform: " + needs.Platform + " wanted, it is " + cmp.Or(n.Platform, "unknown")
	case needs.Runtime != "" && !slices.Contains(n.Runtimes, needs.Runtime):
		return "runtime: " + needs.Runtime + " wanted, it has " + cmp.Or(strings.Join(n.Runtimes, " "), "none")
	}
	for _, key := range sortedKeys(needs.Labels) {
		if got, ok := n.Labels[key]; !ok || got != needs.Labels[key] {
			return "label " + key + ": " + needs.Labels[key] + " wanted, it is " + cmp.Or(got, "not set")
		}
	}
	return ""
}

// room reports whether a node has room, ports aside, as far as is known.
func (m *member) room(want sandbox.Resources) bool {
	n, used := &m.node, m.used
	return (n.MaxSandboxes == 0 || used.Count < n.MaxSandboxes) &&
		sandbox.Lack(used.Reserved.CPU, want.CPU, n.Capacity.CPU) < 0 &&
		sandbox.Lack(used.Reserved.Memory, want.Memory, n.Capacity.Memory) < 0
}

// left returns the fraction of a node, from 0 to 1, that would be free with one more sandbox: that of the scarcest of its bounds.
func (m *member) left(want sandbox.Resources) float64 {
	n, count := &m.node, m.used.Count+1
	free := float64(roomy) / float64(roomy+count)
	if n.MaxSandboxes > 0 {
		free = fraction(int64(count), int64(n.MaxSandboxes))
	}
	if n.Capacity.CPU > 0 {
		free = min(free, fraction(m.used.Reserved.CPU+want.CPU, n.Capacity.CPU))
	}
	if n.Capacity.Memory > 0 {
		free = min(free, fraction(m.used.Reserved.Memory+want.Memory, n.Capacity.Memory))
	}
	return free
}

func fraction(used, of int64) float64 { return max(0, 1-float64(used)/float64(of)) }

// has reports whether the node has an image.
func (m *member) has(canonical string) bool {
	if m.images == nil {
		m.images = make(map[string]bool, len(m.node.Images))
		for _, ref := range m.node.Images {
			m.images[node.CanonicalImage(ref)] = true
		}
	}
	return m.images[canonical]
}
