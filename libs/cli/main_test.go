package cli_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"opensandbox/libs/cli"
	"opensandbox/libs/settings"
)

// asProgram makes the test binary be a program that hangs or ends when its context does.
const asProgram = "CLI_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if how := os.Getenv(asProgram); how != "" {
		cli.Main(cli.Program{Process: settings.ProcessServer, Run: func(ctx context.Context, _ settings.Settings) error {
			fmt.Println("running")
			<-ctx.Done()
			fmt.Println("stopping")
			if how == "hang" {
				select {}
			}
			return ctx.Err()
		}})
	}
	goleak.VerifyTestMain(m)
}

func TestSignals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		how           string
		first, second syscall.Signal
		want          int
	}{
		"one SIGTERM":         {"end", syscall.SIGTERM, 0, 0},
		"one SIGINT":          {"end", syscall.SIGINT, 0, 0},
		"two SIGTERM":         {"hang", syscall.SIGTERM, syscall.SIGTERM, 143},
		"SIGTERM then SIGINT": {"hang", syscall.SIGTERM, syscall.SIGINT, 130},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0])
			cmd.Env = []string{asProgram + "=" + c.how, "HOME=" + t.TempDir()}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill() }() // no error matters: it is gone unless the test has failed
			lines := bufio.NewReader(out)
			expect(t, lines, "running\n")
			send(t, cmd.Process, c.first)
			expect(t, lines, "stopping\n")
			ended := make(chan struct{})
			sender := make(chan struct{})
			go func() {
				defer close(sender)
				again(cmd.Process, c.second, ended)
			}()
			_, _ = io.Copy(io.Discard, lines)
			_ = cmd.Wait() // the exit code says it
			close(ended)
			<-sender
			if got := cmd.ProcessState.ExitCode(); got != c.want {
				t.Errorf("exit code %d, want %d", got, c.want)
			}
		})
	}
}

func expect(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if got, err := r.ReadString('\n'); got != want {
		t.Fatalf("printed %q, %v, want %q", got, err, want)
	}
}

func send(t *testing.T, p *os.Process, s syscall.Signal) {
	t.Helper()
	if err := p.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// again sends s now and then until ended: one that comes soon after the first signal is taken for its echo.
func again(p *os.Process, s syscall.Signal, ended <-chan struct{}) {
	if s == 0 {
		return
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			_ = p.Signal(s) // it may have ended
		}
	}
}
