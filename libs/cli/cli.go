// Package cli is the command line that all processes share: flags, exit codes, signals, and what the flags do that look at the
// configuration instead of running.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"opensandbox/libs/settings"
)

// Exit codes. The first three are those of OpenSandbox 1.1.1; a second signal ends the process with 128 and its number, as shells do.
const (
	ExitOK      = 0
	ExitFailed  = 1
	ExitUsage   = 2
	ExitInvalid = 2
	exitSignal  = 128
)

// Program is one of the processes.
type Program struct {
	// Process is its name, and what it needs of the configuration.
	Process settings.Process
	Version string
	// About says in a sentence what it does.
	About string
	// Check, if not nil, may refuse a configuration that has no mistakes of its own, as settings.Settings.Guard does.
	Check func(settings.Settings) error
	// Run does the work until ctx ends. It logs settings.Settings.Warnings. It returns nil or the context's error after an orderly end.
	Run func(ctx context.Context, s settings.Settings) error
	// Answers are flags of OpenSandbox 1.1.1 that do nothing here, each with what to do instead. Using one is an error.
	Answers map[string]string
	// Commands are what it does instead when its first argument is the name of one; most programs have none.
	Commands []Command
}

// System is what surrounds the process.
type System struct {
	// Args are the arguments without the name of the program.
	Args []string
	// Lookup returns an environment variable, as os.LookupEnv does.
	Lookup func(name string) (string, bool)
	// Names are the variables that are set, to warn of misspelt ones; it may be nil.
	Names          []string
	Stdout, Stderr io.Writer
	// Stdin is asked if Terminal says that somebody sits there.
	Stdin    io.Reader
	Terminal bool
}

// Run does what the arguments ask for and returns the exit code.
func Run(ctx context.Context, p Program, sys System) int {
	if isCompletion(sys.Args) {
		return complete(ctx, p, sys)
	}
	c := command{p, sys}
	f, err := parse(p, sys.Args)
	switch {
	case errors.Is(err, errHelp):
		return c.print(usage(p))
	case err != nil:
		c.complain(err)
		if _, answered := errors.AsType[misused](err); !answered {
			fmt.Fprint(sys.Stderr, "\n", usage(p))
		}
		return ExitUsage
	}
	if f.command != nil {
		return c.do(ctx, f)
	}
	switch f.action {
	case "version":
		return c.print(p.Version + "\n")
	case "check-config":
		return c.checkConfig(f.path)
	case "print-config":
		return c.printConfig(f.path)
	case "health":
		return c.health(ctx, f.path)
	}
	return c.run(ctx, f.path)
}

type command struct {
	Program
	System
}

// startable refuses a valid configuration that the process would not start with.
func (c command) startable(s settings.Settings) error {
	if err := s.Available(); err != nil {
		return err
	}
	if c.Check != nil {
		return c.Check(s)
	}
	return nil
}

func (c command) run(ctx context.Context, path string) int {
	s, err := settings.Read(settings.Options{Process: c.Process, Path: path, Lookup: c.Lookup, Names: c.Names})
	if err == nil {
		err = c.startable(s)
	}
	if keyless, ok := errors.AsType[settings.NoKeyError](err); ok && c.Terminal && c.confirm(ctx, keyless) {
		s.Warnings, err = append(s.Warnings, s.KeylessWarning()), nil
	}
	if err != nil {
		c.complain(err)
		return ExitFailed
	}
	if err := c.Run(ctx, s); err != nil && !(ctx.Err() != nil && errors.Is(err, context.Canceled)) {
		c.complain(err)
		return ExitFailed
	}
	return ExitOK
}

// checkConfig says what is wrong with the file and the environment. That the process would not start with them is no mistake in them: the
// key may come with the start.
func (c command) checkConfig(path string) int {
	s, err := settings.Read(settings.Options{Process: c.Process, Path: path, Lookup: c.Lookup, Names: c.Names})
	c.warn(s.Warnings)
	if err != nil {
		c.complain(err)
		return ExitInvalid
	}
	if err := c.startable(s); err != nil {
		c.warn([]string{"would not start: " + err.Error()})
	}
	return c.print("configuration is valid\n")
}

// printConfig leaves Check out: what holds can be looked at, also when the process would refuse to serve with it.
func (c command) printConfig(path string) int {
	s, err := settings.Read(settings.Options{Process: c.Process, Path: path, Lookup: c.Lookup, Names: c.Names})
	c.warn(s.Warnings)
	if err != nil {
		c.complain(err)
		return ExitInvalid
	}
	if err := s.Print(c.Stdout); err != nil {
		c.complain(err)
		return ExitFailed
	}
	return ExitOK
}

// print writes what was asked for; a closed pipe must not look like success.
func (c command) print(text string) int {
	if _, err := io.WriteString(c.Stdout, text); err != nil {
		c.complain(err)
		return ExitFailed
	}
	return ExitOK
}

func (c command) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(c.Stderr, "%s: warning: %s\n", c.Process, w)
	}
}

// complain writes an error; one that was told belongs on standard output. One of several lines gets its own lines below a count.
func (c command) complain(err error) {
	if t, ok := errors.AsType[told](err); ok {
		fmt.Fprintf(c.Stdout, "%s: %v\n", c.Process, t.error)
		return
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) == 1 {
		fmt.Fprintf(c.Stderr, "%s: %s\n", c.Process, lines[0])
		return
	}
	fmt.Fprintf(c.Stderr, "%s: %d mistakes:\n", c.Process, len(lines))
	for _, line := range lines {
		fmt.Fprintf(c.Stderr, "  %s\n", line)
	}
}
