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
	// Flags are others that the command knows.
	Flags []Flag
	// Alone commands read no configuration: Run gets settings that are empty.
	Alone bool
	Run   func(ctx context.Context, s settings.Settings, c Call) error
}

// Flag is one that a command knows.
type Flag struct {
	Name string
	// Value is what the usage calls its value, in capitals; empty: it has none.
	Value string
	// Words, if not empty, are the values that are taken.
	Words []string
}

// Call is one use of a Command.
type Call struct {
	// Operand is the argument, or "".
	Operand string
	// Yes says that the user means it.
	Yes bool
	// Flags are the values of those that were given; "true" for a flag without a value.
	Flags map[string]string
	// Lookup returns an environment variable, as os.LookupEnv does.
	Lookup func(name string) (string, bool)
	// Stdout takes the result, Stderr the log.
	Stdout, Stderr io.Writer
}

// Misused returns the error of a command that was not called as it has to be: the exit code is ExitUsage.
func Misused(text string) error { return misused(text) }

type misused string

func (m misused) Error() string { return string(m) }

// parseCommand reads the arguments behind the name of a command. Flags may stand before and behind the operand; path is a --config that
// stood before the command.
func parseCommand(cmd *Command, path string, args []string) (choice, error) {
	set := flag.NewFlagSet(cmd.Name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	ch := choice{command: cmd, path: path, flags: map[string]string{}}
	known := []string{"help"}
	if !cmd.Alone {
		set.StringVar(&ch.path, "config", path, "")
		known = append(known, "config")
	}
	if cmd.Careful {
		set.BoolVar(&ch.yes, "yes", false, "")
		known = append(known, "yes")
	}
	for _, f := range cmd.Flags {
		known = append(known, f.Name)
		if f.Value == "" {
			set.Bool(f.Name, false, "")
		} else {
			set.String(f.Name, "", "")
		}
	}
	operands := []string{}
	for len(args) > 0 {
		full, err := inFull(set, args)
		if err != nil {
			return choice{}, err
		}
		if err := set.Parse(full); err != nil {
			return choice{}, flagError(err, known)
		}
		args = set.Args()
		if len(args) > 0 {
			operands, args = append(operands, args[0]), args[1:]
		}
	}
	if err := ch.take(operands); err != nil {
		return choice{}, err
	}
	if err := ch.collect(set); err != nil {
		return choice{}, err
	}
	return ch, emptyPath(set, ch.path)
}

// take checks and keeps the operand.
func (ch *choice) take(operands []string) error {
	cmd := ch.command
	switch {
	case len(operands) > 0 && cmd.Operand == "":
		return fmt.Errorf("%s takes no argument", cmd.Name)
	case len(operands) > 1:
		return fmt.Errorf("%s takes at most one %s", cmd.Name, cmd.Operand)
	case len(operands) == 1 && operands[0] == "":
		return fmt.Errorf("%s must not be empty", cmd.Operand)
	case len(operands) == 1:
		ch.operand = operands[0]
	}
	return nil
}

// collect keeps the values of the command's own flags.
func (ch *choice) collect(set *flag.FlagSet) error {
	var wrong error
	set.Visit(func(given *flag.Flag) {
		i := slices.IndexFunc(ch.command.Flags, func(f Flag) bool { return f.Name == given.Name })
		if i < 0 {
			return
		}
		f, value := ch.command.Flags[i], given.Value.String()
		if len(f.Words) > 0 && !slices.Contains(f.Words, value) {
			wrong = fmt.Errorf("--%s: expected one of %s", f.Name, strings.Join(f.Words, ", "))
		}
		ch.flags[f.Name] = value
	})
	return wrong
}

// commands are those of the program, and the one that every program has.
func commands(p Program) []Command { return append(slices.Clone(p.Commands), completion(p)) }

// find returns the command of a name.
func find(p Program, name string) (*Command, error) {
	all := commands(p)
	i := slices.IndexFunc(all, func(c Command) bool { return c.Name == name })
	if i >= 0 {
		return &all[i], nil
	}
	names := make([]string, len(all))
	for i, c := range all {
		names[i] = c.Name
	}
	if near := conf.Nearest(name, names); near != "" {
		return nil, fmt.Errorf("unknown command; did you mean %s?", near)
	}
	return nil, fmt.Errorf("unexpected argument or unknown command; expected one of %s", strings.Join(names, ", "))
}

// do runs a command.
func (c command) do(ctx context.Context, f choice) int {
	var s settings.Settings
	var err error
	if !f.command.Alone {
		s, err = settings.Read(settings.Options{Process: c.Process, Path: f.path, Lookup: c.Lookup, Names: c.Names})
		if err != nil {
			c.complain(err)
			return ExitFailed
		}
	}
	err = f.command.Run(ctx, s, Call{Operand: f.operand, Yes: f.yes, Flags: f.flags, Lookup: c.Lookup, Stdout: c.Stdout, Stderr: c.Stderr})
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
	var a, b strings.Builder
	b.WriteString("\nCommands:\n")
	for _, c := range commands(p) {
		form := c.form()
		if c.Alone {
			fmt.Fprintf(&a, "       %s %s\n", p.Process, form)
		} else {
			fmt.Fprintf(&a, "       %s %s\n", p.Process, strings.Replace(form, c.Name, c.Name+" [--config PATH]", 1))
		}
		fmt.Fprintf(&b, "  %-22s %s\n", strings.TrimSuffix(c.Name+" ["+c.Operand+"]", " []"), c.About)
	}
	return a.String(), b.String()
}

// form is how the command is called.
func (c Command) form() string {
	form := c.Name
	if c.Careful {
		form += " [--yes]"
	}
	for _, f := range c.Flags {
		switch {
		case f.Value == "":
			form += " [--" + f.Name + "]"
		case len(f.Words) > 0:
			form += " [--" + f.Name + " " + strings.Join(f.Words, "|") + "]"
		default:
			form += " [--" + f.Name + " " + f.Value + "]"
		}
	}
	if c.Operand != "" {
		form += " [" + c.Operand + "]"
	}
	return form
}
