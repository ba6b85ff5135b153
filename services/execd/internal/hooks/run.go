package hooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"opensandbox/services/execd/internal/command"
	"opensandbox/services/execd/internal/environ"
	"opensandbox/services/execd/internal/reap"
)

// killWait is how long a killed command may take to disappear; one that hangs in the kernel is not waited for any longer.
const killWait = 5 * time.Second

// errStuck marks a command that could not even be killed.
var errStuck = errors.New("it could not be killed")

// Runner runs hooks as execd's own user, with the environment of the sandbox and execd's own output.
type Runner struct {
	starter command.Starter
	env     []string
	log     *slog.Logger
}

// NewRunner returns a Runner. env is the environment of the sandbox, without execd's secrets.
func NewRunner(starter command.Starter, env []string, log *slog.Logger) *Runner {
	return &Runner{starter: starter, env: env, log: log}
}

// Once runs a hook and waits for its end. A time-out, a failure and the end of ctx are errors; the group of the command is gone
// then, as far as the kernel allows. Processes that a hook left behind after a success go on.
func (r *Runner) Once(ctx context.Context, h Hook) error {
	file, err := environ.LookPath(h.Command[0], "", environ.In(r.env))
	if err != nil {
		return fmt.Errorf("hook %s: %w", h.Name, err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("hook %s: %w", h.Name, err)
	}
	defer null.Close()
	proc, err := r.starter.Start(file, h.Command, &syscall.ProcAttr{
		Env: r.env, Files: []uintptr{null.Fd(), 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return fmt.Errorf("hook %s: %w", h.Name, err)
	}
	t := time.NewTimer(h.Timeout)
	defer t.Stop()
	select {
	case <-proc.Done():
		if code := reap.ExitCode(proc.Status()); code != 0 {
			return fmt.Errorf("hook %s: exit status %d", h.Name, code)
		}
		return nil
	case <-t.C:
		err = fmt.Errorf("hook %s: not done within %s", h.Name, h.Timeout)
	case <-ctx.Done():
		err = fmt.Errorf("hook %s: %w", h.Name, ctx.Err())
	}
	if !r.kill(proc) {
		err = fmt.Errorf("%w: %w", err, errStuck)
	}
	return err
}

// kill reports whether the command has disappeared. Members of its group that hang are the kernel's.
func (r *Runner) kill(proc *reap.Process) bool {
	r.starter.SignalGroup(proc, syscall.SIGKILL)
	t := time.NewTimer(killWait)
	defer t.Stop()
	select {
	case <-proc.Done():
		r.starter.OrphanGroup(proc, syscall.SIGKILL) // Forked between the signal and the end.
		return true
	case <-t.C:
		return false
	}
}

// Periodic runs the hooks at their times until ctx ends, and returns when the last has ended. A hook never runs twice at a time:
// times that pass while it runs are skipped. A failure is logged; a hook that cannot be killed is never run again.
func (r *Runner) Periodic(ctx context.Context, hooks []Periodic) {
	var all sync.WaitGroup
	for _, h := range hooks {
		all.Go(func() { r.repeat(ctx, h) })
	}
	all.Wait()
}

func (r *Runner) repeat(ctx context.Context, h Periodic) {
	for next := time.Now(); ; {
		// From the last time on, so that @every keeps its pace; what has passed meanwhile is skipped.
		now := time.Now()
		if next = h.Schedule.Next(next); !next.After(now) {
			next = h.Schedule.Next(now)
		}
		t := time.NewTimer(next.Sub(now))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		err := r.Once(ctx, h.Hook)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errStuck):
			r.log.Error("periodic hook disabled", "hook", h.Name, "error", err)
			return
		case err != nil:
			r.log.Warn("periodic hook failed", "hook", h.Name, "error", err)
		}
	}
}
