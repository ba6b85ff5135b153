package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"opensandbox/libs/conf"
	"opensandbox/libs/settings"
)

// Command is something that a program does once, with the same configuration, instead of its work: "program name [--config PATH] [OPERAND]".
type Command struct {
	Name string
	// Operand is what the usage calls the optional argument, in capitals; empty: the command takes none.
	Operand string
	// About says in a few words what it does.
	About string
	// Careful commands know the flag --yes, without which they should only say what they would do.
	Careful bool
	Run     func(ctx context.Context, s settings.Settings, c Call) error
}

// Call is one use of a Command.
type Call struct {
	// Operand is the argument, or "".
	Operand string
	// Yes says that the user means it.
	Yes bool
	// Stdout takes the result, Stderr the log.
	Stdout, Stderr io.Writer
}

// Misused returns the error of a command that was not called as it has to be: the exit code is ExitUsage.
func Misused(text string) error { return misused(text) }

type misused string

func (m misused) Error() string { return string(m) }

// parseCommand reads the arguments behind the name of a command. Flags may stand before and behind the operand.
func parseCommand(cmd *Command, args []string) (choice, error) {
	set := flag.NewFlagSet(cmd.Name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	ch := choice{command: cmd}
	set.StringVar(&ch.path, "config", "", "")
	known := []string{"config", "help"}
	if cmd.Careful {
		set.BoolVar(&ch.yes, "yes", false, "")
		known = append(known, "yes")
	}
	operands := []string{}
	for len(args) > 0 {
		if err := set.Parse(args); err != nil {
			return choice{}, flagError(err, known)
		}
		args = set.Args()
		if len(args) > 0 {
			operands, args = append(operands, args[0]), args[1:]
		}
	}
	switch {
	case len(operands) > 0 && cmd.Operand == "":
		return choice{}, fmt.Errorf("%s takes no argument", cmd.Name)
	case len(operands) > 1:
		return choice{}, fmt.Errorf("%s takes at most one %s", cmd.Name, cmd.Operand)
	case len(operands) == 1 && operands[0] == "":
		return choice{}, fmt.Errorf("%s must not be empty", cmd.Operand)
	case len(operands) == 1:
		ch.operand = operands[0]
	}
	return ch, emptyPath(set, ch.path)
}

// find returns the command that the first argument names, if that is no flag.
func find(p Program, args []string) (*Command, error) {
	if len(p.Commands) == 0 || len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return nil, nil
	}
	i := slices.IndexFunc(p.Commands, func(c Command) bool { return c.Name == args[0] })
	if i >= 0 {
		return &p.Commands[i], nil
	}
	names := make([]string, len(p.Commands))
	for i, c := range p.Commands {
		names[i] = c.Name
	}
	if near := conf.Nearest(args[0], names); near != "" {
		return nil, fmt.Errorf("unknown command; did you mean %s?", near)
	}
	return nil, fmt.Errorf("unknown command; expected one of %s", strings.Join(names, ", "))
}

// do runs a command.
func (c command) do(ctx context.Context, f choice) int {
	s, err := settings.Read(settings.Options{Process: c.Process, Path: f.path, Lookup: c.Lookup, Names: c.Names})
	if err != nil {
		c.complain(err)
		return ExitFailed
	}
	err = f.command.Run(ctx, s, Call{Operand: f.operand, Yes: f.yes, Stdout: c.Stdout, Stderr: c.Stderr})
	if err == nil {
		return ExitOK
	}
	c.complain(err)
	if _, ok := errors.AsType[misused](err); ok {
		return ExitUsage
	}
	return ExitFailed
}

// commandUsage is the part of the usage about commands.
func commandUsage(p Program) (forms, list string) {
	if len(p.Commands) == 0 {
		return "", ""
	}
	var a, b strings.Builder
	b.WriteString("\nCommands, with the same configuration:\n")
	for _, c := range p.Commands {
		form := c.Name
		if c.Careful {
			form += " [--yes]"
		}
		if c.Operand != "" {
			form += " [" + c.Operand + "]"
		}
		fmt.Fprintf(&a, "       %s %s\n", p.Process, strings.Replace(form, c.Name, c.Name+" [--config PATH]", 1))
		fmt.Fprintf(&b, "  %-22s %s\n", form, c.About)
	}
	return a.String(), b.String()
}
