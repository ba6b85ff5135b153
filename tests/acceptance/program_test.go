//go:build e2e

package acceptance

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"opensandbox/tests/process"
)

// program is one of a platform, and its process once it was started.
type program struct {
	name, binary string
	// env goes over the configuration file.
	env []string
	// args take the place of the configuration file.
	args []string

	*process.Process
}

func (p *program) log(dir string) string { return filepath.Join(dir, "log-"+p.name) }

// run starts the process. Its log is appended to. Whatever else the end of the test does, it ends the process.
func (p *program) run(t *testing.T, dir, config string) {
	t.Helper()
	if p.Process == nil {
		t.Cleanup(p.kill)
	}
	args := p.args
	if args == nil {
		args = []string{"--config", config}
	}
	started, err := process.Start(process.Command(p.env, p.binary, args...), p.log(dir))
	if err != nil {
		t.Fatal(err)
	}
	p.Process = started
}

// mustRun ends the test if the process has ended.
func (p *program) mustRun(t *testing.T, dir string) {
	t.Helper()
	if !p.Runs() {
		text, _ := os.ReadFile(p.log(dir))
		t.Fatalf("%s ended at once:\n%s", p.name, tail(string(text), 3000))
	}
}

// stop is SIGTERM; the process must end in order.
func (p *program) stop(t *testing.T) {
	t.Helper()
	if p.Process == nil {
		return
	}
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.Ended():
	case <-time.After(patience):
		t.Errorf("%s does not end on SIGTERM", p.name)
		p.Kill()
	}
}

// kill is kill -9 of a process that was started.
func (p *program) kill() {
	if p.Process != nil {
		p.Kill()
	}
}

// waitABit is the pause between two looks.
func waitABit() { time.Sleep(10 * time.Millisecond) }
