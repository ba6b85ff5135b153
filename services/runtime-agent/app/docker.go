package app

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"opensandbox/libs/executor"
	"opensandbox/services/runtime-agent/internal/delivery"
	"opensandbox/services/runtime-agent/internal/docker"
)

// DockerConfig describes how sandboxes run on a Docker engine.
type DockerConfig struct {
	// Installation and Node are written on everything that is made.
	Installation, Node string
	// PublishHost is the IPv4 address that leased ports are bound to.
	PublishHost      string
	DropCapabilities []string
	NoNewPrivileges  bool
	PidsLimit        int
	// NetworkMode is bridge, host, or the name of a network that the operator has made; empty: bridge.
	NetworkMode string
	// SeccompProfile is the path of a profile in JSON, that JSON itself, "unconfined" or "builtin"; AppArmorProfile is the name of a loaded profile.
	// Empty: the engine's own.
	SeccompProfile, AppArmorProfile string
	// SandboxEnv and SandboxBinds (source:target[:mode]) are for all sandboxes.
	SandboxEnv   map[string]string
	SandboxBinds []string
	// AllowedHostPaths are the directories of the node below which sandboxes may mount something; none: nothing.
	AllowedHostPaths []string
	// StateDir is that of the agent.
	StateDir string
	// APITimeout bounds each call of the engine, PullTimeout a pull.
	APITimeout, PullTimeout time.Duration
	// ExecdPath is a file with the daemon for the sandboxes; empty takes the one that is built in.
	ExecdPath string
	Log       *slog.Logger
}

// Docker is an executor on a Docker engine.
type Docker interface {
	executor.Executor
	// Close frees the connections to the engine.
	Close()
}

// OpenDocker connects to the engine that the standard Docker environment names. Images that come without credentials are pulled with those of
// its configuration file.
func OpenDocker(ctx context.Context, cfg DockerConfig) (Docker, error) {
	daemon, err := delivery.Embedded()
	if cfg.ExecdPath != "" {
		daemon, err = delivery.FromPath(cfg.ExecdPath)
	}
	if err != nil {
		return nil, err
	}
	engine, err := docker.Open(ctx, docker.Config{
		Installation: cfg.Installation, Node: cfg.Node, PublishHost: cfg.PublishHost, DropCapabilities: cfg.DropCapabilities,
		NoNewPrivileges: cfg.NoNewPrivileges, PidsLimit: int64(cfg.PidsLimit), APITimeout: cfg.APITimeout, PullTimeout: cfg.PullTimeout,
		NetworkMode: cfg.NetworkMode, SeccompProfile: cfg.SeccompProfile, AppArmorProfile: cfg.AppArmorProfile,
		SandboxEnv: cfg.SandboxEnv, SandboxBinds: cfg.SandboxBinds, AllowedHostPaths: cfg.AllowedHostPaths, StateDir: cfg.StateDir,
		Daemon: daemon, Log: cfg.Log, ClientConfig: clientConfig(), Around: aroundTransport(),
	})
	if err != nil {
		return nil, err
	}
	return sabotaged(engine, cfg.StateDir), nil
}

// clientConfig is the configuration file of Docker's client for the user of this process, as that client finds it.
func clientConfig() string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "" // a service without HOME
		}
		dir = filepath.Join(home, ".docker")
	}
	return filepath.Join(dir, "config.json")
}
