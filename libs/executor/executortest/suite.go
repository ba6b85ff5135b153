// Package executortest is the conformance suite of the executor port. Every adapter runs it; so do fakes.
package executortest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/libs/sandbox"
)

// Harness is an executor with what the suite needs to know of its runtime.
type Harness struct {
	Executor executor.Executor
	// Image exists; NoImage does not, and the runtime can tell.
	Image, NoImage string
	// Forever runs until it is killed, Exit ends at once with a code, Missing cannot be started.
	Forever []string
	Exit    func(code int) []string
	Missing []string
	// Ports returns a port of the node for each of the daemon's and the application's port, different ones each time.
	Ports func() map[int]int
	// TakePort makes a port of the node unusable until the test ends.
	TakePort func(t *testing.T, port int)
	// NewID returns an id that was not used before, of a-z, 0-9 and -.
	NewID func() sandbox.ID
	// HasVolume reports whether the runtime has a volume of a name; MakeVolume makes one as somebody else would, and RemoveVolume removes one.
	HasVolume                func(t *testing.T, name string) bool
	MakeVolume, RemoveVolume func(t *testing.T, name string)
	// LeaveVolume makes the volumes of a plan and no container, as a crash in the middle of a create leaves them.
	LeaveVolume func(t *testing.T, p executor.Plan)
}

// patience bounds every wait for something that the runtime does by itself.
const patience = 30 * time.Second

// TestExecutor runs the suite. newHarness is called for each part and cleans up after it through t.
func TestExecutor(t *testing.T, newHarness func(t *testing.T) Harness) {
	for name, part := range map[string]func(*testing.T, Harness){
		"life of a sandbox":           life,
		"calls can be repeated":       repeat,
		"epochs are kept apart":       epochs,
		"pause and unpause":           pauses,
		"kill reaches frozen ones":    killPaused,
		"ends are seen":               ends,
		"what cannot run":             cannotRun,
		"a taken port":                takenPort,
		"an image that is not there":  noImage,
		"a limit that cannot be kept": badLimit,
		"list":                        list,
		"events":                      watch,
		"facts":                       describe,
		"nothing there":               nothing,
		"a volume goes with it":       volumeGoesWithItsSandbox,
		"a volume stays":              volumeThatStays,
		"a volume is missing":         volumeIsMissing,
		"a volume is shared":          volumeIsShared,
		"a volume is left":            volumeIsLeft,
		"a volume of an older epoch":  volumeOfAnotherEpoch,
	} {
		t.Run(name, func(t *testing.T) { part(t, newHarness(t)) })
	}
}

func (h Harness) plan(t *testing.T, entrypoint []string) executor.Plan {
	t.Helper()
	p := executor.Plan{
		Ref: executor.Ref{ID: h.NewID(), Epoch: 1}, CreatedAt: time.Now().UTC().Truncate(time.Microsecond), Image: h.Image, Entrypoint: entrypoint,
		Env: map[string]string{"A": "b"}, Ports: h.Ports(), Token: "secret-token-of-" + t.Name(),
		Limits: sandbox.Resources{CPU: 500, Memory: 64 << 20},
	}
	p.Deadline = p.CreatedAt.Add(time.Hour)
	t.Cleanup(func() {
		for epoch := uint64(1); epoch <= 3; epoch++ {
			if err := h.Executor.Remove(context.WithoutCancel(t.Context()), executor.Ref{ID: p.ID, Epoch: epoch}); err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
	})
	return p
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func wantKind(t *testing.T, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: %v (%v), want %v", what, err, fault.KindOf(err), kind)
	}
}

// await waits until the incarnation is in a phase.
func (h Harness) await(t *testing.T, r executor.Ref, want executor.Phase) executor.Instance {
	t.Helper()
	var in executor.Instance
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var err error
		if in, err = h.Executor.Inspect(t.Context(), r.ID); err == nil && in.Phase == want {
			return in
		}
	}
	t.Fatalf("never %s; last seen %+v", want, in)
	return in
}

func (h Harness) awaitReady(t *testing.T, r executor.Ref) executor.Instance {
	t.Helper()
	in := h.await(t, r, executor.Running)
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err = h.Executor.Ready(t.Context(), in); err == nil {
			return in
		}
	}
	t.Fatalf("never ready: %v", err)
	return in
}

func (h Harness) run(t *testing.T, entrypoint []string) executor.Plan {
	t.Helper()
	p := h.plan(t, entrypoint)
	must(t, "create", h.Executor.Create(t.Context(), p))
	must(t, "start", h.Executor.Start(t.Context(), p))
	return p
}

func life(t *testing.T, h Harness) {
	e := h.Executor
	must(t, "image", e.EnsureImage(t.Context(), executor.Image{Name: h.Image}, func(string) {}))
	p := h.plan(t, h.Forever)
	must(t, "create", e.Create(t.Context(), p))
	in, err := e.Inspect(t.Context(), p.ID)
	must(t, "inspect", err)
	if in.Phase != executor.Created || !in.StartedAt.IsZero() || in.Ref != p.Ref || !in.CreatedAt.Equal(p.CreatedAt) || !in.Deadline.Equal(p.Deadline) {
		t.Errorf("after create: %+v", in)
	}
	wantKind(t, "ready before the start", e.Ready(t.Context(), in), fault.Unavailable)
	must(t, "start", e.Start(t.Context(), p))
	in = h.awaitReady(t, p.Ref)
	for c, port := range p.Ports {
		if in.Addresses.Ports[c] != port {
			t.Errorf("container port %d is published at %d, want %d", c, in.Addresses.Ports[c], port)
		}
	}
	if in.Addresses.ContainerIP == "" || in.StartedAt.IsZero() {
		t.Errorf("running without an address or a start: %+v", in)
	}
	must(t, "kill", e.Kill(t.Context(), p.Ref))
	if in = h.await(t, p.Ref, executor.Exited); in.FinishedAt.IsZero() || in.ExitCode == 0 {
		t.Errorf("after the kill: %+v", in)
	}
	must(t, "remove", e.Remove(t.Context(), p.Ref))
	_, err = e.Inspect(t.Context(), p.ID)
	wantKind(t, "inspect after remove", err, fault.NotFound)
}

func repeat(t *testing.T, h Harness) {
	e := h.Executor
	p := h.run(t, h.Forever)
	wantKind(t, "second create", e.Create(t.Context(), p), fault.Conflict)
	must(t, "second start", e.Start(t.Context(), p))
	h.awaitReady(t, p.Ref)
	must(t, "start of a ready one", e.Start(t.Context(), p))
	must(t, "kill", e.Kill(t.Context(), p.Ref))
	must(t, "second kill", e.Kill(t.Context(), p.Ref))
	must(t, "remove", e.Remove(t.Context(), p.Ref))
	must(t, "second remove", e.Remove(t.Context(), p.Ref))
}

func epochs(t *testing.T, h Harness) {
	e := h.Executor
	p := h.run(t, h.Forever)
	other := p
	other.Epoch = 2
	wantKind(t, "create with another epoch", e.Create(t.Context(), other), fault.Conflict)
	must(t, "kill of another epoch", e.Kill(t.Context(), other.Ref))
	must(t, "remove of another epoch", e.Remove(t.Context(), other.Ref))
	if in, err := e.Inspect(t.Context(), p.ID); err != nil || in.Phase != executor.Running || in.Epoch != 1 {
		t.Errorf("another epoch's kill or remove reached this one: %+v, %v", in, err)
	}
	must(t, "remove", e.Remove(t.Context(), p.Ref))
	other.Ports = h.Ports()
	must(t, "create the next epoch", e.Create(t.Context(), other))
	if in, err := e.Inspect(t.Context(), p.ID); err != nil || in.Epoch != 2 {
		t.Errorf("the next epoch: %+v, %v", in, err)
	}
}

func pauses(t *testing.T, h Harness) {
	p := h.run(t, h.Forever)
	pauser, ok := executor.As[executor.Pauser](h.Executor)
	if !ok {
		t.Fatal("the executor is no Pauser")
	}
	in := h.awaitReady(t, p.Ref)
	must(t, "pause", pauser.Pause(t.Context(), p.Ref))
	h.await(t, p.Ref, executor.Paused)
	wantKind(t, "ready while frozen", h.Executor.Ready(t.Context(), in), fault.Unavailable)
	must(t, "second pause", pauser.Pause(t.Context(), p.Ref))
	must(t, "unpause", pauser.Unpause(t.Context(), p.Ref))
	h.awaitReady(t, p.Ref)
	must(t, "second unpause", pauser.Unpause(t.Context(), p.Ref))
	must(t, "kill", h.Executor.Kill(t.Context(), p.Ref))
	h.await(t, p.Ref, executor.Exited)
	wantKind(t, "pause of an ended one", pauser.Pause(t.Context(), p.Ref), fault.Conflict)
	wantKind(t, "unpause of an ended one", pauser.Unpause(t.Context(), p.Ref), fault.Conflict)
	wantKind(t, "pause of nothing", pauser.Pause(t.Context(), executor.Ref{ID: h.NewID(), Epoch: 1}), fault.Conflict)
}

func killPaused(t *testing.T, h Harness) {
	p := h.run(t, h.Forever)
	h.awaitReady(t, p.Ref)
	must(t, "pause", h.Executor.(executor.Pauser).Pause(t.Context(), p.Ref))
	must(t, "kill", h.Executor.Kill(t.Context(), p.Ref))
	h.await(t, p.Ref, executor.Exited)
	p = h.run(t, h.Forever)
	h.awaitReady(t, p.Ref)
	must(t, "pause", h.Executor.(executor.Pauser).Pause(t.Context(), p.Ref))
	must(t, "remove of a frozen one", h.Executor.Remove(t.Context(), p.Ref))
	_, err := h.Executor.Inspect(t.Context(), p.ID)
	wantKind(t, "inspect after remove", err, fault.NotFound)
}

func ends(t *testing.T, h Harness) {
	for _, code := range []int{0, 3} {
		p := h.run(t, h.Exit(code))
		in := h.await(t, p.Ref, executor.Exited)
		if in.ExitCode != code || in.StartedAt.IsZero() || in.FinishedAt.IsZero() || in.OOMKilled {
			t.Errorf("exit %d: %+v", code, in)
		}
		must(t, "start of an ended one", ignoreInvalid(h.Executor.Start(t.Context(), executor.Plan{Ref: executor.Ref{ID: h.NewID(), Epoch: 1}})))
	}
}

// ignoreInvalid is for a start of nothing, which may fail in any classified way.
func ignoreInvalid(err error) error {
	if fault.KindOf(err) != fault.Internal {
		return nil
	}
	return err
}

func cannotRun(t *testing.T, h Harness) {
	p := h.plan(t, h.Missing)
	must(t, "create", h.Executor.Create(t.Context(), p))
	if err := h.Executor.Start(t.Context(), p); err != nil {
		wantKind(t, "start", err, fault.Invalid)
		return
	}
	in := h.await(t, p.Ref, executor.Exited)
	if in.ExitCode == 0 {
		t.Errorf("an entry point that does not exist ended with 0: %+v", in)
	}
	if lr, ok := executor.As[executor.LogReader](h.Executor); ok {
		lines, err := lr.Tail(t.Context(), p.Ref, 5)
		if err != nil || len(lines) == 0 {
			t.Errorf("Tail = %q, %v; want a line that says why", lines, err)
		}
	}
}

func takenPort(t *testing.T, h Harness) {
	p := h.plan(t, h.Forever)
	var container, host int
	for container, host = range p.Ports {
		break
	}
	h.TakePort(t, host)
	must(t, "create", h.Executor.Create(t.Context(), p))
	if in, err := h.Executor.Inspect(t.Context(), p.ID); err != nil || !maps.Equal(in.Published, p.Ports) {
		t.Errorf("published %v, %v; want %v, as planned", in.Published, err, p.Ports)
	}
	err := h.Executor.Start(t.Context(), p)
	if fault.CodeOf(err) != executor.CodePortTaken {
		t.Fatalf("start = %v, want code %s", err, executor.CodePortTaken)
	}
	if want := executor.ErrPortTaken(container, host); err.Error() != want.Error() {
		t.Errorf("start = %v, want %v", err, want)
	}
	if in, err := h.Executor.Inspect(t.Context(), p.ID); err != nil || in.Phase != executor.Created || !maps.Equal(in.Published, p.Ports) {
		t.Errorf("then %s with %v, %v; want it Created, and its ports as before", in.Phase, in.Published, err)
	}
	must(t, "remove", h.Executor.Remove(t.Context(), p.Ref))
}

func noImage(t *testing.T, h Harness) {
	err := h.Executor.EnsureImage(t.Context(), executor.Image{Name: h.NoImage}, func(string) {})
	wantKind(t, "ensure", err, fault.Invalid)
	if fault.CodeOf(err) != executor.CodeImage || !strings.Contains(fault.TextOf(err), h.NoImage) {
		t.Errorf("ensure = %v (code %q); want code %s and the image's name", err, fault.CodeOf(err), executor.CodeImage)
	}
	p := h.plan(t, h.Forever)
	p.Image = h.NoImage
	wantKind(t, "create", h.Executor.Create(t.Context(), p), fault.NotFound)
}

func badLimit(t *testing.T, h Harness) {
	p := h.plan(t, h.Forever)
	p.Limits.Memory = 1
	err := h.Executor.Create(t.Context(), p)
	if err == nil { // a runtime without a smallest limit
		return
	}
	wantKind(t, "create with one byte of memory", err, fault.Invalid)
}

func list(t *testing.T, h Harness) {
	created := h.plan(t, h.Forever)
	must(t, "create", h.Executor.Create(t.Context(), created))
	running, ended := h.run(t, h.Forever), h.run(t, h.Exit(3))
	h.awaitReady(t, running.Ref)
	h.await(t, ended.Ref, executor.Exited)
	all, err := h.Executor.List(t.Context())
	must(t, "list", err)
	got := map[sandbox.ID]executor.Instance{}
	for _, in := range all {
		got[in.ID] = in
	}
	for id, want := range map[sandbox.ID]executor.Phase{created.ID: executor.Created, running.ID: executor.Running, ended.ID: executor.Exited} {
		if got[id].Phase != want || got[id].Epoch != 1 {
			t.Errorf("listed %+v, want phase %s", got[id], want)
		}
	}
	if got[ended.ID].ExitCode != 3 {
		t.Errorf("listed exit code %d, want 3", got[ended.ID].ExitCode)
	}
}

func watch(t *testing.T, h Harness) {
	w, ok := executor.As[executor.Watcher](h.Executor)
	if !ok {
		t.Fatal("the executor is no Watcher")
	}
	p := h.run(t, h.Forever)
	h.awaitReady(t, p.Ref)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ready, told, ended := make(chan struct{}), make(chan executor.Event, 64), make(chan error, 1)
	go func() {
		ended <- w.Watch(ctx, func() { close(ready) }, func(e executor.Event) {
			if e.ID == p.ID {
				select {
				case told <- e:
				default:
				}
			}
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("Watch = %v before it was ready", err)
	}
	must(t, "kill", h.Executor.Kill(t.Context(), p.Ref))
	for seen := false; !seen; {
		select {
		case ev := <-told:
			seen = ev.Action == executor.ActionEnded
			if seen && (ev.Ref != p.Ref || ev.At.IsZero() || ev.ExitCode == nil || *ev.ExitCode != 137 || !ev.Unasked()) {
				t.Errorf("told %+v, want the end of %+v by SIGKILL", ev, p.Ref)
			}
		case <-ctx.Done():
			t.Fatal("the end was not told")
		}
	}
	cancel()
	if err := <-ended; err == nil {
		t.Error("Watch returned nil after its context ended")
	}
}

func describe(t *testing.T, h Harness) {
	d, ok := executor.As[executor.Describer](h.Executor)
	if !ok {
		return // a runtime that says nothing of itself
	}
	f, err := d.Describe(t.Context())
	must(t, "describe", err)
	if os, arch, ok := strings.Cut(f.Platform, "/"); !ok || os == "" || arch == "" || strings.Contains(arch, "_") {
		t.Errorf("platform %q, want os/arch as in Go", f.Platform)
	}
	if len(f.Runtimes) == 0 || !slices.IsSorted(f.Runtimes) || !slices.IsSorted(f.Images) {
		t.Errorf("runtimes %q, images %q; want sorted lists, and at least one runtime", f.Runtimes, f.Images)
	}
}

func nothing(t *testing.T, h Harness) {
	r := executor.Ref{ID: h.NewID(), Epoch: 1}
	_, err := h.Executor.Inspect(t.Context(), r.ID)
	wantKind(t, "inspect", err, fault.NotFound)
	must(t, "kill", h.Executor.Kill(t.Context(), r))
	must(t, "remove", h.Executor.Remove(t.Context(), r))
	if lr, ok := executor.As[executor.LogReader](h.Executor); ok {
		if lines, err := lr.Tail(t.Context(), r, 5); err != nil || len(lines) != 0 {
			t.Errorf("Tail = %q, %v", lines, err)
		}
	}
	one, err := h.Executor.EngineID(t.Context())
	must(t, "engine id", err)
	if two, err := h.Executor.EngineID(t.Context()); err != nil || one == "" || one != two {
		t.Errorf("engine id %q, then %q, %v", one, two, err)
	}
}
