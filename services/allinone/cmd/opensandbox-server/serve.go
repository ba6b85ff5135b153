package main

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"opensandbox/libs/lifecycle"
	"opensandbox/libs/process"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/settings"
	"opensandbox/libs/sqlitestore"
	"opensandbox/libs/storemetrics"
	api "opensandbox/services/api/app"
	router "opensandbox/services/ingress-router/app"
	agent "opensandbox/services/runtime-agent/app"
	scheduler "opensandbox/services/scheduler/app"
)

// serve wires the parts by hand, from the ground up, and runs them until ctx ends.
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
	raw, closeStore, err := openStore(ctx, p, engine)
	if err != nil {
		return err
	}
	defer closeStore()
	store, err := p.Measure(raw)
	if err != nil {
		return err
	}
	if _, err := storemetrics.NewInventory(raw, raw, p.Registry); err != nil {
		return err
	}
	return runAll(ctx, p, store, engine)
}

// countingStore is what the single binary needs of either store.
type countingStore interface {
	storemetrics.Both
	storemetrics.Counter
}

// openStore opens the store of store.type: a file that belongs to this process alone, or a Redis that others may share. While it waits for
// that, what runs on the engine is stopped if it takes too long.
func openStore(ctx context.Context, p *process.Process, engine agent.Docker) (countingStore, func(), error) {
	if s := p.Settings; shared(s) {
		var store *redisstore.Store
		cfg := agent.Config{Node: s.Agent.Node, StateDir: s.Agent.StateDir, NodeLostAfter: nodeLostAfter(s)}
		err := agent.WhileAway(ctx, cfg, agent.Deps{Executor: engine, Log: p.Log}, func(ctx context.Context) (err error) {
			store, err = p.OpenRedis(ctx, sandbox.RecordTopic(""), sandbox.TopicPlacement, sandbox.TopicDeadline, sandbox.TopicRollCall,
				sandbox.WorkTopic(s.Agent.Node))
			return err
		})
		if err != nil {
			return nil, nil, err
		}
		return store, func() { _ = store.Close() }, nil
	}
	store, err := sqlitestore.Open(ctx, p.Settings.Store.Path)
	if err != nil {
		return nil, nil, err
	}
	if err := store.BindInstallation(ctx, p.Installation.ID()); err != nil {
		_ = store.Close()
		return nil, nil, err
	}
	return store, func() { _ = store.Close() }, nil
}

// shared says whether the store may have other processes.
func shared(s settings.Settings) bool { return s.Store.Type == settings.StoreRedis }

// nodeLostAfter is 0 for the only node of a store that is in this process: nobody else could give its sandboxes up.
func nodeLostAfter(s settings.Settings) time.Duration {
	if shared(s) {
		return s.Scheduler.NodeLostAfter
	}
	return 0
}

// runAll starts the services on one store and runs them together. The api comes last and goes first.
func runAll(ctx context.Context, p *process.Process, store storemetrics.Store, engine agent.Docker) error {
	s := p.Settings
	node, err := agent.Start(ctx, agent.Config{
		Node: s.Agent.Node, StateDir: s.Agent.StateDir, Labels: s.Agent.Labels, Capacity: s.Agent.Capacity, MaxSandboxes: s.Agent.MaxSandboxes,
		Host: s.Agent.Host, PortMin: s.Docker.PortMin, PortMax: s.Docker.PortMax, Concurrency: s.Docker.MaxConcurrency, RetainFailed: s.Server.RetainFailed,
		NodeLostAfter: nodeLostAfter(s),
	}, agent.Deps{Store: store, Executor: engine, Token: p.Installation.Token, Unseal: p.Installation.Unseal, Registry: p.Registry, Tracers: p.Tracers, Log: p.Log})
	if err != nil {
		return err
	}
	defer node.Close()
	uses, err := openRenewals(p)
	if err != nil {
		return err
	}
	defer uses.close()
	front, err := api.New(ctx, api.Config{
		Address: net.JoinHostPort(s.Server.Host, strconv.Itoa(s.Server.Port)), APIKey: s.Server.APIKey.Reveal(), Version: version,
		PublicHost: api.PublicHost(s.Server.External, s.Server.Host, s.Docker.HostIP), CreateWait: s.Server.CreateWait, MaxTimeout: s.Server.MaxTimeout,
		KeepAlive: s.Server.KeepAlive, Grace: s.Server.Grace, DrainDelay: s.Server.DrainDelay, Backlog: s.Server.Backlog, MaxConcurrency: s.Server.MaxConcurrency,
		Forwarders: s.Server.Forwarders, AllowedRuntimes: s.Docker.AllowedRuntimes,
		AllowedHostPaths: s.Storage.AllowedHostPaths,
		Proxy: api.ProxyConfig{
			ResolveInternal: s.Proxy.ResolveInternal, LocalNode: s.Agent.Node, Host: api.ProxyHost(s.Server.Host, s.Docker.HostIP),
			External: s.Server.External, RenewInterval: s.RenewIntent.MinInterval,
		},
	}, api.Deps{Renewals: uses.publisher, Store: store, Token: p.Installation.Token, Vault: p.Installation, Live: node.Live(), Registry: p.Registry, Tracers: p.Tracers, Log: p.Log, Access: p.Access})
	if err != nil {
		return err
	}
	defer front.Close()
	var g lifecycle.Group
	for _, part := range node.Parts() {
		g.Add(part.Name, part.Run)
	}
	if err := addScheduler(&g, p, store, uses.source); err != nil {
		return err
	}
	traffic, err := openRouter(ctx, p, store, uses.publisher)
	if err != nil {
		return err
	}
	defer traffic.Close()
	for _, part := range traffic.Parts() {
		g.Add(part.Name, part.Run)
	}
	if err := p.AddAdmin(ctx, &g, func() error {
		if node.EngineAway() {
			return errors.New("the container engine does not answer")
		}
		return front.Ready()
	}); err != nil {
		return err
	}
	g.Add("api", front.Run)
	p.Log.InfoContext(ctx, "serving", "address", front.Addr().String(), "router", traffic.Addr().String(), "node", s.Agent.Node,
		"installation", p.Installation.ID(), "version", version)
	return g.Run(ctx)
}

// renewals is how the router tells the scheduler that sandboxes are in use.
type renewals struct {
	source    scheduler.IntentSource
	publisher router.Publisher
	close     func()
}

// openRenewals returns the list that is configured, which other gateways may write too, else a queue within this process; nothing without
// renewals on access.
func openRenewals(p *process.Process) (renewals, error) {
	none := renewals{close: func() {}}
	if !p.Settings.RenewIntent.Enabled {
		return none, nil
	}
	if !p.Settings.RenewIntent.Queue.Enabled {
		queue := scheduler.NewIntentQueue()
		return renewals{source: queue, publisher: queue, close: func() {}}, nil
	}
	client, key, err := p.OpenRenewIntents()
	if err != nil {
		return none, err
	}
	return renewals{source: scheduler.RedisIntents(client, key), publisher: router.RedisPublisher(client, key), close: func() { _ = client.Close() }}, nil
}

func addScheduler(g *lifecycle.Group, p *process.Process, store storemetrics.Store, intents scheduler.IntentSource) error {
	s := p.Settings
	service, err := scheduler.New(scheduler.Config{
		PlacementWait: s.Scheduler.PlacementWait, RetainFailed: s.Server.RetainFailed, DefaultRequest: s.Scheduler.DefaultRequest,
		Ports: []int{sandbox.ExecdPort, sandbox.AppPort}, NodeLostAfter: nodeLostAfter(s),
		RenewIntent: scheduler.RenewIntent{Workers: s.RenewIntent.Queue.Concurrency, MinInterval: s.RenewIntent.MinInterval},
	}, scheduler.Deps{Store: store, Intents: intents, Registry: p.Registry, Tracers: p.Tracers, Log: p.Log})
	if err != nil {
		return err
	}
	for _, part := range service.Parts() {
		g.Add(part.Name, part.Run)
	}
	return nil
}

// openRouter takes the router's address. If the default one is taken, as it is beside another server, a free one is used.
func openRouter(ctx context.Context, p *process.Process, store storemetrics.Store, uses router.Publisher) (*router.Router, error) {
	s := p.Settings
	cfg := router.Config{Address: s.Router.Listen, KeepAlive: s.Server.KeepAlive, Grace: s.Server.Grace, DrainDelay: s.Server.DrainDelay, Backlog: s.Server.Backlog, RenewInterval: s.RenewIntent.MinInterval}
	d := router.Deps{Queries: store, Hints: store, Nodes: store, Renewals: uses, Registry: p.Registry, Tracers: p.Tracers, Log: p.Log}
	front, err := router.New(ctx, cfg, d)
	if errors.Is(err, syscall.EADDRINUSE) && s.Origin("router.listen") == "default" {
		host, _, splitErr := net.SplitHostPort(cfg.Address)
		if splitErr != nil {
			return nil, splitErr
		}
		cfg.Address = net.JoinHostPort(host, "0")
		if front, err = router.New(ctx, cfg, d); err == nil {
			p.Log.WarnContext(ctx, "the router's default port is taken; using another", "taken", s.Router.Listen, "address", front.Addr().String())
		}
	}
	return front, err
}
