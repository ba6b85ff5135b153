// Package daemon puts execd together: options, token, entry point, listener, and the end.
package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"opensandbox/services/execd/internal/code"
	"opensandbox/services/execd/internal/command"
	"opensandbox/services/execd/internal/environ"
	"opensandbox/services/execd/internal/files"
	"opensandbox/services/execd/internal/hooks"
	"opensandbox/services/execd/internal/httpapi"
	"opensandbox/services/execd/internal/identity"
	"opensandbox/services/execd/internal/jupyter"
	"opensandbox/services/execd/internal/metrics"
	"opensandbox/services/execd/internal/pid1"
	"opensandbox/services/execd/internal/proxy"
	"opensandbox/services/execd/internal/reap"
	"opensandbox/services/execd/internal/seccomp"
	"opensandbox/services/execd/internal/session"
	"opensandbox/services/execd/internal/terminal"
)

const (
	// headerTimeout bounds how long a connection may take to say what it wants.
	headerTimeout = 60 * time.Second
	// idleTimeout is longer than clients keep idle connections, so that they close first and never lose a request.
	idleTimeout = 10 * time.Minute

	exitUsage = 2
)

// noJupyter is what OpenSandbox 1.1.1 says.
const noJupyter = "language runtime server not configured, please check your image runtime"

// Run is the whole program. It returns the exit status.
func Run(args, env []string, stdout, stderr io.Writer) int {
	o, err := parse(args, env, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "opensandbox-execd:", err)
		return exitUsage
	case o.version:
		fmt.Fprintln(stdout, "opensandbox-execd", version())
		return 0
	case o.fileWorker:
		return fileWorker(o, env, stderr)
	case o.health:
		return health(o.port, stderr)
	}
	code, err := serve(o, env, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "opensandbox-execd:", err)
	}
	return code
}

// fileWorker serves one request with the identity that this process was started with. Parts that must wait go to the directory for
// temporary files itself: the directory that execd made there is its own.
func fileWorker(o options, env []string, stderr io.Writer) int {
	spool := []string{temporary(env)}
	if err := identity.Work(httpapi.NewFileWorker(files.New(env, spool), newLogger(o, prefixed{stderr}))); err != nil {
		fmt.Fprintln(stderr, "opensandbox-execd:", err)
		return 1
	}
	return 0
}

func version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(unknown version)"
}

// health is a probe for images that have no program of their own to do it.
func health(port int, stderr io.Writer) int {
	c := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get("http://127.0.0.1:" + strconv.Itoa(port) + "/ping")
	if err != nil {
		fmt.Fprintln(stderr, "opensandbox-execd:", err)
		return 1
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return 1
	}
	return 0
}

// serve follows a fixed order: token, entry point, listener. So an answer to /ping means that the entry point was started. With a
// hook before the entry point the listener comes first: the hook may take hours, and need execd.
func serve(o options, env []string, stdout, stderr io.Writer) (int, error) {
	out := openLogs(o, stdout, stderr)
	defer out.close()
	log := newLogger(o, out)
	if err := restrict(o); err != nil {
		return 1, err
	}
	if err := takeToken(&o); err != nil {
		return 1, err
	}
	set, err := loadHooks(o, env, log)
	if err != nil {
		return 1, err
	}
	if err := environ.EnsureFile(o.envFile); err != nil {
		log.Warn("clients cannot set variables for later commands", "error", err)
	}
	token, _ := environ.In(env)(jupyterTokenVariable)
	env = environ.Merge(environ.Visible(env), map[string]string{"EXECD_ENVS": o.envFile})

	// Held signals wait in the channel until the entry point exists. SIGPIPE is taken so that a closed stderr cannot kill execd;
	// it is not ignored, because children would inherit that.
	signals := make(chan os.Signal, 32)
	signal.Notify(signals, append([]os.Signal{syscall.SIGPIPE}, pid1.Forwarded...)...)
	defer signal.Stop(signals)

	reaper := reap.New()
	defer reaper.Close()
	a := assemble(o, env, reaper, log)
	defer a.close()
	if set.PreStart != nil {
		reserveThreads()
		if err := a.listen(o.port); err != nil {
			return 1, err
		}
		if code, err := a.prepare(*set.PreStart, signals); err != nil {
			return code, err
		}
	}
	a.repeat(set.Periodic)
	work, err := startWorkload(o, reaper, forEntryPoint(env, token))
	if err != nil {
		if se, ok := errors.AsType[*pid1.StartError](err); ok {
			return se.Code, err
		}
		return 1, err
	}
	if set.PreStart == nil {
		open, err := a.open(o.port, work)
		if !open && work != nil {
			work.Sweep(pid1.Grace)
		}
		switch {
		case err != nil:
			return 1, err
		case !open:
			return work.ExitCode(), nil
		}
	}
	if work == nil {
		return a.idle(signals)
	}
	return a.attend(work, signals)
}

// restrict takes from this process and all that it starts what the options say.
func restrict(o options) error {
	if !o.hideClone3 {
		return nil
	}
	if err := seccomp.RefuseClone3(); err != nil {
		return fmt.Errorf("%s: %w", clone3Variable, err)
	}
	return nil
}

// forEntryPoint returns the environment of the entry point. It is what starts the Jupyter server, whose token commands do not get.
func forEntryPoint(env []string, jupyterToken string) []string {
	if jupyterToken == "" {
		return env
	}
	return environ.Merge(env, map[string]string{jupyterTokenVariable: jupyterToken})
}

func startWorkload(o options, reaper *reap.Reaper, env []string) (*pid1.Workload, error) {
	if !o.init {
		return nil, nil
	}
	if err := pid1.Adopt(); err != nil {
		return nil, err
	}
	return pid1.Start(reaper, o.argv, env)
}

// takeToken completes the options from stdin when asked to, and makes this process's memory unreadable for others.
func takeToken(o *options) error {
	if o.tokenStdin {
		h, err := readHandover(0, tokenWait)
		if err != nil {
			return err
		}
		o.token = h.Token
		if h.OpenProxy != nil {
			o.openProxy = *h.OpenProxy
		}
		if err := closeStdin(); err != nil {
			return fmt.Errorf("stdin: %w", err)
		}
	}
	if o.token != "" {
		// Otherwise any process of the same user could read the token from /proc/1/mem. Not vital: some kernels lack it.
		_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	return nil
}

// app is everything that must be closed in order.
type app struct {
	commands  *command.Manager
	terminals *terminal.Manager
	code      *code.Service
	jupyter   *jupyter.Client // nil when the image has none.
	workers   *identity.Workers
	proxy     *proxy.Proxy
	server    *http.Server
	failed    chan error    // Receives the end of the listener.
	listening chan struct{} // Closed when clients get answers.
	log       *slog.Logger
	lastWords time.Duration // How long open answers may take after the last process has ended.
	serving   sync.WaitGroup

	hooks      *hooks.Runner
	ctx        context.Context // Ends what runs in the background: periodic hooks and the push of metrics.
	stop       context.CancelFunc
	background sync.WaitGroup
}

func assemble(o options, env []string, reaper *reap.Reaper, log *slog.Logger) *app {
	dirs := outputDirs(env)
	a := &app{failed: make(chan error, 1), listening: make(chan struct{}), log: log, lastWords: o.lastWords, hooks: hooks.NewRunner(reaper, env, log)}
	a.ctx, a.stop = context.WithCancel(context.Background())
	a.commands = command.New(command.Config{
		Starter: reaper, Env: env, EnvFile: o.envFile, OutputDirs: dirs, KeepOnDisconnect: o.keep, SpillLimit: o.spillLimit, Log: log,
	})
	a.workers = identity.New(reaper, env)
	a.terminals = terminal.New(terminal.Config{Starter: reaper, Commands: a.commands, Proc: "/proc", Log: log})
	a.proxy = proxy.New(httpapi.BackendFailed, log)
	a.code, a.jupyter = codeContexts(o, func(cwd string) (string, error) { return a.commands.MakeDir(cwd, env) }, log)
	cfg := httpapi.Config{
		Commands: a.commands, Sessions: session.New(a.commands, log), Terminals: a.terminals, Code: a.code, Files: files.New(env, dirs), Identities: a.workers,
		Metrics: metrics.New("/proc", cgroupRoot), Proxy: a.proxy.Serve, Port: o.port, Token: o.token, OpenProxy: o.openProxy, Log: log,
	}
	if a.jupyter != nil {
		cfg.KernelPort = a.jupyter.LocalPort()
	}
	a.measure(&cfg, env, log)
	a.server = &http.Server{
		Handler:           httpapi.New(cfg),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return a
}

func temporary(env []string) string {
	if tmp, _ := environ.In(env)("TMPDIR"); tmp != "" {
		return tmp
	}
	return "/tmp"
}

// codeContexts returns what runs code. An image without Jupyter is an ordinary one: only those who ask for code hear of it.
func codeContexts(o options, makeDir func(string) (string, error), log *slog.Logger) (*code.Service, *jupyter.Client) {
	cfg := code.Config{MakeDir: makeDir, Missing: noJupyter}
	if o.jupyterURL == "" || o.jupyterToken == "" {
		return code.New(cfg), nil
	}
	client, err := jupyter.New(jupyter.Config{URL: o.jupyterURL, Token: o.jupyterToken})
	if err != nil {
		log.Warn("no code can be run", "error", err)
		cfg.Missing += " (" + jupyterHostVariable + ": " + err.Error() + ")"
		return code.New(cfg), nil
	}
	cfg.Kernels = client
	return code.New(cfg), client
}

// outputDirs lists where command output may go: $TMPDIR or /tmp, else the runtime directory.
func outputDirs(env []string) []string {
	return []string{filepath.Join(temporary(env), "opensandbox-execd"), filepath.Join(RuntimeDir, "opensandbox-execd")}
}

// idle serves, without an entry point, until the listener fails or a signal says stop.
func (a *app) idle(signals <-chan os.Signal) (int, error) {
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGTERM || sig == syscall.SIGINT {
				a.drain()
				return 0, nil
			}
		case err := <-a.failed:
			return 1, err
		}
	}
}

// attend serves until the entry point ends or the listener fails. Signals go to the entry point. With the first SIGTERM the sandbox stops: an
// engine sends it, and kills everything at once when that takes too long. Other signals are messages, whatever the entry point makes of them.
func (a *app) attend(work *pid1.Workload, signals <-chan os.Signal) (int, error) {
	grace := pid1.Grace
	var deadline time.Time
	var late <-chan time.Time
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGPIPE {
				continue
			}
			work.Signal(sig)
			if sig == syscall.SIGTERM && late == nil {
				deadline, late = time.Now().Add(pid1.StopGrace), time.After(pid1.StopGrace)
			}
		case <-late:
			a.log.Warn("the entry point is killed: it goes on after SIGTERM", "waited", pid1.StopGrace)
			work.Kill()
		case <-work.Done():
			a.stop()
			if late != nil {
				grace = max(time.Until(deadline), 0) + pid1.StopRest
			}
			if work.Sweep(grace) {
				a.drain() // Answers to commands that were just ended still have their last event to send.
			}
			return work.ExitCode(), nil
		case err := <-a.failed:
			work.Sweep(grace)
			return 1, err
		}
	}
}

// drain lets open answers finish, for a short time.
func (a *app) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), a.lastWords)
	defer cancel()
	_ = a.server.Shutdown(ctx)
}

func (a *app) close() {
	a.stop()
	a.background.Wait()
	_ = a.server.Close()
	a.serving.Wait()
	a.terminals.Close()
	a.commands.Close()
	a.workers.Close()
	a.code.Close()
	if a.jupyter != nil {
		a.jupyter.Close()
	}
	a.proxy.Close()
}
