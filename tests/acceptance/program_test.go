//go:build e2e

package acceptance

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is one process of a platform.
type program struct {
	name, binary string
	// env goes over the configuration file.
	env []string
	// args take the place of the configuration file.
	args []string

	cmd    *exec.Cmd
	exited chan struct{}
}

func (p *program) log(dir string) string { return filepath.Join(dir, "log-"+p.name) }

// variables are those of this process without what only the tests read.
func variables() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "OPENSANDBOX_TEST_") })
}

// bound returns the command such that what it starts is killed when the tests end without having ended it, as at their time limit.
func bound(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run starts the process. Its log is appended to. Whatever else the end of the test does, it ends the process.
func (p *program) run(t *testing.T, dir, config string) {
	t.Helper()
	if p.cmd == nil {
		t.Cleanup(p.kill)
	}
	log, err := os.OpenFile(p.log(dir), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	args := p.args
	if args == nil {
		args = []string{"--config", config}
	}
	cmd := bound(exec.Command(p.binary, args...))
	cmd.Env = append(variables(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.cmd, p.exited = cmd, make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) { _ = cmd.Wait(); close(exited) }(p.cmd, p.exited)
}

// mustRun ends the test if the process has ended.
func (p *program) mustRun(t *testing.T, dir string) {
	t.Helper()
	select {
	case <-p.exited:
		text, _ := os.ReadFile(p.log(dir))
		t.Fatalf("%s ended at once:\n%s", p.name, tail(string(text), 3000))
	default:
	}
}

// stop is SIGTERM; the process must end in order.
func (p *program) stop(t *testing.T) {
	t.Helper()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Errorf("%s does not end on SIGTERM", p.name)
		p.kill()
	}
}

// kill is kill -9, which may come late.
func (p *program) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// waitABit is the pause between two looks.
func waitABit() { time.Sleep(10 * time.Millisecond) }
