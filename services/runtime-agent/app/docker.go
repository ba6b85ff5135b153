package app

import (
	"context"
	"log/slog"
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

// OpenDocker connects to the engine that the standard Docker environment names.
func OpenDocker(ctx context.Context, cfg DockerConfig) (Docker, error) {
	daemon, err := delivery.Embedded()
	if cfg.ExecdPath != "" {
		daemon, err = delivery.FromPath(cfg.ExecdPath)
	}
	if err != nil {
		return nil, err
	}
	return docker.Open(ctx, docker.Config{
		Installation: cfg.Installation, Node: cfg.Node, PublishHost: cfg.PublishHost, DropCapabilities: cfg.DropCapabilities,
		NoNewPrivileges: cfg.NoNewPrivileges, PidsLimit: int64(cfg.PidsLimit), APITimeout: cfg.APITimeout, PullTimeout: cfg.PullTimeout,
		Daemon: daemon, Log: cfg.Log,
	})
}
