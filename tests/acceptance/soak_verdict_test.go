//go:build e2e

package acceptance

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ended is how many records have ended and are kept for an hour, which no soak waits for.
const ended measure = "records that have ended"

const mega = 1 << 20

// verdict is what became of a quantity.
type verdict struct {
	quantity
	before, peak, after float64
	// most is how much it may be afterwards, and reason why it may be more than before, or not.
	most   float64
	reason string
}

func (v verdict) holds() bool { return v.after <= v.most }

func anyBroken(rows []verdict) bool {
	return slices.ContainsFunc(rows, func(v verdict) bool { return !v.holds() })
}

// compare returns a verdict for everything that was ever there.
func (k *soak) compare(before, after amounts) []verdict {
	all := maps.Clone(before)
	for _, s := range k.samples {
		maps.Copy(all, s.amounts)
	}
	var rows []verdict
	for q := range all {
		v := verdict{quantity: q, before: before[q], after: after[q]}
		for _, s := range k.samples {
			v.peak = max(v.peak, s.amounts[q])
		}
		v.most, v.reason = mostAfter(q.what, v.before, k.lives())
		rows = append(rows, v)
	}
	slices.SortFunc(rows, func(a, b verdict) int { return cmp.Or(cmp.Compare(a.of, b.of), cmp.Compare(a.what, b.what)) })
	return rows
}

// lives is how many sandboxes the load has made at most: what has failed may have made one, too.
func (k *soak) lives() float64 {
	if k.load == nil {
		return 0
	}
	all := k.load.done()
	n := all["create"] + all["create of what cannot start"]
	for _, u := range k.load.users {
		n += len(u.failed)
	}
	return float64(n)
}

// mostAfter returns how much of something there may be after a load that made so many sandboxes, and why. What is left behind by each
// sandbox is more than any of these.
func mostAfter(what measure, before, lives float64) (float64, string) {
	switch what {
	case residentMemory:
		return before*1.25 + 24*mega, "Go gives memory back late, and only in part"
	case liveHeap:
		return before*1.1 + 4*mega, "caches of bounded size, and the garbage of the answer that tells"
	case descriptors:
		return before + 16, "each process keeps up to twenty connections to the store once it has needed them"
	case goroutines:
		return before + 16, "two for each connection of a pool"
	case threads:
		return before + 10, "Go keeps threads for ever; how many wait in the kernel at once is chance"
	case usedMemory:
		return before + 2*mega, "buffers of connections and tables that grow in steps"
	case connections:
		return before + 50, "the pools of six processes"
	case sizeOfFiles:
		return before + 2*mega + lives*4*1024, "a journal holds up to a megabyte that is out of date, SQLite the records of an hour, some 1 KB each, and free pages"
	case sizeInUse:
		return before + mega + lives*4*1024, "the records of an hour, some 1 KB each"
	case "keys: barred", "entries: barred":
		return before + 50, "ports that another program of this machine had taken are left alone for ten minutes"
	case ended:
		return before + lives, "kept for an hour"
	default:
		return before, "the same as before"
	}
}

// show writes an amount.
func (w measure) show(v float64) string {
	switch w {
	case residentMemory, liveHeap, usedMemory, sizeOfFiles, sizeInUse:
		if v < mega {
			return fmt.Sprintf("%.0f KB", v/1024)
		}
		return fmt.Sprintf("%.1f MB", v/mega)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

// broken are the quantities that are not as they should be.
func broken(rows []verdict) string {
	var names []string
	for _, r := range rows {
		if !r.holds() {
			names = append(names, r.quantity.String())
		}
	}
	return strings.Join(names, "; ")
}
