package main

import (
	"context"
	"io"

	"opensandbox/libs/lifecycle"
	"opensandbox/libs/process"
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
	shared, err := p.OpenRedis(ctx, sandbox.TopicPlacement, sandbox.TopicDeadline)
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
	intents, closeIntents, err := openIntents(p)
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

// openIntents connects to the list of renew intents. Without renewals on access there is none.
func openIntents(p *process.Process) (scheduler.IntentSource, func(), error) {
	client, key, err := p.OpenRenewIntents()
	if client == nil || err != nil {
		return nil, func() {}, err
	}
	return scheduler.RedisIntents(client, key), func() { _ = client.Close() }, nil
}
