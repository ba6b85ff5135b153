package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/caarlos0/env/v11"

	"opensandbox/libs/conf"
)

// Options say what to read.
type Options struct {
	// Process is the program that reads; empty: ProcessServer. It decides the default of server.admin_listen, and which keys must be set.
	Process Process
	// Path is a file that must exist. Empty: the one that SANDBOX_CONFIG_PATH names, else ~/.sandbox.toml if it exists, else none.
	Path string
	// Lookup returns an environment variable; nil: there are none.
	Lookup func(name string) (string, bool)
	// Names are the variables that are set, to warn of misspelt ones; it may be nil.
	Names []string
}

// environment are the variables that have no key: the first two of OpenSandbox 1.1.1.
type environment struct {
	ConfigPath string `env:"SANDBOX_CONFIG_PATH"`
	Insecure   string `env:"OPENSANDBOX_INSECURE_SERVER"`
	Home       string `env:"HOME"`
}

// foreign are variables that begin like ours and are read elsewhere: in sandboxes, and by quick start and tests.
var foreign = []string{"OPENSANDBOX_ID", "OPENSANDBOX_LIFECYCLE", "OPENSANDBOX_HOME", "OPENSANDBOX_EGRESS_RULES"}

// Read returns the configuration: defaults, then the file, then the environment. The error joins one line for each mistake; the settings
// are then what could be read.
func Read(o Options) (Settings, error) {
	if o.Process == "" {
		o.Process = ProcessServer
	}
	if o.Lookup == nil {
		o.Lookup = func(string) (string, bool) { return "", false }
	}
	vars, err := readEnvironment(o.Lookup)
	if err != nil {
		return Settings{}, err
	}
	s := Default(vars.Home, o.Process)
	s.Insecure = vars.Insecure == "YES"
	content, path, fileErr := file(o.Path, vars)
	if path == "" {
		s.Server.Host, s.Router.Listen = "127.0.0.1", "127.0.0.1:"+routerPort
	}
	s.Path = path
	var odd []string
	s.Server.Forwarders, odd = forwarders(o.Lookup)
	l, err := conf.Load(conf.Input{File: content, Path: path, Lookup: o.Lookup, Names: o.Names, Others: append(names(), foreign...)}, keys(&s, vars.Home))
	s.loaded = l
	if fileErr == nil && l.Parsed() {
		err = errors.Join(err, finish(&s))
	}
	s.Warnings = append(append(l.Warnings, advice(&s)...), odd...)
	for _, v := range meaningless {
		if text, ok := o.Lookup(v.name); ok && text != "" {
			s.Warnings = append(s.Warnings, v.name+": "+v.why)
		}
	}
	return s, errors.Join(fileErr, err)
}

func readEnvironment(lookup func(string) (string, bool)) (environment, error) {
	values := map[string]string{}
	for _, name := range names() {
		if v, ok := lookup(name); ok {
			values[name] = v
		}
	}
	vars, err := env.ParseAsWithOptions[environment](env.Options{Environment: values})
	if err != nil {
		return vars, fmt.Errorf("environment: %w", err)
	}
	if vars.Home == "" {
		if vars.Home, err = os.UserHomeDir(); err != nil {
			vars.Home = "/root" // a service without HOME
		}
	}
	return vars, nil
}

// names are the variables of environment.
func names() []string {
	fields, err := env.GetFieldParams(&environment{})
	if err != nil {
		panic(err) // the tags above are wrong; every test would fail
	}
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.Key
	}
	return all
}

// file returns content and path of the file to use. The path is empty if there is none.
func file(path string, vars environment) ([]byte, string, error) {
	if path == "" {
		path = vars.ConfigPath
	}
	if path != "" {
		path = expand(path, vars.Home)
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, path, fmt.Errorf("configuration file: %w", err)
		}
		return b, path, nil
	}
	path = filepath.Join(vars.Home, ".sandbox.toml")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err != nil {
		return nil, path, fmt.Errorf("configuration file: %w", err)
	}
	return b, path, nil
}

func expand(path, home string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		return filepath.Join(home, path[1:])
	}
	return path
}

// NoKeyError says that the API would serve anybody.
type NoKeyError struct{ text string }

func (e NoKeyError) Error() string { return e.text }

// Guard refuses to serve without an API key unless the operator has said so: anyone who reaches the port could run code. The error is a
// NoKeyError.
func (s Settings) Guard() error {
	if s.hasKey() || s.Insecure {
		return nil
	}
	return NoKeyError{fmt.Sprintf("no API key is configured: set server.api_key or %s, or set OPENSANDBOX_INSECURE_SERVER=YES to let anyone who can reach %s:%d create sandboxes",
		conf.VariableOf("server.api_key"), s.Server.Host, s.Server.Port)}
}

func (s Settings) hasKey() bool { return strings.TrimSpace(s.Server.APIKey.Reveal()) != "" }

// KeylessWarning is what the log has to say of a server without a key.
func (s Settings) KeylessWarning() string {
	return fmt.Sprintf("no API key: anyone who can reach %s:%d can create sandboxes and run code in them", s.Server.Host, s.Server.Port)
}
