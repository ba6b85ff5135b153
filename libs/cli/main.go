package cli

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mattn/go-isatty"
)

// Main is all that the main function of a process needs: it runs p with the arguments, the environment and the signals of this process,
// and exits.
func Main(p Program) {
	os.Exit(withSignals(p, System{Args: os.Args[1:], Lookup: os.LookupEnv, Names: variableNames(os.Environ()), Stdout: os.Stdout, Stderr: os.Stderr,
		Stdin: os.Stdin, Terminal: isatty.IsTerminal(os.Stdin.Fd())}))
}

// withSignals ends the context of p at the first SIGTERM or SIGINT, and the process at the second.
func withSignals(p Program, sys System) int {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		watch(signals, done, cancel, os.Exit)
	}()
	code := Run(ctx, p, sys)
	close(done)
	<-watched
	return code
}

// echo is how long a signal counts as the first one again: timeout(1) sends its signal to the process and then to its group.
const echo = 100 * time.Millisecond

// watch calls cancel at the first signal and exit at the second, until done is closed.
func watch(signals <-chan os.Signal, done <-chan struct{}, cancel func(), exit func(int)) {
	select {
	case <-signals:
		cancel()
	case <-done:
		return
	}
	first := time.Now()
	for {
		select {
		case s := <-signals:
			if number, ok := s.(syscall.Signal); ok && time.Since(first) > echo {
				exit(exitSignal + int(number))
			}
		case <-done:
			return
		}
	}
}

func variableNames(environ []string) []string {
	names := make([]string, 0, len(environ))
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		names = append(names, name)
	}
	return names
}
