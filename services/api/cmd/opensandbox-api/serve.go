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
	front, err := app.New(ctx, app.Config{
		Address: net.JoinHostPort(s.Server.Host, strconv.Itoa(s.Server.Port)), APIKey: s.Server.APIKey.Reveal(), Version: version,
		PublicHost: app.PublicHost(s.Server.External, s.Server.Host, s.Docker.HostIP), CreateWait: s.Server.CreateWait, MaxTimeout: s.Server.MaxTimeout,
		KeepAlive: s.Server.KeepAlive, Grace: s.Server.Grace, DrainDelay: s.Server.DrainDelay, MaxConcurrency: s.Server.MaxConcurrency,
		AllowedRuntimes: s.Docker.AllowedRuntimes, StoreTimeout: storeTimeout,
	}, app.Deps{Store: store, Token: p.Installation.Token, Live: agents, Registry: p.Registry, Tracers: p.Tracers, Log: p.Log})
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
