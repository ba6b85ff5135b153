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
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"

	"opensandbox/libs/executor"
	"opensandbox/libs/fault"
	"opensandbox/services/runtime-agent/internal/delivery"
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
	// APITimeout bounds each call but pulls and streams.
	APITimeout time.Duration
	// PullTimeout bounds a pull.
	PullTimeout time.Duration
	// Daemon is the execd binary for the sandboxes.
	Daemon delivery.Source
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
	// local says that the engine is on this machine, so that container addresses can be reached from here.
	local  bool
	volume string
}

// Open connects to the engine that the standard Docker environment names, and prepares what all sandboxes share: the volume with the
// daemon, and the rule or network that keeps them apart.
func Open(ctx context.Context, cfg Config) (*Engine, error) {
	api, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("the environment does not describe a Docker engine: %w", err)
	}
	e := &Engine{cfg: cfg, api: api, local: strings.HasPrefix(api.DaemonHost(), "unix://"), probes: newProbes()}
	e.pulls.byImage = map[wanted]*pull{}
	if err := e.prepare(ctx); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
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
	if e.volume, err = e.provision(ctx); err != nil {
		return err
	}
	return e.separate(ctx)
}

// provision brings the daemon to the engine.
func (e *Engine) provision(ctx context.Context) (string, error) {
	return delivery.Provision(ctx, e.api, e.cfg.Daemon, e.cfg.Installation, map[string]string{labelRole: "execd"})
}

// Close frees the connections.
func (e *Engine) Close() {
	e.probes.CloseIdleConnections()
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
