package reap

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// reaper is the only one of the test process: it collects every child.
var reaper *Reaper

func TestMain(m *testing.M) {
	reaper = New()
	code := m.Run()
	reaper.Close()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			os.Stderr.WriteString(err.Error())
			code = 1
		}
	}
	os.Exit(code)
}

func start(t *testing.T, script string) *Process {
	t.Helper()
	p, err := reaper.Start("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStatusesGoToTheirOwners(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			p := start(t, "exit "+strconv.Itoa(i))
			<-p.Done()
			if got := ExitCode(p.Status()); got != i {
				t.Errorf("got exit code %d, want %d", got, i)
			}
		})
	}
	wg.Wait()
}

func TestSignals(t *testing.T) {
	t.Parallel()
	p := start(t, "sleep 100 & wait")
	reaper.SignalGroup(p, syscall.SIGKILL)
	<-p.Done()
	if got := ExitCode(p.Status()); got != 128+9 {
		t.Errorf("got exit code %d, want 137", got)
	}
	reaper.SignalGroup(p, syscall.SIGKILL) // Must not reach anybody.
}

func TestStartFailure(t *testing.T) {
	t.Parallel()
	_, err := reaper.Start("/nonexistent", []string{"x"}, &syscall.ProcAttr{})
	if !errors.Is(err, syscall.ENOENT) {
		t.Errorf("got %v, want ENOENT", err)
	}
}
