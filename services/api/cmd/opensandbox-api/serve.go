package main

import (
	"context"
	"net"
	"os"
	"strconv"
	"time"

	"opensandbox/libs/agentrpc"
	"opensandbox/libs/lifecycle"
	"opensandbox/libs/process"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/settings"
	"opensandbox/services/api/app"
)

// storeTimeout bounds each call of the store, so that clients learn soon that it is away.
const storeTimeout = 2 * time.Second

// serve wires the API by hand, from the ground up, and runs it until ctx ends.
func serve(ctx context.Context, s settings.Settings) error {
	p, err := process.Open(ctx, s, process.Options{Name: s.ProcessName(), Version: version, Stderr: os.Stderr, Lookup: os.LookupEnv})
	if err != nil {
		return err
	}
	defer p.Close(ctx)
	redis, err := p.OpenRedis(ctx, sandbox.RecordTopic(""))
	if err != nil {
		return err
	}
	defer redis.Close()
	store, err := p.Measure(redis)
	if err != nil {
		return err
	}
	agents, err := agentrpc.NewClient(store, s.Internal.SharedSecret.Reveal())
	if err != nil {
		return err
	}
	defer agents.Close()
	renewals, closeRenewals, err := openRenewals(p)
	if err != nil {
		return err
	}
	defer closeRenewals()
	front, err := app.New(ctx, app.Config{
		Address: net.JoinHostPort(s.Server.Host, strconv.Itoa(s.Server.Port)), APIKey: s.Server.APIKey.Reveal(), Version: version,
		PublicHost: app.PublicHost(s.Server.External, s.Server.Host, s.Docker.HostIP), CreateWait: s.Server.CreateWait, MaxTimeout: s.Server.MaxTimeout,
		KeepAlive: s.Server.KeepAlive, Grace: s.Server.Grace, DrainDelay: s.Server.DrainDelay, Backlog: s.Server.Backlog, MaxConcurrency: s.Server.MaxConcurrency,
		Forwarders: s.Server.Forwarders, AllowedRuntimes: s.Docker.AllowedRuntimes, AllowedHostPaths: s.Storage.AllowedHostPaths, StoreTimeout: storeTimeout,
		Proxy: app.ProxyConfig{
			ResolveInternal: s.Proxy.ResolveInternal, Host: app.ProxyHost(s.Server.Host, s.Docker.HostIP), External: s.Server.External,
			RenewInterval: s.RenewIntent.MinInterval,
		},
	}, app.Deps{Store: store, Token: p.Installation.Token, Vault: p.Installation, Live: agents, Renewals: renewals, Registry: p.Registry, Tracers: p.Tracers, Log: p.Log, Access: p.Access})
	if err != nil {
		return err
	}
	defer front.Close()
	var g lifecycle.Group
	if err := p.AddAdmin(ctx, &g, front.Ready); err != nil {
		return err
	}
	g.Add("api", front.Run)
	p.Log.InfoContext(ctx, "serving", "address", front.Addr().String(), "installation", p.Installation.ID(), "version", version)
	return g.Run(ctx)
}

// openRenewals returns where notices go that sandboxes are in use; nil without renewals on access.
func openRenewals(p *process.Process) (app.Publisher, func(), error) {
	client, key, err := p.OpenRenewIntents()
	if client == nil || err != nil {
		return nil, func() {}, err
	}
	return app.RedisPublisher(client, key), func() { _ = client.Close() }, nil // every notice was published or given up before
}
