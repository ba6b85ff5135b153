package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"opensandbox/libs/httpx"
	"opensandbox/libs/installation"
	"opensandbox/libs/lifecycle"
	"opensandbox/libs/settings"
	"opensandbox/libs/sqlitestore"
	"opensandbox/libs/telemetry"
	api "opensandbox/services/api/app"
	agent "opensandbox/services/runtime-agent/app"
	scheduler "opensandbox/services/scheduler/app"
)

// serve wires the parts by hand, from the ground up, and runs them until ctx ends.
func serve(ctx context.Context, path string, lookup func(string) (string, bool), stderr io.Writer) error {
	s, warnings, err := settings.Load(path, lookup)
	if err != nil {
		return err
	}
	log, err := telemetry.Logger(stderr, s.Log.Level, s.Log.Format, httpx.RequestID)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		log.WarnContext(ctx, w)
	}
	if err := settings.Guard(s, lookup); err != nil {
		return err
	}
	inst, err := installation.Open(filepath.Dir(s.Store.Path), s.Store.Path, s.Server.Installation)
	if err != nil {
		return err
	}
	store, err := sqlitestore.Open(ctx, s.Store.Path)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.BindInstallation(ctx, inst.ID()); err != nil {
		return err
	}
	engine, err := agent.OpenDocker(ctx, agent.DockerConfig{
		Installation: inst.ID(), Node: s.Agent.Node, PublishHost: s.Docker.PublishHost, DropCapabilities: s.Docker.DropCapabilities,
		NoNewPrivileges: s.Docker.NoNewPrivileges, PidsLimit: s.Docker.PidsLimit, APITimeout: s.Docker.APITimeout,
		PullTimeout: s.Docker.PullTimeout, ExecdPath: s.Agent.ExecdPath, Log: log,
	})
	if err != nil {
		return err
	}
	defer engine.Close()
	return runAll(ctx, s, inst, store, engine, log)
}

// runAll starts the three services on one store and runs them together. The api comes last and goes first.
func runAll(ctx context.Context, s settings.Settings, inst installation.Installation, store *sqlitestore.Store, engine agent.Docker, log *slog.Logger) error {
	registry := telemetry.Registry()
	node, err := agent.Start(ctx, agent.Config{
		Node: s.Agent.Node, StateDir: s.Agent.StateDir, MaxSandboxes: s.Scheduler.MaxSandboxes, PortMin: s.Docker.PortMin, PortMax: s.Docker.PortMax,
		Concurrency: s.Docker.MaxConcurrency, RetainFailed: s.Server.RetainFailed,
	}, agent.Deps{Store: store, Executor: engine, Token: inst.Token, Log: log})
	if err != nil {
		return err
	}
	defer node.Close()
	front, err := api.New(ctx, api.Config{
		Address: net.JoinHostPort(s.Server.Host, strconv.Itoa(s.Server.Port)), APIKey: s.Server.APIKey.Reveal(), Version: version,
		PublicHost: api.PublicHost(s.Server.External, s.Server.Host, s.Docker.HostIP), CreateWait: s.Server.CreateWait, MaxTimeout: s.Server.MaxTimeout,
		KeepAlive: s.Server.KeepAlive, Grace: s.Server.Grace, MaxConcurrency: s.Server.MaxConcurrency,
	}, api.Deps{Store: store, Token: inst.Token, Registry: registry, Log: log})
	if err != nil {
		return err
	}
	defer front.Close()
	var g lifecycle.Group
	for _, p := range node.Parts() {
		g.Add(p.Name, p.Run)
	}
	for _, p := range scheduler.Parts(scheduler.Config{
		PlacementWait: s.Scheduler.PlacementWait, RetainFailed: s.Server.RetainFailed, DefaultRequest: s.Scheduler.DefaultRequest,
		Ports: []int{api.ExecdPort, api.AppPort},
	}, scheduler.Deps{Store: store, Log: log}) {
		g.Add(p.Name, p.Run)
	}
	if err := addAdmin(ctx, &g, s, registry, node, log); err != nil {
		return err
	}
	g.Add("api", front.Run)
	log.InfoContext(ctx, "serving", "address", front.Addr().String(), "node", s.Agent.Node, "installation", inst.ID(), "version", version)
	return g.Run(ctx)
}

// addAdmin serves metrics and readiness. If the default port is taken, as it is beside another server, a free one does.
func addAdmin(ctx context.Context, g *lifecycle.Group, s settings.Settings, registry *prometheus.Registry, node *agent.Agent, log *slog.Logger) error {
	if s.Server.AdminListen == "" {
		return nil
	}
	cfg := httpx.Config{Address: s.Server.AdminListen, KeepAlive: s.Server.KeepAlive, Grace: time.Second}
	admin, err := httpx.Listen(ctx, cfg)
	if errors.Is(err, syscall.EADDRINUSE) && s.Server.AdminListen == settings.DefaultAdminListen {
		cfg.Address = "127.0.0.1:0"
		if admin, err = httpx.Listen(ctx, cfg); err == nil {
			log.WarnContext(ctx, "the default admin port is taken; using another", "taken", s.Server.AdminListen, "address", admin.Addr().String())
		}
	}
	if err != nil {
		return fmt.Errorf("server.admin_listen: %w", err)
	}
	handler := telemetry.Admin(registry, func() error {
		if node.EngineAway() {
			return errors.New("the container engine does not answer")
		}
		return nil
	})
	g.Add("admin", func(ctx context.Context) error { return admin.Run(ctx, handler) })
	return nil
}
