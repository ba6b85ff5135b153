// Package docker is the executor on a Docker engine, version 20.10 or later, over nothing but the engine's API.
//
// It touches only what carries the labels of its installation and node, so that any number of servers, of this kind or another, can share
// an engine.
package docker

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/services/runtime-agent/internal/delivery"
	"opensandbox/services/runtime-agent/internal/docker/hostpath"
)

var (
	_ executor.Executor  = (*Engine)(nil)
	_ executor.Pauser    = (*Engine)(nil)
	_ executor.LogReader = (*Engine)(nil)
	_ executor.Watcher   = (*Engine)(nil)
	_ executor.Describer = (*Engine)(nil)
)

// Config of an engine adapter.
type Config struct {
	// Installation and Node are written on everything and looked for on everything.
	Installation, Node string
	// PublishHost is the IPv4 address that leased ports are bound to.
	PublishHost      string
	DropCapabilities []string
	NoNewPrivileges  bool
	PidsLimit        int64
	// NetworkMode is bridge, host, or the name of a network that the operator has made; empty: bridge.
	NetworkMode string
	// SeccompProfile is the path of a profile in JSON, that JSON itself, "unconfined" or "builtin"; empty: the engine's own. AppArmorProfile is the
	// name of a loaded profile; empty: the engine's own.
	SeccompProfile, AppArmorProfile string
	// SandboxEnv is the environment of all sandboxes, under that of each.
	SandboxEnv map[string]string
	// SandboxBinds are mounted into all sandboxes, as source:target[:mode]. They are the operator's, and not bound by AllowedHostPaths.
	SandboxBinds []string
	// AllowedHostPaths are the directories below which sandboxes may mount paths of the node; none: nothing.
	AllowedHostPaths []string
	// StateDir is the directory of the agent, in which the engine is shown what it shall mount. Empty: there are no volumes but whole ones of the
	// engine.
	StateDir string
	// ClientConfig is the configuration file of Docker's client whose auths are shown to registries where a request has no credentials. It need
	// not exist; empty: there is none.
	ClientConfig string
	// APITimeout bounds each call but pulls and streams.
	APITimeout time.Duration
	// PullTimeout bounds a pull.
	PullTimeout time.Duration
	// Daemon is the execd binary for the sandboxes.
	Daemon delivery.Source
	// Around is put around the transport to the engine; nil: nothing is.
	Around func(http.RoundTripper) http.RoundTripper
	Log    *slog.Logger
}

// Engine drives one Docker engine. Use Open.
type Engine struct {
	cfg    Config
	api    *client.Client
	id     string
	probes *http.Client
	// network is the name of the network that sandboxes join; hardware says whether they are cut off by their hardware addresses.
	network  string
	hardware bool
	// bridge is the index of the interface of the engine's bridge.
	bridge int
	// introduced holds the entries of the neighbour table that we have set, by sandbox.
	introduced sync.Map
	// perEndpoint says that the engine wants the hardware address with the endpoint (API 1.44 and later).
	perEndpoint bool
	pulls       pulls
	// helpers are the programs with credentials that the log has named.
	helpers sync.Map
	// local says that the engine is on this machine, so that container addresses can be reached from here.
	local  bool
	volume string
	// security are the options that every sandbox gets.
	security []string
	pins     *hostpath.Pins
	// claims is held for writing while a volume is removed, and for reading while a container is made that may use it: the engine knows of a
	// use only once the container is there, and of the use of a part never.
	claims sync.RWMutex
	// hostTurn is held while a container is made in host mode.
	hostTurn sync.Mutex
}

// Open connects to the engine that the standard Docker environment names, and prepares what all sandboxes share: the volume with the
// daemon, and the rule or network that keeps them apart.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	api, err := connect(cfg.Around)
	if err != nil {
		return nil, fmt.Errorf("the environment does not describe a Docker engine: %w", err)
	}
	e := &Engine{cfg: cfg, api: api, local: strings.HasPrefix(api.DaemonHost(), "unix://"), probes: newProbes()}
	e.pulls.byImage = map[executor.Image]*pull{}
	e.pins = hostpath.NewPins(filepath.Join(cfg.StateDir, pinDir))
	if err := e.prepare(ctx); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// connect makes a client of the engine that the environment names. It connects with the first call.
func connect(around func(http.RoundTripper) http.RoundTripper) (*client.Client, error) {
	api, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil || around == nil {
		return api, err
	}
	inside := api.HTTPClient()
	inside.Transport = around(inside.Transport)
	return api, client.WithHTTPClient(inside)(api)
}

func (e *Engine) prepare(ctx context.Context) error {
	bounded, cancel := e.bounded(ctx)
	defer cancel()
	info, err := e.api.Info(bounded)
	if err != nil {
		return fmt.Errorf("the Docker engine at %s does not answer; is it running, and may this user reach it? %w", e.api.DaemonHost(), err)
	}
	e.id = info.ID
	e.perEndpoint = versions.GreaterThanOrEqualTo(e.api.ClientVersion(), "1.44")
	if e.security, err = e.securityOptions(ctx, info); err != nil {
		return err
	}
	if err := e.chooseNetwork(ctx); err != nil {
		return err
	}
	if len(e.cfg.AllowedHostPaths) > 0 && !e.local {
		e.cfg.Log.WarnContext(ctx, "host volumes are refused: the paths of storage.allowed_host_paths are on another machine than this process, which could not check them")
	}
	e.volume, err = e.provision(ctx)
	return err
}

// provision brings the daemon to the engine.
func (e *Engine) provision(ctx context.Context) (string, error) {
	return delivery.Provision(ctx, e.api, e.cfg.Daemon, e.cfg.Installation, map[string]string{labelRole: "execd"})
}

// Close frees the connections.
func (e *Engine) Close() {
	e.probes.CloseIdleConnections()
	if err := e.pins.Close(); err != nil {
		e.cfg.Log.Warn("cannot let go of what was to be mounted", "error", err)
	}
	_ = e.api.Close() // closes idle connections only, and cannot fail
}

// EngineID returns the id that the engine keeps with its data.
func (e *Engine) EngineID(context.Context) (string, error) { return e.id, nil }

func (e *Engine) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, e.cfg.APITimeout)
}

// away is the error for an engine that could not be asked.
func away(err error) error {
	return fault.New(fault.Unavailable, "the container engine does not answer").Because(err)
}
