package converge

import (
	"context"
	"errors"
	"time"

	"opensandbox/libs/executor"
)

// Observer is told how the work goes. Safe for concurrent use. Words are of closed sets: the stages and differences below.
type Observer interface {
	// Stage notes how long a stage of a create took; Begin notes its start and returns the function that notes its end.
	Stage(stage string, took time.Duration)
	Begin(stage string) (over func())
	// Containers notes how many containers there are in each phase; what is missing is 0.
	Containers(count map[executor.Phase]int)
	// Difference counts a difference between the engine and the store that a comparison found.
	Difference(kind string)
	// GarbageRemoved counts a container that was removed because it had no record.
	GarbageRemoved()
}

// The stages of a create, in their order.
const (
	stageQueue  = "queue"
	stagePull   = "pull"
	stageCreate = "create"
	stageStart  = "start"
	stageReady  = "ready"
	stageReport = "report"
)

// The differences.
const (
	differenceBehind     = "behind"
	differenceStranger   = "stranger"
	differenceSuperseded = "superseded"
	differenceOlder      = "older"
	differenceUnread     = "unread"
)

// Words returns all words that an Observer is told, so that whoever counts them can be tested to know them.
func Words() (stages, differences []string) {
	return []string{stageQueue, stagePull, stageCreate, stageStart, stageReady, stageReport},
		[]string{differenceBehind, differenceStranger, differenceSuperseded, differenceOlder, differenceUnread}
}

// StartWork begins a span for a piece of work on a record whose trace is parent, and returns the function that ends it with the outcome.
type StartWork func(ctx context.Context, parent, name string) (context.Context, func(error))

// nobody observes nothing.
type nobody struct{}

func (nobody) Stage(string, time.Duration)       {}
func (nobody) Begin(string) func()               { return func() {} }
func (nobody) Containers(map[executor.Phase]int) {}
func (nobody) Difference(string)                 {}
func (nobody) GarbageRemoved()                   {}

func untraced(ctx context.Context, _, _ string) (context.Context, func(error)) {
	return ctx, func(error) {}
}

// errUnready ends the span of a sandbox that never got ready.
var errUnready = errors.New("the sandbox did not get ready")

// wait is the time from the start of a container until its daemon answers.
type wait struct {
	over func()
	end  func(error)
}
