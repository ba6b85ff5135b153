package placement

import (
	"hash/fnv"
	"math/rand/v2"
	"time"

	"opensandbox/libs/sandbox"
)

const (
	// rivalFor is how long a scheduler that was faster counts as there.
	rivalFor = 5 * time.Second
	// leaveFor is how long a sandbox of the other half is left to the others, and leaveEach how much longer for each one that waits: they
	// have as many to place. After that they may be dead.
	leaveFor  = 20 * time.Millisecond
	leaveEach = 5 * time.Millisecond
	// clash is the part of its own half, one in so many, that others must have been faster with for a scheduler to change over. Less is what
	// comes of patience that has ended.
	clash = 4
)

// rivals keeps schedulers from all trying to place the same sandboxes. Each takes a half of the ids while it notices others, and the other
// half only when it stays. Nobody assigns the halves: who keeps meeting others in its own half changes over by chance, until two have
// different ones. With more schedulers than two some share a half, which costs work and nothing else.
type rivals struct {
	half uint32
	// last is when another scheduler was noticed.
	last time.Time
	// left are those that were left to others in the last step.
	left map[sandbox.ID]bool
}

// share returns what this scheduler should place now, and how many it leaves to others for the moment. all says that records are all that
// need a node.
func (v *rivals) share(records []sandbox.Record, all bool, now time.Time) (mine []sandbox.Record, left int) {
	for i := range records {
		delete(v.left, records[i].ID)
	}
	if all && len(v.left) > 0 {
		v.last = now // somebody has placed them
	}
	v.left = map[sandbox.ID]bool{}
	if v.last.IsZero() || now.Sub(v.last) > rivalFor {
		return records, 0
	}
	patience := leaveFor + time.Duration(len(records))*leaveEach
	for i := range records {
		if v.owns(records[i].ID) || now.Sub(since(&records[i])) >= patience {
			mine = append(mine, records[i])
		} else {
			v.left[records[i].ID] = true
		}
	}
	return mine, len(v.left)
}

func (v *rivals) owns(id sandbox.ID) bool {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return h.Sum32()&1 == v.half
}

// met notes which of the tried sandboxes others were faster with.
func (v *rivals) met(tried []sandbox.Record, stale map[sandbox.ID]bool, now time.Time, random *rand.Rand) {
	if len(stale) == 0 {
		return
	}
	v.last = now
	own, lost := 0, 0
	for i := range tried {
		if !v.owns(tried[i].ID) {
			continue
		}
		own++
		if stale[tried[i].ID] {
			lost++
		}
	}
	if lost*clash > own && random.IntN(2) == 0 {
		v.half ^= 1
	}
}
