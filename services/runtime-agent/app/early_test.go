package app_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"opensandbox/libs/sandbox"
	"opensandbox/services/runtime-agent/app"
)

// newEarlyWorld returns a node with a sandbox, whose agent has ended and whose store is away since about two seconds.
func newEarlyWorld(t *testing.T, dir string) *world {
	t.Helper()
	w := newWorld(t, dir)
	place(t, w.store.Store, "a")
	w.pass(2 * time.Second)
	w.stop()
	if err := <-w.ended; err != nil {
		t.Fatal(err)
	}
	w.agent.Close()
	w.store.away(true)
	return w
}

// starting begins a start of the agent, which waits for the store.
func (w *world) starting(dir string, d app.Deps) (started chan *app.Agent, giveUp context.CancelFunc) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	started = make(chan *app.Agent, 1)
	go func() {
		a, err := app.Start(ctx, config(dir), d)
		if err != nil && ctx.Err() == nil {
			w.t.Errorf("Start = %v", err)
		}
		started <- a
	}()
	synctest.Wait()
	return started, cancel
}

func (w *world) runs(when string, want int) {
	w.t.Helper()
	if got := w.running(); got != want {
		w.t.Errorf("%s: %d run, want %d", when, got, want)
	}
}

func TestAnAgentThatIsStartedWhileCutOff(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newEarlyWorld(t, dir)
		for range 3 { // a supervisor that is impatient: each start counts from the last renewal
			_, giveUp := w.starting(dir, deps(w.store, w.engine))
			w.pass(lostAfter / 5)
			giveUp()
			w.pass(time.Second)
			w.runs("before the limit", 1)
		}
		started, giveUp := w.starting(dir, deps(w.store, w.engine))
		defer giveUp()
		w.pass(lostAfter/5 - 10*time.Second)
		w.runs("shortly before the limit", 1)
		w.pass(10 * time.Second)
		w.runs("at the limit", 0)
		w.store.away(false)
		w.pass(2 * time.Second)
		if a := <-started; a != nil {
			a.Close()
		}
		w.begin(dir)
		w.pass(2 * time.Second)
		w.want("a", sandbox.StateFailed, sandbox.ReasonNodeCutOff)
		w.stop()
		<-w.ended
	})
}

func TestAnAgentThatIsStartedAfterTheLimit(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newEarlyWorld(t, dir)
		time.Sleep(lostAfter)
		_, giveUp := w.starting(dir, deps(w.store, w.engine))
		defer giveUp()
		w.runs("at once", 0)
	})
}

func TestWhatTheDirectoryDoesNotTellStopsNothingAtOnce(t *testing.T) {
	for name, spoil := range map[string]func(file string, d *app.Deps) error{
		"another boot": func(_ string, d *app.Deps) error {
			d.Boot = func() (string, time.Duration) { return "the next boot", time.Minute }
			return nil
		},
		"no note":                       func(file string, _ *app.Deps) error { return os.Remove(file) },
		"half a note":                   func(file string, _ *app.Deps) error { return os.WriteFile(file, []byte(`{"bootId":"this bo`), 0o600) },
		"a note of a kernel without id": func(file string, _ *app.Deps) error { return os.WriteFile(file, []byte(`{}`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				w := newEarlyWorld(t, dir)
				d := deps(w.store, w.engine)
				if err := spoil(filepath.Join(dir, "renewed.json"), &d); err != nil {
					t.Fatal(err)
				}
				time.Sleep(lostAfter)
				_, giveUp := w.starting(dir, d)
				defer giveUp()
				w.pass(lostAfter*4/5 - 2*time.Second)
				w.runs("within the limit of its own start", 1)
				w.pass(3 * time.Second)
				w.runs("past it", 0)
			})
		})
	}
}

func TestWhileTheStoreCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newEarlyWorld(t, dir)
		d, failed := deps(nil, w.engine), errors.New("it does not open")
		err := app.WhileAway(t.Context(), config(dir), d, func(ctx context.Context) error {
			w.pass(lostAfter*4/5 - 10*time.Second)
			w.runs("shortly before the limit", 1)
			if err := app.WhileAway(ctx, config(dir), d, func(context.Context) error { return nil }); err == nil || !strings.Contains(err.Error(), "in use") {
				t.Errorf("a second agent with the same directory: %v", err)
			}
			w.pass(10 * time.Second)
			w.runs("at the limit", 0)
			return failed
		})
		if !errors.Is(err, failed) {
			t.Errorf("WhileAway = %v, want what opening said", err)
		}
		w.store.away(false)
		w.begin(dir)
		w.pass(2 * time.Second)
		w.want("a", sandbox.StateFailed, sandbox.ReasonNodeCutOff)
		w.stop()
		<-w.ended
	})
}
