package reap

import (
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestVictims: when memory runs out, commands and what they start go before the entry point, and both before this process.
func TestVictims(t *testing.T) {
	t.Parallel()
	own := ownScore()
	for name, tt := range map[string]struct {
		start func(string, []string, *syscall.ProcAttr) (*Process, error)
		more  int
	}{
		"command":     {reaper.Start, commandFirst},
		"entry point": {reaper.StartEntryPoint, entryPointFirst},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			toChild, in := pipe(t)
			out, fromChild := pipe(t)
			script := "read line; cat /proc/self/oom_score_adj" // cat is what the command starts.
			p, err := tt.start("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{
				Env: os.Environ(), Files: []uintptr{toChild.Fd(), fromChild.Fd(), 2}, Sys: &syscall.SysProcAttr{Setpgid: true},
			})
			if err != nil {
				t.Fatal(err)
			}
			fromChild.Close()
			_, _ = io.WriteString(in, "\n")
			got, err := io.ReadAll(out)
			<-p.Done()
			if want := strconv.Itoa(min(own+tt.more, mostScore)); err != nil || strings.TrimSpace(string(got)) != want {
				t.Errorf("got %q, %v, want %s", got, err, want)
			}
		})
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		w.Close()
	})
	return r, w
}
