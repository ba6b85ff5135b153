package main

import (
	"context"
	"fmt"
	"os"

	"opensandbox/libs/agentrpc"
	"opensandbox/libs/httpx"
	"opensandbox/libs/lifecycle"
	"opensandbox/libs/process"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/settings"
	agent "opensandbox/services/runtime-agent/app"
)

// serve wires the agent on the shared store and on its engine, and runs it until ctx ends.
func serve(ctx context.Context, s settings.Settings) error {
	p, err := process.Open(ctx, s, process.Options{Name: s.ProcessName(), Version: version, Stderr: os.Stderr, Lookup: os.LookupEnv})
	if err != nil {
		return err
	}
	defer p.Close(ctx)
	engine, err := agent.OpenDocker(ctx, agent.DockerConfig{
		Installation: p.Installation.ID(), Node: s.Agent.Node, PublishHost: s.Docker.PublishHost, DropCapabilities: s.Docker.DropCapabilities,
		NoNewPrivileges: s.Docker.NoNewPrivileges, PidsLimit: s.Docker.PidsLimit, APITimeout: s.Docker.APITimeout,
		PullTimeout: s.Docker.PullTimeout, ExecdPath: s.Agent.ExecdPath, Log: p.Log, NetworkMode: s.Docker.NetworkMode,
		SeccompProfile: s.Docker.SeccompProfile, AppArmorProfile: s.Docker.AppArmorProfile, SandboxEnv: s.Docker.SandboxEnv,
		SandboxBinds: s.Docker.SandboxBinds, AllowedHostPaths: s.Storage.AllowedHostPaths, StateDir: s.Agent.StateDir,
	})
	if err != nil {
		return err
	}
	defer engine.Close()
	shared, err := openStore(ctx, p, engine)
	if err != nil {
		return err
	}
	defer shared.Close()
	store, err := p.Measure(shared)
	if err != nil {
		return err
	}
	return run(ctx, p, store, engine)
}

// openStore waits for the store. What runs on the engine is stopped meanwhile, if that takes too long.
func openStore(ctx context.Context, p *process.Process, engine agent.Docker) (store *redisstore.Store, err error) {
	s := p.Settings
	cfg := agent.Config{Node: s.Agent.Node, StateDir: s.Agent.StateDir, NodeLostAfter: s.Scheduler.NodeLostAfter}
	err = agent.WhileAway(ctx, cfg, agent.Deps{Executor: engine, Log: p.Log}, func(ctx context.Context) (err error) {
		store, err = p.OpenRedis(ctx, sandbox.WorkTopic(s.Agent.Node), sandbox.TopicRollCall)
		return err
	})
	return store, err
}

// run registers the node, once it is known where the agent listens, and runs all parts together.
func run(ctx context.Context, p *process.Process, store agent.Store, engine agent.Docker) error {
	s := p.Settings
	host, err := publicHost(ctx, s, engine)
	if err != nil {
		return err
	}
	listener, err := httpx.Listen(ctx, httpx.Config{Address: s.Agent.Listen, KeepAlive: s.Server.KeepAlive, Grace: s.Server.Grace, Backlog: s.Server.Backlog})
	if err != nil {
		return fmt.Errorf("agent.listen: %w", err)
	}
	defer listener.Close()
	address := internalAddress(listener.Addr(), host)
	node, err := agent.Start(ctx, agent.Config{
		Node: s.Agent.Node, StateDir: s.Agent.StateDir, Host: host, Address: address, Labels: s.Agent.Labels, Capacity: s.Agent.Capacity,
		MaxSandboxes: s.Agent.MaxSandboxes, PortMin: s.Docker.PortMin, PortMax: s.Docker.PortMax, Concurrency: s.Docker.MaxConcurrency,
		RetainFailed: s.Server.RetainFailed, NodeLostAfter: s.Scheduler.NodeLostAfter,
	}, agent.Deps{Store: store, Executor: engine, Token: p.Installation.Token, Unseal: p.Installation.Unseal, Registry: p.Registry, Tracers: p.Tracers, Log: p.Log})
	if err != nil {
		return err
	}
	defer node.Close()
	live, err := agentrpc.NewHandler(agentrpc.ServerConfig{
		Node: s.Agent.Node, Secret: s.Internal.SharedSecret.Reveal(), Registry: p.Registry, Tracers: p.Tracers, Log: p.Log,
	}, node.Live())
	if err != nil {
		return err
	}
	defer live.Close()
	var g lifecycle.Group
	if err := p.AddAdmin(ctx, &g, node.Ready); err != nil {
		return err
	}
	for _, part := range node.Parts() {
		g.Add(part.Name, part.Run)
	}
	g.Add("agent api", func(ctx context.Context) error { return listener.Run(ctx, live) })
	p.Log.InfoContext(ctx, "driving the container engine", "node", s.Agent.Node, "host", host, "address", address,
		"installation", p.Installation.ID(), "version", version)
	return g.Run(ctx)
}
