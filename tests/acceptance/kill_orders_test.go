//go:build e2e && sabotage

package acceptance

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/sabotage"
)

// This file is how the kill matrix tells processes what to do, and sees what they have done.

// orders is the directory of the processes of one kind: server, api, scheduler, agent or router.
func (s *server) orders(kind string) string { return filepath.Join(s.dir, "sabotage-"+kind) }

// kindOf returns the kind of a process: scheduler for scheduler-1.
func kindOf(p *program) string { kind, _, _ := strings.Cut(p.name, "-"); return kind }

// sabotaged gives all processes their directories. It must come before they start.
func (s *server) sabotaged(t *testing.T) {
	t.Helper()
	for _, p := range s.programs {
		dir := s.orders(kindOf(p))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		p.env = append(p.env, sabotage.Variable+"="+dir)
	}
}

// order tells the processes of a kind what to do. One of them does it.
func (x *matrix) order(kind string, o sabotage.Order) {
	x.t.Helper()
	file := filepath.Join(x.orders(kind), sabotage.OrderFile)
	if err := os.WriteFile(file+".new", []byte(o.String()), 0o600); err != nil {
		x.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		x.t.Fatal(err)
	}
}

// carriedOut waits until the order has been carried out, and takes the note of that away. An order that nobody meets is withdrawn.
func (x *matrix) carriedOut(kind string) bool {
	x.t.Helper()
	done := filepath.Join(x.orders(kind), sabotage.DoneFile)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); waitABit() {
		if os.Remove(done) == nil {
			return true
		}
	}
	if err := os.Remove(filepath.Join(x.orders(kind), sabotage.OrderFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		x.t.Fatal(err)
	}
	return false
}

// ended waits until a process of the kind has ended.
func (x *matrix) ended(kind string) *program {
	x.t.Helper()
	return x.oneThat("has ended", kind, func(p *program) bool { return !p.Runs() })
}

// stopped waits until a process of the kind stands still.
func (x *matrix) stopped(kind string) *program {
	x.t.Helper()
	return x.oneThat("stands still", kind, func(p *program) bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		if err != nil {
			return false // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		return strings.HasPrefix(rest, "T")
	})
}

// oneThat waits until something can be said of a process of the kind.
func (x *matrix) oneThat(what, kind string, is func(p *program) bool) *program {
	x.t.Helper()
	var found *program
	x.eventually("a process of the kind "+kind+" "+what, func() bool {
		i := slices.IndexFunc(x.programs, func(p *program) bool { return kindOf(p) == kind && is(p) })
		if i >= 0 {
			found = x.programs[i]
		}
		return found != nil
	})
	return found
}

// goOn starts what the operation, or an agent that was taken for dead, has ended: whoever supervises the processes does so.
func (x *matrix) goOn() {
	x.t.Helper()
	x.eventually("all processes serve", func() bool {
		for _, p := range x.programs {
			if !p.Runs() {
				x.supervise(p)
			}
		}
		res, err := http.Get(x.base + "/health")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// supervise starts a process that has ended until it has come so far that it serves: an agent whose predecessor was killed before it had noted its
// registration ends until the lease of that is over.
func (x *matrix) supervise(p *program) {
	x.t.Helper()
	var from int64
	again := func() {
		if info, err := os.Stat(p.log(x.dir)); err == nil {
			from = info.Size()
		}
		p.run(x.t, x.dir, x.configFile())
	}
	again()
	x.eventually(p.name+" serves again", func() bool {
		if !p.Runs() {
			time.Sleep(time.Second) // as a supervisor would wait
			again()
		}
		return x.serving(p, from)
	})
}

// serving reports whether a process has said after a place of its log that it has begun.
func (x *matrix) serving(p *program, from int64) bool {
	text, err := os.ReadFile(p.log(x.dir))
	return err == nil && serves.Match(text[min(from, int64(len(text))):])
}

// serves is what each program says when it has begun.
var serves = regexp.MustCompile(`msg=serving|msg=scheduling|msg="driving the container engine"`)

// watch notes the steps that are reached from now on.
func (x *matrix) watch() {
	x.t.Helper()
	for kind := range x.kinds() {
		if err := os.WriteFile(filepath.Join(x.orders(kind), sabotage.TraceFile), nil, 0o600); err != nil {
			x.t.Fatal(err)
		}
	}
}

// unwatch ends that.
func (x *matrix) unwatch() {
	x.t.Helper()
	for kind := range x.kinds() {
		if err := os.Remove(filepath.Join(x.orders(kind), sabotage.TraceFile)); err != nil {
			x.t.Fatal(err)
		}
	}
}

// oneOf returns a process of a kind.
func (x *matrix) oneOf(kind string) *program {
	x.t.Helper()
	i := slices.IndexFunc(x.programs, func(p *program) bool { return kindOf(p) == kind })
	if i < 0 {
		x.t.Fatalf("no process is of the kind %s", kind)
	}
	return x.programs[i]
}

func (x *matrix) kinds() map[string]bool {
	kinds := map[string]bool{}
	for _, p := range x.programs {
		kinds[kindOf(p)] = true
	}
	return kinds
}

// reached returns the points that were reached since watch.
func (x *matrix) reached() map[point]bool {
	x.t.Helper()
	points := map[point]bool{}
	for kind := range x.kinds() {
		text, err := os.ReadFile(filepath.Join(x.orders(kind), sabotage.TraceFile))
		if err != nil {
			x.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			step, moment, found := strings.Cut(strings.TrimSpace(line), "\t")
			if !found {
				x.t.Fatalf("trace of %s: %q", kind, line)
			}
			points[point{kind, sabotage.Step(step), sabotage.Moment(moment)}] = true
		}
	}
	return points
}

// point is a moment in the life of a process of some kind.
type point struct {
	kind   string
	step   sabotage.Step
	moment sabotage.Moment
}

func (p point) String() string { return fmt.Sprintf("%s %s %s", p.kind, p.moment, p.step) }
