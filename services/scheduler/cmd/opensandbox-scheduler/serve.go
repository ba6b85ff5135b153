package main

import (
	"context"
	"io"

	"github.com/redis/go-redis/v9"

	"opensandbox/libs/lifecycle"
	"opensandbox/libs/process"
	"opensandbox/libs/redisstore"
	"opensandbox/libs/sandbox"
	"opensandbox/libs/settings"
	"opensandbox/libs/storemetrics"
	scheduler "opensandbox/services/scheduler/app"
)

// serve wires the scheduler on the shared store, and runs it until ctx ends.
func serve(ctx context.Context, s settings.Settings, lookup func(string) (string, bool), stderr io.Writer) error {
	p, err := process.Open(ctx, s, process.Options{Name: s.ProcessName(), Version: version, Stderr: stderr, Lookup: lookup})
	if err != nil {
		return err
	}
	defer p.Close(ctx)
	shared, err := p.OpenRedis(ctx)
	if err != nil {
		return err
	}
	defer shared.Close()
	store, err := p.Measure(shared)
	if err != nil {
		return err
	}
	if _, err := storemetrics.NewInventory(shared, shared, p.Registry); err != nil {
		return err
	}
	intents, closeIntents, err := openIntents(s, p.Installation.ID())
	if err != nil {
		return err
	}
	defer closeIntents()
	return run(ctx, p, store, intents)
}

func run(ctx context.Context, p *process.Process, store scheduler.Store, intents scheduler.IntentSource) error {
	s := p.Settings
	d := scheduler.Deps{Store: store, Intents: intents, Registry: p.Registry, Tracers: p.Tracers, Log: p.Log}
	service, err := scheduler.New(scheduler.Config{
		PlacementWait: s.Scheduler.PlacementWait, RetainFailed: s.Server.RetainFailed, DefaultRequest: s.Scheduler.DefaultRequest,
		Ports: []int{sandbox.ExecdPort, sandbox.AppPort}, NodeLostAfter: s.Scheduler.NodeLostAfter,
		RenewIntent: scheduler.RenewIntent{Workers: s.RenewIntent.Queue.Concurrency}, // routers see to the interval
	}, d)
	if err != nil {
		return err
	}
	var g lifecycle.Group
	if err := p.AddAdmin(ctx, &g, service.Ready); err != nil {
		return err
	}
	for _, part := range service.Parts() {
		g.Add(part.Name, part.Run)
	}
	p.Log.InfoContext(ctx, "scheduling", "installation", p.Installation.ID(), "version", version)
	return g.Run(ctx)
}

// openIntents connects to the list of renew intents: the one that is configured, else one in the store's own Redis. Without renewals on access
// there is none.
func openIntents(s settings.Settings, installation string) (scheduler.IntentSource, func() error, error) {
	if !s.RenewIntent.Enabled {
		return nil, func() error { return nil }, nil
	}
	url, key := s.Store.Redis, redisstore.RenewIntentsKey(installation)
	if s.RenewIntent.Queue.Enabled {
		url, key = s.RenewIntent.Queue.Redis, s.RenewIntent.Queue.Key
	}
	var client redis.UniversalClient
	client, err := redisstore.NewClient(redisstore.ClientConfig{
		Mode: redisstore.Mode(url.Mode), Addrs: url.Addrs, MasterName: url.MasterName, User: url.User, Password: url.Password.Reveal(), DB: url.DB, TLS: url.TLS,
		Name: s.ProcessName() + "-intents",
	})
	if err != nil {
		return nil, nil, err
	}
	return scheduler.RedisIntents(client, key), client.Close, nil
}
