package daemon

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"opensandbox/services/execd/internal/hooks"
)

// prepare runs the hook before the entry point. A signal that says stop ends it; the exit status is then that of a process which
// died of the signal. Other signals are for the entry point, which does not exist yet, and are dropped.
func (a *app) prepare(h hooks.Hook, signals <-chan os.Signal) (code int, err error) {
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	done := make(chan error, 1)
	a.background.Go(func() { done <- a.hooks.Once(ctx, h) })
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
