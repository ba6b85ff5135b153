// Package fakeexec is an executor in memory, for simulation and for faults that a real engine cannot be made to show. It passes the same
// conformance suite as the real ones, and can do what engines do to us: fail, stop, lose containers.
package fakeexec

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

var (
	_ executor.Executor  = (*Engine)(nil)
	_ executor.Pauser    = (*Engine)(nil)
	_ executor.LogReader = (*Engine)(nil)
	_ executor.Watcher   = (*Engine)(nil)
	_ executor.Describer = (*Engine)(nil)
)

// Method names a method of the port, for faults.
type Method string

// The methods that can be made to fail.
const (
	EnsureImage Method = "EnsureImage"
	Create      Method = "Create"
	Start       Method = "Start"
	Inspect     Method = "Inspect"
	List        Method = "List"
	Ready       Method = "Ready"
	Kill        Method = "Kill"
	Remove      Method = "Remove"
	Pause       Method = "Pause"
	Unpause     Method = "Unpause"
	// AfterVolumes makes Create fail when it has made the volumes, and not yet the container.
	AfterVolumes Method = "AfterVolumes"
)

// Engine is an engine in memory. All methods may be called concurrently.
type Engine struct {
	id  string
	now func() time.Time

	mu       sync.Mutex
	down     bool
	boxes    map[sandbox.ID]*box
	volumes  map[string]*volume
	failures map[Method][]error
	foreign  map[int]bool
	watchers map[int]*watcher
	next     int
	muteNext bool
	history  []Entry
	facts    executor.Facts
}

type box struct {
	plan executor.Plan
	in   executor.Instance
	// unready counts the probes that will still find the daemon silent.
	unready int
	// mute: the daemon has no token yet and does not answer.
	mute bool
	logs []string
	// obeys is what the entry point does by itself.
	behave Behaviour
}

type watcher struct {
	events chan executor.Event
	broken chan struct{}
}

// Entry is something that happened to an incarnation.
type Entry struct {
	executor.Ref
	At   time.Time
	What What
}

// What happened.
type What string

// What can happen. Killed and Removed are done by the port; Exited by the entry point itself or by hand.
const (
	WasCreated What = "created"
	WasStarted What = "started"
	WasPaused  What = "paused"
	WasResumed What = "resumed"
	WasKilled  What = "killed"
	WasRemoved What = "removed"
	HasExited  What = "exited"
	WasLost    What = "lost"
)

// Behaviour is what a sandbox does after its start, read from the first word of its entry point.
type Behaviour struct {
	// Missing: the entry point does not exist. Exits: it ends at once with Code.
	Missing, Exits bool
	Code           int
	// Unready is how many probes find the daemon silent.
	Unready int
}

// Behave derives the behaviour from an entry point: "missing", "exit N", "slow N" (silent for N probes); anything else runs for ever.
func Behave(entrypoint []string) Behaviour {
	var b Behaviour
	if len(entrypoint) == 0 {
		return b
	}
	n := 0
	if len(entrypoint) > 1 {
		_, _ = fmt.Sscan(entrypoint[1], &n) // what is no number counts as 0
	}
	switch entrypoint[0] {
	case "missing":
		b.Missing = true
	case "exit":
		b.Exits, b.Code = true, n
	case "slow":
		b.Unready = n
	}
	return b
}

// Beginnings of image names: images that do not exist, and images that have to be pulled first.
const (
	MissingImage = "missing"
	RemoteImage  = "remote"
	// PrivateImage has to be pulled with the Credentials of this package.
	PrivateImage = "private"
)

// Credentials are the ones with which a PrivateImage may be pulled. The password is long enough to be found where it has leaked to.
func Credentials() sandbox.Credentials {
	return sandbox.Credentials{Username: "robot", Password: "opens-all-private-images"}
}

// New returns an engine without containers. now is its clock.
func New(id string, now func() time.Time) *Engine {
	return &Engine{
		id: id, now: now, boxes: map[sandbox.ID]*box{}, volumes: map[string]*volume{}, failures: map[Method][]error{}, foreign: map[int]bool{}, watchers: map[int]*watcher{},
		facts: executor.Facts{Platform: "linux/amd64", Runtimes: []string{"fake"}},
	}
}

// fail returns what the call must fail with: the engine being down, or a planned failure.
func (e *Engine) fail(m Method) error {
	if e.down {
		return fault.New(fault.Unavailable, "the container engine does not answer")
	}
	if planned := e.failures[m]; len(planned) > 0 {
		e.failures[m] = planned[1:]
		return planned[0]
	}
	return nil
}

func (e *Engine) note(r executor.Ref, w What) {
	e.history = append(e.history, Entry{r, e.now(), w})
	ev := executor.Event{Ref: r, At: e.now(), Action: actions[w]}
	if b := e.boxes[r.ID]; b != nil && ev.Action == executor.ActionEnded {
		code := b.in.ExitCode
		ev.ExitCode = &code
	}
	for _, wt := range e.watchers {
		select {
		case wt.events <- ev:
		default: // a watcher that does not keep up misses events, as with a real engine
		}
	}
}

// actions are what watchers are told. A container that is lost ends, or is removed: its watchers have to look.
var actions = map[What]string{
	WasCreated: executor.ActionCreated, WasStarted: executor.ActionStarted, WasPaused: executor.ActionPaused, WasResumed: executor.ActionResumed,
	WasKilled: executor.ActionEnded, HasExited: executor.ActionEnded, WasRemoved: executor.ActionRemoved, WasLost: executor.ActionRemoved,
}

// EngineID returns the id.
func (e *Engine) EngineID(context.Context) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.id, e.fail("EngineID")
}

// EnsureImage finds every image whose name does not begin with MissingImage, nor with PrivateImage without the right credentials.
func (e *Engine) EnsureImage(ctx context.Context, img executor.Image, progress func(string)) error {
	e.mu.Lock()
	err := e.fail(EnsureImage)
	e.mu.Unlock()
	if err != nil {
		return err
	}
	if strings.HasPrefix(img.Name, MissingImage) || strings.HasPrefix(img.Name, PrivateImage) && img.Credentials != Credentials() {
		return fault.Newf(fault.Invalid, "image %q does not exist", img.Name).WithCode(executor.CodeImage)
	}
	if strings.HasPrefix(img.Name, RemoteImage) || strings.HasPrefix(img.Name, PrivateImage) {
		progress("pulling image " + img.Name)
	}
	return ctx.Err()
}

// Create makes a container.
func (e *Engine) Create(_ context.Context, p executor.Plan) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fail(Create); err != nil {
		return err
	}
	if e.boxes[p.ID] != nil {
		return fault.New(fault.Conflict, "the name is in use")
	}
	if strings.HasPrefix(p.Image, MissingImage) {
		return fault.New(fault.NotFound, "no such image")
	}
	if err := e.makeVolumes(p); err != nil {
		return err
	}
	if err := e.fail(AfterVolumes); err != nil {
		return err
	}
	p.Ports = maps.Clone(p.Ports)
	b := &box{plan: p, behave: Behave(p.Entrypoint), in: executor.Instance{
		Ref: p.Ref, Tenant: p.Tenant, CreatedAt: p.CreatedAt, Deadline: p.Deadline, Phase: executor.Created, Image: p.Image, Limits: p.Limits, Published: p.Ports}}
	e.boxes[p.ID] = b
	e.note(p.Ref, WasCreated)
	return nil
}

// Start starts it.
func (e *Engine) Start(_ context.Context, p executor.Plan) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fail(Start); err != nil {
		return err
	}
	b := e.boxes[p.ID]
	if b == nil || b.in.Epoch != p.Epoch {
		return fault.New(fault.NotFound, "no such container")
	}
	if b.in.Phase != executor.Created {
		b.mute = false
		return nil
	}
	for _, c := range slices.Sorted(maps.Keys(b.plan.Ports)) {
		if e.foreign[b.plan.Ports[c]] {
			return executor.ErrPortTaken(c, b.plan.Ports[c])
		}
	}
	b.in.Phase, b.in.StartedAt, b.unready = executor.Running, e.now(), b.behave.Unready
	b.in.Addresses = sandbox.Addresses{ContainerIP: "172.17.0.2", Ports: maps.Clone(b.plan.Ports)}
	b.mute = e.muteNext
	e.muteNext = false
	e.note(b.in.Ref, WasStarted)
	switch {
	case b.behave.Missing:
		b.logs = append(b.logs, "entry point not found")
		e.end(b, 127, HasExited)
	case b.behave.Exits:
		b.logs = append(b.logs, fmt.Sprintf("ending with %d", b.behave.Code))
		e.end(b, b.behave.Code, HasExited)
	}
	return nil
}

func (e *Engine) end(b *box, code int, w What) {
	b.in.Phase, b.in.ExitCode, b.in.FinishedAt = executor.Exited, code, e.now()
	b.in.Addresses.ContainerIP = ""
	e.note(b.in.Ref, w)
}

// Inspect looks.
func (e *Engine) Inspect(_ context.Context, id sandbox.ID) (executor.Instance, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fail(Inspect); err != nil {
		return executor.Instance{}, err
	}
	b := e.boxes[id]
	if b == nil {
		return executor.Instance{}, fault.New(fault.NotFound, "no such container")
	}
	in := b.in
	in.Published = maps.Clone(in.Published)
	return in, nil
}

// List returns everything, by id, and then what is left of others.
func (e *Engine) List(context.Context) ([]executor.Instance, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fail(List); err != nil {
		return nil, err
	}
	var out []executor.Instance
	for _, id := range slices.Sorted(maps.Keys(e.boxes)) {
		out = append(out, e.boxes[id].in)
	}
	return append(out, e.leftovers()...), nil
}

// Ready succeeds once the daemon answers.
func (e *Engine) Ready(_ context.Context, in executor.Instance) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fail(Ready); err != nil {
		return err
	}
	b := e.boxes[in.ID]
	switch {
	case b == nil || b.in.Epoch != in.Epoch || b.in.Phase != executor.Running || b.mute:
		return fault.New(fault.Unavailable, "nothing answers")
	case b.unready > 0:
		b.unready--
		return fault.New(fault.Unavailable, "not ready yet")
	}
	return nil
}

// Kill ends all processes.
func (e *Engine) Kill(_ context.Context, r executor.Ref) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fail(Kill); err != nil {
		return err
	}
	if b := e.boxes[r.ID]; b != nil && b.in.Epoch == r.Epoch && (b.in.Phase == executor.Running || b.in.Phase == executor.Paused) {
		e.end(b, 137, WasKilled)
	}
	return nil
}

// Remove removes the incarnation.
func (e *Engine) Remove(_ context.Context, r executor.Ref) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.fail(Remove); err != nil {
		return err
	}
	var last executor.Plan
	if b := e.boxes[r.ID]; b != nil && b.in.Epoch == r.Epoch {
		if b.in.Phase == executor.Running || b.in.Phase == executor.Paused {
			e.end(b, 137, WasKilled)
		}
		last = b.plan
		delete(e.boxes, r.ID)
		e.note(r, WasRemoved)
	}
	e.removeVolumes(r, last)
	return nil
}
