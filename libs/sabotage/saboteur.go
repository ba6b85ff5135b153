//go:build sabotage

package sabotage

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Variable names the directory through which a test and its processes understand each other. Without it nothing is sabotaged.
const Variable = "SABOTAGE_DIR"

// The files of that directory.
const (
	// OrderFile has one Order. Who carries it out renames it to DoneFile before, so that of several processes with one directory one does it, and once.
	OrderFile = "order"
	DoneFile  = "done"
	// TraceFile, if it is there, gets a line for each step that is reached.
	TraceFile = "trace"
)

// Moment is on which side of a step something happens.
type Moment string

// The moments. After is reached only if the step has succeeded, and has changed something where that can be told.
const (
	Before Moment = "before"
	After  Moment = "after"
)

// Deed is what happens.
type Deed string

// The deeds.
const (
	// Kill is SIGKILL of the own process.
	Kill Deed = "kill"
	// Stop is SIGSTOP of the own process, which goes on where it was at SIGCONT.
	Stop Deed = "stop"
)

// Order says what shall happen, and when.
type Order struct {
	Step   Step
	Moment Moment
	Deed   Deed
}

// String writes an order as it is in OrderFile.
func (o Order) String() string { return fmt.Sprintf("%s\t%s\t%s", o.Step, o.Moment, o.Deed) }

// ParseOrder reads what String wrote.
func ParseOrder(text string) (Order, error) {
	words := strings.Split(strings.TrimSpace(text), "\t")
	if len(words) != 3 {
		return Order{}, fmt.Errorf("sabotage: %q is no order", text)
	}
	return Order{Step(words[0]), Moment(words[1]), Deed(words[2])}, nil
}

// Saboteur carries out the orders that it finds in a directory. Safe for concurrent use.
type Saboteur struct {
	dir string
	// mu lets one goroutine at a time look for an order: while it is carried out no other one takes a step.
	mu sync.Mutex
}

// FromEnvironment returns the saboteur of this process.
func FromEnvironment() *Saboteur { return &Saboteur{dir: os.Getenv(Variable)} }

// reach says that a step is about to be taken, or was taken.
func (s *Saboteur) reach(step Step, moment Moment) {
	if s.dir == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trace(step, moment)
	text, err := os.ReadFile(filepath.Join(s.dir, OrderFile))
	if err != nil {
		return // nothing is ordered
	}
	order, err := ParseOrder(string(bytes.TrimSpace(text)))
	if err != nil || order.Step != step || order.Moment != moment {
		return
	}
	if os.Rename(filepath.Join(s.dir, OrderFile), filepath.Join(s.dir, DoneFile)) == nil {
		carryOut(order.Deed)
	}
}

// trace notes a step. Without the file nobody wants to know.
func (s *Saboteur) trace(step Step, moment Moment) {
	f, err := os.OpenFile(filepath.Join(s.dir, TraceFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "%s\t%s\n", step, moment)
}

func carryOut(d Deed) {
	if d == Stop {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP) // cannot fail for the own process
		time.Sleep(50 * time.Millisecond)              // the signal may reach another thread first, and this one a moment later
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until the signal has been delivered
}

// take takes a step that returns something.
func take[T any](s *Saboteur, step Step, do func() (T, error)) (T, error) {
	s.reach(step, Before)
	out, err := do()
	if err == nil {
		s.reach(step, After)
	}
	return out, err
}

// act takes a step that returns only an error.
func act(s *Saboteur, step Step, do func() error) error {
	_, err := take(s, step, func() (struct{}, error) { return struct{}{}, do() })
	return err
}
