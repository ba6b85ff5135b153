// Package process runs the programs under test as processes of this machine: each ends with the tests at the latest, writes a log that outlives it, and
// listens on ports that nobody else gets. It is imported by tests only.
package process

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// Command is exec.Command with the variables of this process, but for those that only the tests read, and env over them. What it starts is killed
// when the tests end without having ended it, as at their time limit.
func Command(env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "OPENSANDBOX_TEST_") }), env...)
	return cmd
}

// Process is a process that was started. A program that is started again is another one.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// Start starts a command. What it prints is appended to a log.
func Start(cmd *exec.Cmd, log string) (*Process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(p.ended) }()
	return p, nil
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Runs reports whether the process has not ended yet.
func (p *Process) Runs() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// PID is the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// ExitCode is that of a process that has ended; -1 if a signal has ended it.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Signal sends a signal.
func (p *Process) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill is kill -9, which may come late; the process has ended afterwards.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}
