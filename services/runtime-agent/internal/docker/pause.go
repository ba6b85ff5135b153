package docker

import (
	"context"
	"strings"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
)

// Pause freezes the container.
func (e *Engine) Pause(ctx context.Context, r executor.Ref) error {
	return e.move(ctx, r, executor.Paused, func(ctx context.Context, name string) error { return freeze(ctx, name, e.api.ContainerPause) })
}

const (
	// freezes is how often a container is to be frozen at most.
	freezes = 5
	// betweenFreezes lets a process get out of the way that could not be frozen.
	betweenFreezes = 100 * time.Millisecond
)

// freeze calls pause again where the kernel was too slow: with the first version of cgroups runc asks a few thousand times whether all processes
// stand still, and then lets them go on and gives up. On a busy machine one that is about to run can take longer.
func freeze(ctx context.Context, name string, pause func(context.Context, string) error) error {
	for try := 1; ; try++ {
		err := pause(ctx, name)
		if err == nil || try == freezes || !strings.Contains(err.Error(), "unable to freeze") {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(betweenFreezes):
		}
	}
}

// Unpause lets it go on.
func (e *Engine) Unpause(ctx context.Context, r executor.Ref) error {
	return e.move(ctx, r, executor.Running, e.api.ContainerUnpause)
}

func (e *Engine) move(ctx context.Context, r executor.Ref, want executor.Phase, call func(context.Context, string) error) error {
	ctx, cancel := e.bounded(ctx)
	defer cancel()
	callErr := call(ctx, containerName(r.ID))
	if callErr == nil {
		return nil
	}
	if err := classify("pause or unpause", callErr); fault.Is(err, fault.Unavailable) || ctx.Err() != nil {
		return err
	}
	// The engine's refusals of what is done already differ between versions: look what is.
	in, err := e.Inspect(ctx, r.ID)
	switch {
	case fault.Is(err, fault.NotFound), err == nil && in.Epoch != r.Epoch:
		return fault.New(fault.Conflict, "the sandbox is not there").Because(callErr)
	case err != nil:
		return err
	case in.Phase == want:
		return nil
	case in.Phase != executor.Running && in.Phase != executor.Paused:
		return fault.New(fault.Conflict, "the sandbox does not run").Because(callErr)
	}
	return classify("pause or unpause", callErr)
}
