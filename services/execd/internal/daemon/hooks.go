package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"opensandbox/services/execd/internal/environ"
	"opensandbox/services/execd/internal/hooks"
)

// hookFileVariable names the file of the hooks, as in OpenSandbox 1.1.1.
const hookFileVariable = "EXECD_LIFECYCLE_CONFIG"

// loadHooks reads the hooks, and keeps those of the variable in their file. That fails for good only in a file that was asked for: a container
// keeps its variables, and a home directory that cannot be written is no reason not to start.
func loadHooks(o options, env []string, log *slog.Logger) (hooks.Set, error) {
	lookup := environ.In(env)
	var f hooks.File
	if f.Path, _ = lookup(hookFileVariable); f.Path != "" {
		f.Required = true
	} else if home := environ.Home(lookup); home != "" {
		f.Path = filepath.Join(home, ".execd", "lifecycle.toml")
	}
	set, err := hooks.Load(o.lifecycle, f)
	if err != nil {
		return set, err
	}
	if err := set.Save(f); err != nil {
		if f.Required {
			return set, err
		}
		log.Warn("the hooks are in their variable only", "error", err)
	}
	return set, nil
}

// prepare runs the hook before the entry point. The hook may need execd, so it starts once clients get answers. A signal that says stop ends it; the
// exit status is then that of a process which died of the signal. Other signals are for the entry point, which does not exist yet, and are dropped.
func (a *app) prepare(h hooks.Hook, signals <-chan os.Signal) (code int, err error) {
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	done := make(chan error, 1)
	a.background.Go(func() {
		select {
		case <-a.listening:
			done <- a.hooks.Once(ctx, h)
		case <-ctx.Done():
			done <- ctx.Err()
		}
	})
	for {
		select {
		case err := <-done:
			return 1, err
		case err := <-a.failed:
			return 1, err
		case sig := <-signals:
			if s, ok := sig.(syscall.Signal); ok && (s == syscall.SIGTERM || s == syscall.SIGINT) {
				cancel()
				<-done
				return 128 + int(s), fmt.Errorf("hook %s: stopped by %s", h.Name, s)
			}
		}
	}
}

// repeat starts the periodic hooks; they end with a.close.
func (a *app) repeat(set []hooks.Periodic) {
	if len(set) > 0 {
		a.background.Go(func() { a.hooks.Periodic(a.ctx, set) })
	}
}
