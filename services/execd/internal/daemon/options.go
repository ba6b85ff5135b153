package daemon

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"opensandbox/services/execd/internal/command"
	"opensandbox/services/execd/internal/environ"
	"opensandbox/services/execd/internal/hooks"
	"opensandbox/services/execd/internal/identity"
)

// DefaultPort is where clients expect execd.
const DefaultPort = 44772

// RuntimeDir is a small writable file system that every sandbox has, whatever its image and user.
const RuntimeDir = "/run/opensandbox"

// How much of a command's output may wait in a file for a slow client, in bytes.
const (
	spillLimitVariable = "EXECD_SPILL_LIMIT"
	defaultSpillLimit  = 1 << 30
)

// Where the Jupyter server is, as in OpenSandbox 1.1.1.
const (
	jupyterHostVariable  = "JUPYTER_HOST"
	jupyterTokenVariable = "JUPYTER_TOKEN"
)

// clone3Variable hides the system call clone3 from the sandbox, as in OpenSandbox 1.1.1.
const clone3Variable = "EXECD_CLONE3_COMPAT"

// How long open answers may take once everything else has ended, as in OpenSandbox 1.1.1.
const (
	lastWordsVariable = "EXECD_API_GRACE_SHUTDOWN"
	defaultLastWords  = 200 * time.Millisecond
)

// options are the settings of one run.
type options struct {
	port       int
	logLevel   slog.Level
	token      string
	openProxy  bool
	tokenStdin bool
	init       bool
	health     bool
	version    bool
	fileWorker bool // This process is a worker of package identity.
	argv       []string
	envFile    string
	lifecycle  string // The hooks, as JSON.
	lastWords  time.Duration
	logOutputs []string // "stdout", "stderr" and paths; empty means stderr.
	keep       bool     // Foreground commands go on when their client goes away.
	spillLimit int64    // Bytes of one command's output that may wait in a file for a slow client.
	hideClone3 bool     // See seccomp.RefuseClone3.
	// jupyterURL and jupyterToken say where code runs. Both are needed.
	jupyterURL   string
	jupyterToken string
}

// parse reads flags; environment variables set defaults.
func parse(args, env []string, out io.Writer) (options, error) {
	lookup := environ.In(env)
	o := options{openProxy: true}
	if o.envFile, _ = lookup("EXECD_ENVS"); o.envFile == "" {
		o.envFile = RuntimeDir + "/env"
	}
	o.lifecycle, _ = lookup(hooks.Variable)
	onDisconnect, _ := lookup("EXECD_ON_DISCONNECT")
	lastWords, _ := lookup(lastWordsVariable)
	spillLimit, ok := lookup(spillLimitVariable)
	if !ok {
		spillLimit = strconv.FormatInt(defaultSpillLimit, 10)
	}
	clone3, _ := lookup(clone3Variable)
	o.jupyterURL, _ = lookup(jupyterHostVariable)
	level := "warn"
	fs := flag.NewFlagSet("opensandbox-execd", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.IntVar(&o.port, "port", DefaultPort, "TCP port to listen on, IPv4")
	fs.StringVar(&level, "log-level", level, "debug, info, warn or error, or 0 to 7 as in OpenSandbox 1.1.1")
	fs.StringVar(&o.token, "access-token", "", "guards all routes but /ping; also EXECD_ACCESS_TOKEN")
	fs.StringVar(&onDisconnect, "on-disconnect", onDisconnect, "end or keep foreground commands whose client goes away; also EXECD_ON_DISCONNECT")
	fs.StringVar(&lastWords, "graceful-shutdown-timeout", lastWords, "how long open answers may take at the end, such as 200ms; also "+lastWordsVariable)
	fs.StringVar(&spillLimit, "spill-limit", spillLimit, "bytes of a command's output that may wait in a file for a slow client, 0 for none; also "+spillLimitVariable)
	fs.StringVar(&o.jupyterURL, "jupyter-host", o.jupyterURL, "http:// or https:// URL of the Jupyter server that runs code; also "+jupyterHostVariable)
	fs.StringVar(&o.jupyterToken, "jupyter-token", "", "its token; also "+jupyterTokenVariable)
	fs.BoolVar(&o.tokenStdin, "token-stdin", false, "read one line of JSON, {\"token\":…,\"open_proxy\":…}, from stdin before anything else")
	fs.BoolVar(&o.init, "init", false, "be the sandbox's init process for the command after --")
	fs.BoolVar(&o.health, "health", false, "ask the execd on --port for /ping and exit 0 if it answers")
	fs.BoolVar(&o.fileWorker, strings.TrimPrefix(identity.Flag, "--"), false, "used by execd itself: serve one file request on descriptor 3")
	fs.BoolVar(&o.version, "version", false, "print the version")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.argv = fs.Args()
	o.takeSecrets(fs, lookup)
	var logErr error
	o.logOutputs, logErr = logOutputs(lookup)
	return o, errors.Join(append(o.check(onDisconnect), o.setLevel(level), o.setLastWords(lastWords), o.setSpillLimit(spillLimit), o.setClone3(clone3), logErr)...)
}

// takeSecrets reads the variables of those flags that were not given. The variables are no default values of the flags, which --help and every
// mistake in the command line would print.
func (o *options) takeSecrets(fs *flag.FlagSet, lookup environ.Lookup) {
	secrets := map[string]struct {
		value    *string
		variable string
	}{"access-token": {&o.token, "EXECD_ACCESS_TOKEN"}, "jupyter-token": {&o.jupyterToken, jupyterTokenVariable}}
	fs.Visit(func(f *flag.Flag) { delete(secrets, f.Name) })
	for _, s := range secrets {
		*s.value, _ = lookup(s.variable)
	}
}

// check finds what is wrong with the options by themselves, and reads onDisconnect.
func (o *options) check(onDisconnect string) (errs []error) {
	if o.port < 1 || o.port > 65535 {
		errs = append(errs, fmt.Errorf("--port: %d is not a port", o.port))
	}
	if o.init && len(o.argv) == 0 {
		errs = append(errs, errors.New("--init: the entry point is missing; give it after --"))
	}
	if !o.init && len(o.argv) > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q: a command is run only with --init", o.argv[0]))
	}
	switch onDisconnect {
	case "", command.EndCommand:
	case command.KeepCommand:
		o.keep = true
	default:
		errs = append(errs, fmt.Errorf("--on-disconnect: %q is neither end nor keep", onDisconnect))
	}
	return errs
}

func (o *options) setLevel(level string) (err error) {
	o.logLevel, err = parseLevel(level)
	return err
}

func (o *options) setLastWords(text string) error {
	o.lastWords = defaultLastWords
	if text == "" {
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("--graceful-shutdown-timeout or %s: %q is not a duration such as 200ms or 1s", lastWordsVariable, text)
	}
	o.lastWords = d
	return nil
}

func (o *options) setSpillLimit(limit string) (err error) {
	o.spillLimit, err = strconv.ParseInt(limit, 10, 64)
	if err != nil || o.spillLimit < 0 {
		return fmt.Errorf("--spill-limit or %s: %q is not a number of bytes", spillLimitVariable, limit)
	}
	return nil
}

// setClone3 accepts the words of OpenSandbox 1.1.1. "reexec" starts its daemon anew behind the filter; ours has it in all threads at once.
func (o *options) setClone3(word string) error {
	switch strings.ToLower(word) {
	case "", "0", "false", "off", "no":
	case "1", "true", "on", "yes", "reexec":
		o.hideClone3 = true
	default:
		return fmt.Errorf("%s: %q is none of 1, true, on, yes, reexec, 0, false, off and no", clone3Variable, word)
	}
	return nil
}

// parseLevel accepts names, and the numbers of OpenSandbox 1.1.1: up to 3 errors, 4 warnings, 5 and 6 information, 7 everything.
func parseLevel(s string) (slog.Level, error) {
	if n, err := strconv.Atoi(s); err == nil {
		switch {
		case n <= 3:
			return slog.LevelError, nil
		case n == 4:
			return slog.LevelWarn, nil
		case n <= 6:
			return slog.LevelInfo, nil
		default:
			return slog.LevelDebug, nil
		}
	}
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToLower(s))); err != nil {
		return 0, fmt.Errorf("--log-level: %q is not a level", s)
	}
	return l, nil
}
