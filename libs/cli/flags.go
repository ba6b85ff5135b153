package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"opensandbox/libs/conf"
)

// choice is what the arguments ask for.
type choice struct {
	// path is the configuration file; empty: see settings.Options.
	path string
	// action is the name of the flag that asks for something else than running; empty: run.
	action string
	// command, if not nil, is what is asked for instead, on operand.
	command *Command
	operand string
	yes     bool
	flags   map[string]string
}

// actions are the flags that exclude each other.
var actions = []string{"check-config", "print-config", "health", "version"}

var errHelp = errors.New("help")

// parse reads the arguments. Its errors repeat names of flags but no other argument, which may be a secret in the wrong place.
func parse(p Program, args []string) (choice, error) {
	set := flag.NewFlagSet(string(p.Process), flag.ContinueOnError)
	set.SetOutput(io.Discard)
	path := set.String("config", "", "")
	wanted := make(map[string]*bool, len(actions))
	for _, name := range actions {
		wanted[name] = set.Bool(name, false, "")
	}
	known := append([]string{"config", "help"}, actions...)
	for name := range p.Answers {
		wanted[name] = set.Bool(name, false, "")
		known = append(known, name)
	}
	args, err := inFull(set, args)
	if err != nil {
		return choice{}, err
	}
	if err := set.Parse(args); err != nil {
		return choice{}, flagError(err, known)
	}
	for name, answer := range p.Answers {
		if *wanted[name] {
			return choice{}, misused("--" + name + ": " + answer)
		}
	}
	c := choice{path: *path}
	for _, name := range actions {
		if !*wanted[name] {
			continue
		}
		if c.action != "" {
			return choice{}, fmt.Errorf("--%s and --%s exclude each other", c.action, name)
		}
		c.action = name
	}
	if err := emptyPath(set, *path); err != nil || set.NArg() == 0 {
		return c, err
	}
	if c.action != "" {
		return choice{}, fmt.Errorf("unexpected argument: --%s takes none", c.action)
	}
	cmd, err := find(p, set.Arg(0))
	if err != nil {
		return choice{}, err
	}
	return parseCommand(cmd, c.path, set.Args()[1:])
}

// emptyPath refuses --config "": a script's variable that is not set must not mean the default.
func emptyPath(set *flag.FlagSet, path string) error {
	var err error
	set.Visit(func(f *flag.Flag) {
		if f.Name == "config" && path == "" {
			err = errors.New("--config needs a path")
		}
	})
	return err
}

// flagError puts the words of package flag into ours: two dashes, and the nearest name.
func flagError(err error, known []string) error {
	if errors.Is(err, flag.ErrHelp) {
		return errHelp
	}
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		near := conf.Nearest(name, known)
		if near == "" {
			return fmt.Errorf("unknown flag --%s", name)
		}
		return fmt.Errorf("unknown flag --%s; did you mean --%s?", name, near)
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		if name != "config" {
			return fmt.Errorf("--%s needs a value", name)
		}
		return errors.New("--config needs a path")
	}
	for _, name := range known {
		if strings.Contains(text, "for -"+name+":") {
			return fmt.Errorf("--%s takes no value", name)
		}
	}
	return errors.New("flags are written --name or --name VALUE")
}

func usage(p Program) string {
	forms, commands := commandUsage(p)
	return fmt.Sprintf(`usage: %[1]s [--config PATH] [--check-config | --print-config | --health | --version] [-h]
%[4]s
%[2]s

  --config PATH    TOML file; default: $SANDBOX_CONFIG_PATH, else ~/.sandbox.toml, else built-in defaults
  --check-config   say whether the configuration is valid, and if not, name all mistakes; exit code 0 or 2
  --print-config   print the configuration that holds, with secrets masked and the origin of each value; exit code 0 or 2
  --health         ask the process that runs with this configuration whether it is healthy; exit code 0 or 1
  --version        print the version and exit
  -h, --help       print this text and exit
%[5]s
Environment: each key of the file has a variable that goes over it, such as %[3]s for server.port.
OPENSANDBOX_INSECURE_SERVER=YES allows to serve without an API key; DOCKER_HOST and the other variables of Docker's clients name
the engine. A first SIGTERM or SIGINT stops in order, a second one at once; SIGHUP opens log files again.
`, p.Process, p.About, conf.VariableOf("server.port"), forms, commands)
}
